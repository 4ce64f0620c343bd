"""The parts of an expression: a test, and which texts a name must have for it to hold. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Final

from pbscast_fanout.expressions.patterns import compile_pattern, is_plain
from pbscast_fanout.expressions.quantities import LONGEST, Amount

Lookup = Callable[[str], str | None]
"""The value of a name, None where there is none."""

Test = Callable[[Lookup], bool]
Required = Mapping[str, frozenset[str]]
Reader = Callable[[str], Amount | None]

_ORDERS: Final[dict[str, Callable[[Amount, Amount], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Part:
    """One term, or several joined."""

    test: Test
    if_true: Required = field(default_factory=dict)
    """Names that have one of these texts wherever the part holds."""
    if_false: Required = field(default_factory=dict)
    """The same wherever it does not hold."""


def exists(name: str) -> Part:
    """Say that the name has a value, be it empty."""
    return Part(lambda lookup: lookup(name) is not None)


def is_text(name: str, texts: frozenset[str], *, wanted: bool) -> Part:
    """Say that its text is one of these, or none of them if that is wanted."""
    if not wanted:
        return Part(_differs(name, texts))
    if len(texts) == 1:
        (text,) = texts
        return Part(lambda lookup: lookup(name) == text, {name: texts})
    return Part(lambda lookup: lookup(name) in texts, {name: texts})


def _differs(name: str, texts: frozenset[str]) -> Test:
    def test(lookup: Lookup) -> bool:
        value = lookup(name)
        return value is not None and value not in texts

    return test


def is_amount(name: str, read: Reader, amounts: frozenset[Amount], *, wanted: bool) -> Part:
    """Say that it is an amount and one of these, or none of them if that is wanted."""

    def test(lookup: Lookup) -> bool:
        value = lookup(name)
        if value is None or len(value) > LONGEST:
            return False
        found = read(value)
        return found is not None and (found in amounts) is wanted

    return Part(test)


def compares(name: str, sign: str, read: Reader, amount: Amount) -> Part:
    """Say that it is an amount, and in this order to the other."""
    order = _ORDERS[sign]

    def test(lookup: Lookup) -> bool:
        value = lookup(name)
        if value is None or len(value) > LONGEST:
            return False
        found = read(value)
        return found is not None and order(found, amount)

    return Part(test)


def matches(name: str, pattern: str, *, wanted: bool) -> Part:
    """Say that its text matches, or that it does not if that is wanted."""
    if is_plain(pattern):
        return is_text(name, frozenset({pattern}), wanted=wanted)
    verdict = compile_pattern(pattern)

    def test(lookup: Lookup) -> bool:
        value = lookup(name)
        return value is not None and verdict(value) is wanted

    return Part(test)


def negate(part: Part) -> Part:
    """The part must not hold."""
    test = part.test
    return Part(lambda lookup: not test(lookup), part.if_false, part.if_true)


def join_all(parts: Sequence[Part]) -> Part:
    """Every part must hold."""
    tests = tuple(part.test for part in parts)

    def test(lookup: Lookup) -> bool:
        for holds in tests:  # noqa: SIM110 - twice as quick as all() of a generator
            if not holds(lookup):
                return False
        return True

    if_false = reduce(_either, (part.if_false for part in parts))
    return Part(test, reduce(_both, (part.if_true for part in parts)), if_false)


def join_any(parts: Sequence[Part]) -> Part:
    """One part must hold: not all of them fail."""
    tests = tuple(part.test for part in parts)

    def test(lookup: Lookup) -> bool:
        for holds in tests:  # noqa: SIM110 - twice as quick as any() of a generator
            if holds(lookup):
                return True
        return False

    if_false = reduce(_both, (part.if_false for part in parts))
    return Part(test, reduce(_either, (part.if_true for part in parts)), if_false)


def _both(one: Required, other: Required) -> Required:
    return {
        **one,
        **other,
        **{name: one[name] & other[name] for name in one.keys() & other.keys()},
    }


def _either(one: Required, other: Required) -> Required:
    return {name: one[name] | other[name] for name in one.keys() & other.keys()}
