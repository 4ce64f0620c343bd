"""The safe expression of a filter: ``Resource_List.ncpus >= 64 and state == "R"``."""

from __future__ import annotations

from pbscast_fanout.expressions.expression import Expression, compile_expression

__all__ = ["Expression", "compile_expression"]
