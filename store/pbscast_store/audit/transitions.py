"""Which steps a job's visible state can make, by what is known of PBS: pure.

*Impossible* is what PBS's own code excludes: a job that is F stays F (the state setter returns at
once), one that was moved away stays M until its row goes, a subjob that is X can only become F,
only arrays begin (B) and only subjobs expire (X). Everything that the documented lives of jobs have
is *usual*, the restarts included, after which a state kept in memory was never saved. The rest is
*odd*: nobody has seen it, nothing rules it out.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pbscast.ids import split_subjob
from pbscast.states import JobState


class Step(Enum):
    """What is to be thought of a change of state."""

    USUAL = "usual"
    ODD = "odd"
    IMPOSSIBLE = "impossible"


_USUAL: Final = {
    None: "QHWR",  # R: a subjob that waits for its node to be provisioned
    "T": "QHWRBME",
    "Q": "HWRTBEF",
    "H": "QWTREF",
    "W": "QHREF",
    "R": "EQHSU",
    "S": "RUEQH",
    "U": "RSEQH",
    "E": "FXQHW",
    "B": "FEQH",
    "X": "F",
    "F": "",
    "M": "",
}
_LAST: Final = {"F": "F", "M": "MF", "X": "XF"}
_ARRAY: Final = "[]"


def judge(job_id: str, before: str | None, after: str) -> Step:
    """What is to be thought of a job's step; `before` is None for its first state."""
    if before in _LAST and after not in _LAST[before]:
        return Step.IMPOSSIBLE
    if after == JobState.BEGUN and _ARRAY not in job_id:
        return Step.IMPOSSIBLE
    if after == JobState.EXPIRED and split_subjob(job_id)[1] is None:
        return Step.IMPOSSIBLE
    return Step.USUAL if after == before or after in _USUAL.get(before, "") else Step.ODD
