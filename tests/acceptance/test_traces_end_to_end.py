"""The recorded traces, from the datastores' rows to a subscriber, through everything in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import nats
import pytest
from harness.subscriber import read_events

import pbscast
from pbscast import wire
from pbscast.events import Event
from pbscast_deploy.config import Role
from pbscast_deploy.demo.picture import Picture, find_differences
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import Change, bundled_traces, read_trace
from pbscast_deploy.stage import DaemonProcess, Stage, open_stage
from pbscast_deploy.tally import Tally
from pbscast_store.log import Log

SUBSCRIBER = Path(__file__).parents[1] / "harness" / "subscriber.py"
PATIENCE = 60.0

Traces = dict[str, list[Change]]


@pytest.fixture(scope="module")
def traces() -> Traces:
    return {site: read_trace(path) for site, path in bundled_traces().items()}


@pytest.fixture
async def stage(traces: Traces) -> AsyncIterator[Stage]:
    async with open_stage(*traces) as stage:
        yield stage


@contextlib.asynccontextmanager
async def replays(stage: Stage, traces: Traces) -> AsyncIterator[list[Replay]]:
    made = [Replay(changes, stage.sites[site].dsn) for site, changes in traces.items()]
    try:
        for replay in made:
            await replay.seed()
        yield made
    finally:
        for replay in made:
            replay.close()


async def write_all(made: Sequence[Replay], on_change: Callable[[Change], None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for replay in made:
            tasks.create_task(replay.run(speed=40, on_change=on_change))


class Seen:
    """Everything a subscriber was told, judged against the traces."""

    def __init__(self, traces: Traces) -> None:
        self.tally, self.picture = Tally(), Picture()
        self._traces = traces

    def observe(self, event: Event) -> None:
        self.tally.observe(event)
        self.picture.observe(event)

    def differences(self) -> list[str]:
        return find_differences(self._traces, self.tally, self.picture)

    def assert_flawless(self) -> None:
        assert self.differences() == []
        assert (self.tally.duplicates, self.tally.out_of_order, self.tally.gaps) == (0, 0, 0)
        assert (len(self.tally.jobs), self.tally.finalized) == (37, 36)


async def test_everything_written_is_delivered_once_and_in_order(
    stage: Stage, traces: Traces
) -> None:
    async with replays(stage, traces) as made:
        stage.start_daemon()
        await stage.wait_until_followed()
        seen = Seen(traces)
        async with pbscast.connect(stage.nats.url) as client:
            writing = asyncio.create_task(write_all(made, lambda _: None))
            bodies = []
            async with asyncio.timeout(PATIENCE), client.watch(start=pbscast.beginning()) as watch:
                while not writing.done() or seen.differences():
                    item, body = await watch.receive()
                    if isinstance(item, Event):
                        seen.observe(item)
                        bodies.append(body)
            await writing
            seen.assert_flawless()
            await assert_history_is_what_was_delivered(client, bodies)
        await assert_log_holds_what_was_delivered(stage, seen)
        await assert_plain_client_sees_the_same(stage, bodies)


async def assert_history_is_what_was_delivered(
    client: pbscast.Client, bodies: Sequence[bytes | None]
) -> None:
    told = [wire.decode(body) for body in bodies if body]
    moved = [event for event in told if event.id == "19.sitea"]
    history = [event async for event in client.history("19.sitea")]
    for site in ("sitea", "siteb"):
        assert [e for e in history if e.site == site] == [e for e in moved if e.site == site]
    array = {event.id async for event in client.history("6[].sitea")}
    assert array == {"6[].sitea", "6[1].sitea", "6[2].sitea", "6[3].sitea", "6[4].sitea"}


async def assert_log_holds_what_was_delivered(stage: Stage, seen: Seen) -> None:
    async with Log.open(stage.log_dsn) as log:
        logged = {site: await log.position(site) for site in stage.sites}
    assert logged == seen.tally.positions


async def assert_plain_client_sees_the_same(stage: Stage, bodies: Sequence[bytes | None]) -> None:
    """Subjects as documented, read with nothing of pbscast."""
    client = await nats.connect(stage.nats.url)
    try:
        reader = await client.jetstream().pull_subscribe("pbs.v1.*.job.alice.>", stream="PBS")
        found = [message.data for message in await reader.fetch(1000, timeout=5)]
    finally:
        await client.close()
    wanted = [body for body in bodies if body and json.loads(body)["data"].get("owner") == "alice"]
    assert sorted(found) == sorted(wanted)
    assert len(found) > 100


class SubscriberProcess:
    """A program of a user, to be killed and started again."""

    def __init__(self, url: str, file: Path) -> None:
        self._arguments = [sys.executable, str(SUBSCRIBER), url, str(file)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._arguments, start_new_session=True)

    def kill(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()


async def test_kill_nine_of_every_part_midway_loses_and_repeats_nothing(
    stage: Stage, traces: Traces, tmp_path: Path
) -> None:
    received = tmp_path / "received.jsonl"
    async with replays(stage, traces) as made:
        ingest = stage.start_daemon(Role.INGEST)
        fanout = stage.start_daemon(Role.FANOUT)
        await stage.wait_until_followed()
        subscriber = SubscriberProcess(stage.nats.url, received)
        subscriber.start()
        parts: list[DaemonProcess | SubscriberProcess] = [ingest, fanout, subscriber] * 2
        total = sum(map(len, traces.values()))
        deaths = {total * n // (len(parts) + 1): part for n, part in enumerate(parts, 1)}
        written = 0

        def kill_in_turn(_: Change) -> None:
            nonlocal written
            written += 1
            if part := deaths.get(written):
                part.kill()
                part.start()

        try:
            await write_all(made, kill_in_turn)
            seen = await wait_for_all(received, traces)
        finally:
            subscriber.kill()
    assert written == total
    seen.assert_flawless()


async def wait_for_all(received: Path, traces: Traces) -> Seen:
    """Read the growing file until nothing is missing; whoever hangs is caught by the time limit."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        seen = Seen(traces)
        for event in read_events(received):
            seen.observe(event)
        if not seen.differences() or asyncio.get_running_loop().time() > deadline:
            return seen
        await asyncio.sleep(0.2)


async def test_the_demo_reports_all_as_delivered() -> None:
    """As a newcomer runs it; its last line is for programs."""
    demo = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pbscast_deploy",
        "demo",
        env={**os.environ, "DEMO_ONCE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await demo.communicate()
    assert (demo.returncode, err) == (0, b"")
    report = json.loads(out.splitlines()[-1])
    assert report["events_delivered"] == report["events_logged"] > 350
    del report["events_delivered"], report["events_logged"]
    assert report == {
        "sites": 2,
        "changes_written": 396,
        "jobs": 37,
        "finalized": 36,
        "gaps": 0,
        "duplicates": 0,
        "out_of_order": 0,
    }
