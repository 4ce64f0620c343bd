"""A PBS server's saves of jobs, by hand."""

from __future__ import annotations

from typing import Self

import psycopg

_COLUMNS = """
INSERT INTO pbs.job (ji_jobid, ji_state, ji_substate, ji_svrflags, ji_stime, ji_queue, ji_destin,
    ji_un_type, ji_exitstat, ji_quetime, ji_rteretry, ji_fromsock, ji_fromaddr, ji_jid, ji_credtype,
    ji_qrank, ji_savetm, ji_creattm, attributes)
VALUES (%s, 1, 10, 33, 0, 'workq', '', 1, 0, 0, 0, 0, 0, '', 0, 0, localtimestamp, localtimestamp,
    hstore(%s::text[]))
"""
_SAVE = """
UPDATE pbs.job SET attributes = attributes || hstore(%s::text[]), ji_savetm = localtimestamp
WHERE ji_jobid = %s
"""
_OWNED = {"Job_Owner": "alice@h", "queue": "workq", "project": "p", "Job_Name": "n"}


class PbsServer:
    """One autocommitted statement for each save; values are given without their flags."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def submit(self, job: str, state: str = "Q/10", **attributes: str) -> None:
        self.connection.execute(_COLUMNS, [job, _pairs(state, {**_OWNED, **attributes})])

    def save(self, job: str, state: str | None = None, **attributes: str) -> None:
        self.connection.execute(_SAVE, [_pairs(state, attributes), job])

    def finish(self, job: str) -> None:
        self.save(job, "F/92", Exit_status="0", history_timestamp="1")

    def delete(self, job: str) -> None:
        self.connection.execute("DELETE FROM pbs.job WHERE ji_jobid = %s", [job])


def _pairs(state: str | None, attributes: dict[str, str]) -> list[str]:
    if state is not None:
        letter, substate = state.split("/")
        attributes = {"job_state": letter, "substate": substate, **attributes}
    return [item for name, value in attributes.items() for item in (name, f"11.{value}")]
