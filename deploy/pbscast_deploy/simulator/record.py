"""The record of what the simulator committed, for the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, cast

from pbscast_deploy.oracle import Oracle, Saved
from pbscast_deploy.simulator.rows import Row
from pbscast_deploy.simulator.trace import Change


class Record:
    """Takes each commit: into an oracle, and with `path` also into a file that survives us.

    A line is flushed to the system right after its commit, so only the statement in flight can be
    missing when this process is killed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.oracle = Oracle()
        self._file = path.open("a") if path else None

    def __call__(self, saved: Saved) -> None:
        self.oracle.feed(saved)
        if self._file is not None:
            self._file.write(f"{saved.to_line()}\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def commits_of(changes: Iterable[Change]) -> Iterator[Saved]:
    """What the job rows of a trace amount to."""
    for change in changes:
        if change.table == "job":
            yield saved_row(change.at, change.op, change.key, change.row)


def saved_row(at: datetime, op: str, job: str, row: Row | None) -> Saved:
    """What a committed job row means to the oracle; None for a DELETE."""
    known = cast("Literal['INSERT', 'UPDATE', 'DELETE']", op)
    if row is None:
        return Saved(at, known, job)
    exit_status = _text(row.attributes, "Exit_status")
    return Saved(
        at,
        known,
        job,
        state=_text(row.attributes, "job_state"),
        substate=int(_text(row.attributes, "substate")),
        svrflags=int(row.columns["ji_svrflags"]),
        history=bool(_text(row.attributes, "history_timestamp")),
        exit_status=int(exit_status) if exit_status else None,
    )


def _text(attributes: Mapping[str, str], name: str) -> str:
    return attributes.get(name, "").partition(".")[2]
