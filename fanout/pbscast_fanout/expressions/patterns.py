"""Patterns in which ``*`` stands for any text and ``?`` for one character. Pure.

Every star takes the first place that fits the piece after it and never tries another: nothing
backtracks, so the work is bounded by the value's length times the piece's, and without ``?``, where
pieces are found as they are, by the value's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

LONGEST_FOR_ANY_CHARACTER: Final = 4096
"""Characters of a value beyond which a pattern that holds ``?`` cannot be told."""

Verdict = Callable[[str], bool | None]
"""Whether a value matches; None where that cannot be told."""


def is_plain(pattern: str) -> bool:
    """Whether the pattern matches itself alone."""
    return "*" not in pattern and "?" not in pattern


def compile_pattern(pattern: str) -> Verdict:
    """Return the matcher of whole values for a pattern that is not plain."""
    first, *rest = pattern.split("*")
    if "?" in pattern:
        return _by_characters(first, rest)
    return _by_pieces(first, rest[:-1], rest[-1])


def _by_pieces(first: str, inner: list[str], last: str) -> Verdict:
    pieces = [piece for piece in inner if piece]
    shortest = len(first) + len(last)

    def verdict(value: str) -> bool:
        if len(value) < shortest or not (value.startswith(first) and value.endswith(last)):
            return False
        position, end = len(first), len(value) - len(last)
        for piece in pieces:
            found = value.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return verdict


def _by_characters(first: str, rest: list[str]) -> Verdict:
    pieces = [f"(?>.*?{_escape(piece)})" for piece in rest[:-1] if piece]
    last = ".*" + _escape(rest[-1]) if rest else ""
    matches = re.compile(_escape(first) + "".join(pieces) + last, re.DOTALL).fullmatch

    def verdict(value: str) -> bool | None:
        return None if len(value) > LONGEST_FOR_ANY_CHARACTER else matches(value) is not None

    return verdict


def _escape(piece: str) -> str:
    return ".".join(map(re.escape, piece.split("?")))
