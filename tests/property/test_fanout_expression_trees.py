"""Any expression, however written, means what a plain reading of its tree says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pbscast.errors import UsageError
from pbscast_fanout.expressions import compile_expression

Values = dict[str, str]

NAMES = st.sampled_from(["state", "queue", "Exit_status", "Resource_List.mem", "a-b.c_d", "notes"])
LETTERS = st.text("aab*?\\\"' é\n", max_size=6)
DIGITS = st.sampled_from(["0", "1", "5", "05", "60", "61", "1024", "8", "4096"])
UNITS = st.sampled_from(["b", "w", "k", "kb", "KW", "m", "Mb", "g", "tw", "pb"])
NUMBERS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    DIGITS,
    st.sampled_from(["", ".0", ".5", ".25"]),
)
SIZES = st.builds("{}{}".format, DIGITS, UNITS)
DURATIONS = st.builds(
    "{}{}".format,
    st.lists(DIGITS, min_size=2, max_size=3).map(":".join),
    st.sampled_from(["", ".5", ".25", ".2509"]),
)
TRUTHS = st.sampled_from(["True", "False", "true", "false"])
STORED = (
    LETTERS | NUMBERS | SIZES | DURATIONS | TRUTHS | st.sampled_from(["t", "N", "-", "5.", "1:"])
)
VALUES = st.dictionaries(NAMES, STORED)


@dataclass(frozen=True)
class Literal:
    kind: str
    text: str

    def write(self, random: Random) -> str:
        if self.kind != "text":
            return self.text
        quote = random.choice("'\"")
        return quote + re.sub(rf"[\\{quote}]", lambda found: "\\" + found[0], self.text) + quote

    def read(self, value: str) -> Fraction | str | bool | None:
        """The value as this kind of literal; None where it is none."""
        if self.kind == "text":
            return value
        if self.kind == "truth":
            return {"t": True, "y": True, "1": True, "f": False, "n": False, "0": False}.get(
                value[:1].lower()
                if value in {*"tTyYfFnN01"} or value.lower() in {"true", "false"}
                else ""
            )
        forms = {"number": (number, duration, size), "size": (size,), "duration": (duration,)}
        found = (form(value) for form in forms[self.kind])
        return next((amount for amount in found if amount is not None), None)


def number(value: str) -> Fraction | None:
    return (
        Fraction(value.rstrip(".")) if re.fullmatch(r"[-+]?\d+(\.\d*)?", value, re.ASCII) else None
    )


def size(value: str) -> Fraction | None:
    found = re.fullmatch(r"(\d+)([kmgtp]?)([bw]?)", value.lower(), re.ASCII)
    if not found:
        return None
    digits, scale, unit = found.groups()
    return Fraction(int(digits) * 1024 ** " kmgtp".index(scale or " ") * (8 if unit == "w" else 1))


def duration(value: str) -> Fraction | None:
    found = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+)(?:\.(\d+))?", value, re.ASCII)
    if not found:
        return None
    hours, minutes, seconds, fraction = (text or "0" for text in found.groups())
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + Fraction(int((fraction + "00")[:3]), 1000)


@dataclass(frozen=True)
class Comparison:
    name: str
    sign: str
    literal: Literal

    def write(self, random: Random) -> str:
        return space(random).join([self.name, self.sign, self.literal.write(random)])

    def holds(self, values: Values) -> bool:
        if self.name not in values:
            return False
        value = self.literal.read(values[self.name])
        other = self.literal.read(self.literal.text)
        if value is None:
            return False
        if self.sign in {"==", "!="}:
            return (value == other) is (self.sign == "==")
        assert isinstance(value, Fraction)
        assert isinstance(other, Fraction)
        return {
            "<": value < other,
            "<=": value <= other,
            ">": value > other,
            ">=": value >= other,
        }[self.sign]


@dataclass(frozen=True)
class Membership:
    name: str
    literals: list[Literal]
    wanted: bool

    def write(self, random: Random) -> str:
        listed = (space(random) + ",").join(item.write(random) for item in self.literals)
        return f"{self.name} {'' if self.wanted else 'not '}in{space(random)}({listed})"

    def holds(self, values: Values) -> bool:
        sign = "==" if self.wanted else "!="
        each = [Comparison(self.name, sign, literal).holds(values) for literal in self.literals]
        return any(each) if self.wanted else all(each)


@dataclass(frozen=True)
class Match:
    name: str
    pattern: str
    wanted: bool

    def write(self, random: Random) -> str:
        pattern = Literal("text", self.pattern).write(random)
        return f"{self.name} {'' if self.wanted else 'not '}matches{space(random)}{pattern}"

    def holds(self, values: Values) -> bool:
        value = values.get(self.name)
        return value is not None and fits(self.pattern, value) is self.wanted


def fits(pattern: str, value: str) -> bool:
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(fits(pattern[1:], value[start:]) for start in range(len(value) + 1))
    return bool(value) and pattern[0] in {"?", value[0]} and fits(pattern[1:], value[1:])


@dataclass(frozen=True)
class Existence:
    name: str

    def write(self, random: Random) -> str:
        return f"exists {space(random)}{self.name}"

    def holds(self, values: Values) -> bool:
        return self.name in values


@dataclass(frozen=True)
class Not:
    part: Node

    def write(self, random: Random) -> str:
        return f"not {bracketed(self.part, random, Joined)}"

    def holds(self, values: Values) -> bool:
        return not self.part.holds(values)


@dataclass(frozen=True)
class Joined:
    word: str
    parts: list[Node]

    def write(self, random: Random) -> str:
        return f" {self.word} ".join(bracketed(part, random, Joined) for part in self.parts)

    def holds(self, values: Values) -> bool:
        each = [part.holds(values) for part in self.parts]
        return all(each) if self.word == "and" else any(each)


Node = Comparison | Membership | Match | Existence | Not | Joined


def bracketed(node: Node, random: Random, needing: type) -> str:
    text = node.write(random)
    # `or` of `and` is the only pair of joints that needs no brackets.
    return f"({text})" if isinstance(node, needing) or random.random() < 0.2 else text


def space(random: Random) -> str:
    return random.choice([" ", "  ", "\n", "\t "])


AMOUNTS = (
    st.builds(Literal, st.just("number"), NUMBERS)
    | st.builds(Literal, st.just("size"), SIZES)
    | st.builds(Literal, st.just("duration"), DURATIONS)
)
LITERALS = (
    AMOUNTS
    | st.builds(Literal, st.just("text"), STORED)
    | st.builds(Literal, st.just("truth"), TRUTHS)
)
TERMS = (
    st.builds(Comparison, NAMES, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), AMOUNTS)
    | st.builds(Comparison, NAMES, st.sampled_from(["==", "!="]), LITERALS)
    | st.builds(Membership, NAMES, st.lists(LITERALS, min_size=1, max_size=4), st.booleans())
    | st.builds(Match, NAMES, LETTERS, st.booleans())
    | st.builds(Existence, NAMES)
)
NODES: st.SearchStrategy[Node] = st.recursive(
    TERMS,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(Joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=8,
)


@given(NODES, st.lists(VALUES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_means_what_its_tree_says(node: Node, objects: list[Values], random: Random) -> None:
    expression = compile_expression(node.write(random))
    for values in objects:
        lookup = Lookup(values)
        holds = expression.matches(lookup)
        assert holds is node.holds(values)
        assert lookup.asked <= expression.names
        for name, texts in expression.required().items():
            assert not holds or values[name] in texts


class Lookup:
    def __init__(self, values: Values) -> None:
        self.values = values
        self.asked: set[str] = set()

    def __call__(self, name: str) -> str | None:
        self.asked.add(name)
        return self.values.get(name)


WORDS = st.sampled_from(
    [
        *"()=<>!,.'\"\\*-:",
        "and",
        "or",
        "not",
        "in",
        "matches",
        "exists",
        "==",
        "x",
        "5",
        "4gb",
        "'t'",
    ]
)


@given(st.text(max_size=30) | st.lists(WORDS, max_size=15).map(" ".join))
def test_any_text_is_an_expression_or_refused_in_a_line(text: str) -> None:
    assert outcome(text) in {True, False} or re.fullmatch(LINE, str(outcome(text)))


LINE = r"expression, column [0-9]+: [^\n]+"


def outcome(text: str) -> bool | str:
    try:
        return compile_expression(text).matches(lambda _: None)
    except UsageError as error:
        return str(error)
