"""What a run is told as."""

from __future__ import annotations

from collections.abc import Iterator

from harness.soak.course import Survived
from harness.soak.schedule import Trouble


def describe(survived: Survived, *, seed: int, seconds: float) -> str:
    """The table of faults survived, the counts, and everything that is wrong."""
    return "\n".join(_lines(survived, seed, seconds))


def _lines(survived: Survived, seed: int, seconds: float) -> Iterator[str]:
    yield f"\nseed {seed}, {seconds / 60:.1f} minutes, {survived.turns.total()} faults\n"
    yield "| fault | how often | longest recovery (s) |"
    yield "|---|---:|---:|"
    for trouble in Trouble:
        if times := survived.turns[trouble]:
            longest = survived.recovery.get(trouble)
            yield f"| {trouble} | {times} | {'-' if longest is None else f'{longest:.1f}'} |"
    yield f"| overlapping faults | | {survived.together:.1f} |"
    yield ""
    yield (
        f"{survived.committed} changes of jobs committed at 2 sites, {survived.logged} events "
        f"logged, {survived.received} received; {survived.lives} lives, {survived.ended} finalized"
    )
    yield (
        f"capture was off {survived.pauses} times ({survived.excused} changes meanwhile): "
        f"{survived.gaps} gaps told, {survived.resyncs} resyncs"
    )
    for site, journal in survived.journals.items():
        sizes = f"{journal.peak / 2**20:.1f} MiB at most, {journal.last / 2**20:.1f} MiB at the end"
        yield f"the journal of {site} took {sizes}"
    for said, times in survived.exits.items():
        yield f"the subscriber ended by itself {times} times: {said}"
    found = survived.found
    yield (
        f"lost {len(found.lost)}, duplicated {len(found.duplicated)}, "
        f"out of order {len(found.disordered)}, altered {len(found.altered)}"
    )
    yield from found.lines[:50]
