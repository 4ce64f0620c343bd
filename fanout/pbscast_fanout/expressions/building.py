"""From a tree to one part, within the limits. Pure."""

from __future__ import annotations

import re
from typing import Final

from lark import Token, Tree

from pbscast.errors import UsageError
from pbscast_fanout.expressions.parts import (
    Part,
    Reader,
    compares,
    exists,
    is_amount,
    is_text,
    join_all,
    join_any,
    matches,
    negate,
)
from pbscast_fanout.expressions.quantities import (
    FALSE,
    TRUE,
    Amount,
    read_duration,
    read_number,
    read_size,
)
from pbscast_fanout.expressions.syntax import fault, show

MOST_TERMS: Final = 256
"""Values and existence tests."""

DEEPEST: Final = 32
"""Levels of ``and``, ``or`` and ``not`` inside one another."""

_READERS: Final[dict[str, Reader]] = {
    "NUMBER": read_number,
    "SIZE": read_size,
    "DURATION": read_duration,
}
_LITERALS: Final = frozenset({"TEXT", "TRUTH", *_READERS})
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class Builder:
    """Builds the parts of one tree."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._terms = 0

    def build(self, tree: Tree[Token], depth: int = 0) -> Part:
        """Raise UsageError for a tree beyond the limits."""
        if depth > DEEPEST:
            raise _fault(_first(tree), f"stands more than {DEEPEST} levels deep")
        parts = [self.build(child, depth + 1) for child in tree.children if isinstance(child, Tree)]
        tokens = [child for child in tree.children if isinstance(child, Token)]
        match str(tree.data):
            case "any":
                return join_any(parts)
            case "all":
                return join_all(parts)
            case "negation":
                return negate(*parts)
            case rule:
                return self._term(rule, tokens)

    def _term(self, rule: str, tokens: list[Token]) -> Part:
        by_type = {token.type: token for token in tokens}
        name = str(by_type["NAME"])
        self.names.add(name)
        literals = [token for token in tokens if token.type in _LITERALS]
        self._count(literals or tokens[:1])
        wanted = "NOT" not in by_type and by_type.get("EQUALITY") != "!="
        match rule:
            case "existence":
                return exists(name)
            case "order":
                return compares(name, by_type["ORDER"], _reader(literals[0]), _amount(literals[0]))
            case "match":
                return matches(name, _text(literals[0]), wanted=wanted)
            case _:
                return _equality(name, literals, wanted=wanted)

    def _count(self, terms: list[Token]) -> None:
        self._terms += len(terms)
        if self._terms > MOST_TERMS:
            raise _fault(
                terms[MOST_TERMS - self._terms], f"is one term too many (at most {MOST_TERMS})"
            )


def _equality(name: str, literals: list[Token], *, wanted: bool) -> Part:
    """Equal to one of the literals, or unequal to each: every one compared as its kind."""
    parts: list[Part] = []
    if texts := frozenset(_text(token) for token in literals if token.type == "TEXT"):
        parts.append(is_text(name, texts, wanted=wanted))
    # What PBS reads as neither is unequal to neither, so unequal to one is equal to the other.
    truths = {token.lower() == "true" for token in literals if token.type == "TRUTH"}
    parts += (is_text(name, TRUE if truth is wanted else FALSE, wanted=True) for truth in truths)
    for kind, read in _READERS.items():
        tokens = [token for token in literals if token.type == kind]
        if tokens:
            parts.append(is_amount(name, read, frozenset(map(_amount, tokens)), wanted=wanted))
    if len(parts) == 1:
        return parts[0]
    return join_any(parts) if wanted else join_all(parts)


def _text(token: Token) -> str:
    return _ESCAPE.sub(r"\1", token[1:-1])


def _reader(token: Token) -> Reader:
    return _READERS[token.type]


def _amount(token: Token) -> Amount:
    amount = _reader(token)(str(token))
    assert amount is not None, "the grammar lets pass what the readers read"  # noqa: S101
    return amount


def _first(tree: Tree[Token]) -> Token:
    child: Tree[Token] | Token = tree
    while isinstance(child, Tree):
        child = child.children[0]
    return child


def _fault(token: Token, reason: str) -> UsageError:
    return fault(token.start_pos or 0, f"{show(str(token))} {reason}")
