"""Goals of benchmarks: printed as met or missed; a shared machine fails no build by being slow."""

from __future__ import annotations

import operator
from typing import Final

_SIGNS: Final = {">=": operator.ge, "<=": operator.le}


def goal(what: str, value: float, sign: str, wanted: float) -> str:
    """One line: what was measured, what is wanted (at least or at most that), and which it is."""
    verdict = "met" if _SIGNS[sign](value, wanted) else "MISSED"
    return f"  goal {verdict}: {what} {value:,.2f} {sign} {wanted:,g}"
