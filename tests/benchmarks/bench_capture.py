"""What capture costs PBS: the time of one save with capture on, beside the same save with it off.

Datastores on one durable PostgreSQL, one connection each, the prepared statements that PBS uses;
each save is done on all of them in turn, in a random order, so that whatever else the machine does
falls on all alike. Two floors stand beside it: a row trigger that does nothing, and one that only
inserts a constant row of a journal row's size. By itself:
`.venv/bin/python tests/benchmarks/bench_capture.py [SAVES]`.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import quantiles
from typing import Final

import psycopg
import pytest
from harness.goals import goal
from psycopg.pq import ExecStatus

from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest import capture

pytestmark = pytest.mark.benchmark

SAVES: Final = 4000
JOBS: Final = 200
WARM_UP: Final = 400

PREPARED: Final = {
    "attributes": "UPDATE pbs.job SET ji_savetm = localtimestamp,"
    " attributes = attributes || hstore($2::text[]) WHERE ji_jobid = $1",
    "full": "UPDATE pbs.job SET ji_svrflags = ji_svrflags # 4096, ji_stime = ji_stime + 1,"
    " ji_savetm = localtimestamp, attributes = attributes || hstore($2::text[])"
    " WHERE ji_jobid = $1",
    "no change": "UPDATE pbs.job SET ji_savetm = localtimestamp,"
    " attributes = attributes || hstore($2::text[]) WHERE ji_jobid = $1",
}
"""The save that PBS does most, the one with columns, and the one that says nothing but mtime."""


_FLOOR: Final = """
CREATE SCHEMA floor;
CREATE SEQUENCE floor.seq;
CREATE TABLE floor.journal (seq bigint PRIMARY KEY, xid bigint, at timestamptz, row text);
CREATE FUNCTION floor.trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NULL; END $$;
CREATE TRIGGER floor AFTER INSERT OR UPDATE OR DELETE ON pbs.job
    FOR EACH ROW EXECUTE PROCEDURE floor.trigger();
"""
FLOORS: Final = {
    "empty trigger": _FLOOR.format(""),
    "constant row": _FLOOR.format(
        "INSERT INTO floor.journal VALUES (nextval('floor.seq'), txid_current(), clock_timestamp(),"
        f" '{'x' * 450}');"
    ),
}


@dataclass
class Datastore:
    """One datastore and PBS's connection to it."""

    name: str
    connection: psycopg.Connection

    def save(self, form: str, number: int) -> float:
        """One save; returns microseconds."""
        values = [b"%d.sitea" % (number % JOBS), _attributes(form, number)]
        start = time.perf_counter_ns()
        result = self.connection.pgconn.exec_prepared(form.encode(), values)
        took = time.perf_counter_ns() - start
        assert result.status == ExecStatus.COMMAND_OK, result.error_message
        return took / 1000


def _attributes(form: str, number: int) -> bytes:
    mtime = 1795340217 + number
    if form == "no change":
        return b"{mtime,11.%d}" % mtime
    state = "QREH"[number // JOBS % 4].encode()
    return b"{job_state,11.%b,substate,11.%d,mtime,11.%d}" % (state, number % 97, mtime)


def _a_job() -> dict[str, str]:
    """About 60 attributes and a Variable_List of 1 kB, as a real job has."""
    job = {f"Resource_List.custom_{n}": f"15.{n}" for n in range(20)}
    job |= {f"attribute_of_the_job_{n}": f"11.some value {n * 7919}" for n in range(32)}
    variables = ",".join(f"PBS_O_VARIABLE_{n}=/opt/site/{n * 7919}/bin" for n in range(26))
    job |= {"Variable_List": f"11.{variables}", "Job_Owner": "11.alice@sitea", "Job_Name": "11.run"}
    return job | {"project": "11._pbs_project_default", "queue": "11.workq", "mtime": "11.1"}


@contextmanager
def _datastore(server: PostgresServer, name: str) -> Iterator[Datastore]:
    create_datastore(server.dsn(), name)
    dsn = server.dsn(name)
    if name.startswith("on"):
        capture.install(dsn, site="sitea", notify=name == "on")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FLOORS.get(name, "").encode())
        flat = [text for pair in _a_job().items() for text in pair]
        connection.execute(
            "INSERT INTO pbs.job SELECT n || '.sitea', 1, 10, 33, 0, 'workq', '', 1, 0, 0, 0, 0, 0,"
            " '', 0, n, localtimestamp, localtimestamp, hstore(%s::text[])"
            " FROM generate_series(0, %s) AS n",
            [flat, JOBS - 1],
        )
        for form, statement in PREPARED.items():
            connection.pgconn.prepare(form.encode(), statement.encode())
        yield Datastore(name, connection)


def measure(saves: int) -> list[str]:
    """The table, one line for each form of save and datastore."""
    lines = [f"{'save':12} {'capture':16} {'p50':>8} {'p90':>8} {'p99':>8}   p50   p99"]
    names = ("off", *FLOORS, "on", "on, no doorbell")
    with PostgresServer() as server, ExitStack() as stack:
        stores = [stack.enter_context(_datastore(server, name)) for name in names]
        for form in PREPARED:
            _interleave(stores, form, WARM_UP)
            lines += _rows(form, _interleave(stores, form, saves))
    return lines


def _interleave(stores: list[Datastore], form: str, saves: int) -> dict[str, list[float]]:
    chance = random.Random(form)
    times: dict[str, list[float]] = {store.name: [] for store in stores}
    for number in range(saves):
        for store in chance.sample(stores, len(stores)):
            times[store.name].append(store.save(form, number))
    return times


def _rows(form: str, times: dict[str, list[float]]) -> Iterator[str]:
    cuts = {name: quantiles(values, n=100) for name, values in times.items()}
    off = cuts["off"]
    for name, cut in cuts.items():
        ratios = f"{cut[49] / off[49]:5.2f} {cut[98] / off[98]:5.2f}"
        shown = f"{cut[49]:8.0f} {cut[89]:8.0f} {cut[98]:8.0f}"
        yield f"{form:12} {name:16} {shown} {ratios}"
    yield goal("p50 with capture", cuts["on"][49] / off[49], "<=", 1.15)
    yield goal("p99 with capture", cuts["on"][98] / off[98], "<=", 1.5)


def test_what_a_save_costs() -> None:
    print("\ncapture: time of one save, microseconds, fsync on; ratios to capture off")
    print("\n".join(measure(SAVES)))


if __name__ == "__main__":
    print("\n".join(measure(int(sys.argv[1]) if len(sys.argv) > 1 else SAVES)))
