"""Expressions over what is known of an object. Grammar and meaning: README of the fan-out. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from pbscast_fanout.expressions.building import Builder
from pbscast_fanout.expressions.parts import Lookup, Required, Test
from pbscast_fanout.expressions.syntax import parse


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression ready to be evaluated; equal to another of the same text."""

    text: str
    names: frozenset[str] = field(compare=False)
    """All that it reads: standing fields, attributes, ``attribute.resource``."""
    _test: Test = field(compare=False, repr=False)
    _required: Required = field(compare=False, repr=False)

    def matches(self, lookup: Lookup) -> bool:
        """Whether it holds, where ``lookup`` gives a name's text, None for what does not exist.

        Raises nothing of its own. Asks for a name whenever it needs it, for some perhaps never.
        """
        return self._test(lookup)

    def required(self) -> Required:
        """Return names, each with the texts of which it has one wherever the expression matches.

        For an index: an object that lacks the name, or has another text, cannot match. No text at
        all means that nothing can match. Only equality with texts and with booleans, ``in``, and
        patterns without wildcards say something here.
        """
        return self._required


def compile_expression(text: str) -> Expression:
    """Return the expression of a text.

    Raises UsageError: one line that names the offending part and its column, counted from 1.
    """
    builder = Builder()
    part = builder.build(parse(text))
    return Expression(text, frozenset(builder.names), part.test, part.if_true)
