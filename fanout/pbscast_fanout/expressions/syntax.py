"""From a text to its tree by ``grammar.lark``; what is wrong with it, where, in one line. Pure."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

from lark import Lark, Token, Tree, UnexpectedInput, UnexpectedToken

from pbscast.errors import UsageError

MOST_CHARACTERS: Final = 4096

_EXPECTED: Final = {
    "NAME": "a name",
    "EXISTS": "'exists'",
    "EQUALITY": "'==', '!='",
    "ORDER": "'<', '<=', '>', '>='",
    "NOT": "'not'",
    "IN": "'in'",
    "MATCHES": "'matches'",
    "TEXT": "a text in quotes",
    "TRUTH": "True, False",
    "NUMBER": "a number",
    "SIZE": "a size",
    "DURATION": "a duration",
    "AND": "'and'",
    "OR": "'or'",
    "LPAR": "'('",
    "COMMA": "a comma",
    "RPAR": "')'",
    "$END": "the end",
}
_WORD: Final = re.compile(r"""[\w.:+-]+|[=<>!&|]+|.""", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*")
_LONGEST_SHOWN: Final = 40


def parse(text: str) -> Tree[Token]:
    """Return the tree of the grammar's rules. Raises UsageError."""
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"expression: {len(text)} characters (at most {MOST_CHARACTERS}; "
            "list many values as a criterion of the subscription)"
        )
    parser: Any = _parser().parse_interactive(text)
    try:
        tree: Tree[Token] = parser.resume_parse()
    except UnexpectedInput as error:
        raise _refusal(error, text, parser.accepts()) from error
    return tree


def fault(position: int, reason: str) -> UsageError:
    """Return the error of what stands at the position, counted from 0."""
    return UsageError(f"expression, column {position + 1}: {reason}")


def show(text: str) -> str:
    """Return a piece of an expression fit for one line of a message."""
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…")


@cache
def _parser() -> Lark:
    grammar = files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8")
    # The basic lexer: a word of the grammar is never a name, wherever it stands.
    return Lark(grammar, parser="lalr", lexer="basic", maybe_placeholders=False)


def _refusal(error: Any, text: str, accepted: set[str]) -> UsageError:
    position: int = error.pos_in_stream
    found = ""
    if isinstance(error, UnexpectedToken):
        found = str(error.token)
        position = position if found else len(text)
    elif word := _WORD.match(text, position):
        found = word.group()
    if found in {"'", '"'}:
        return fault(position, "a text without its closing quote")
    *most, last = (what for kind, what in _EXPECTED.items() if kind in accepted)
    expected = f"{', '.join(most)} or {last}" if most else last
    hint = " (texts stand in quotes)" if "TEXT" in accepted and _NAME.fullmatch(found) else ""
    return fault(
        position, f"{show(found) if found else 'the end'} where {expected} should stand{hint}"
    )
