"""Two sites under load, daemons with standbys, a subscriber, and proxies on every way."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import nats
from harness.proxy import CuttingProxy, cutting_proxy
from harness.soak.journals import JournalSize
from harness.soak.ledger import Ledger, Tail

from pbscast.errors import PbscastError, UnavailableError
from pbscast_deploy.config import Role
from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.stage import DaemonProcess, Stage, StageSite, open_stage
from pbscast_store.log import Log

SITES: Final = ("east", "west")
"""The first keeps history, the second does not."""

LEASE_SECONDS: Final = 2
PATIENCE: Final = 60.0
"""Seconds in which everything must have recovered from anything."""

_RETRY_SECONDS: Final = 0.1
_SUBSCRIBER: Final = Path(__file__).parents[1] / "subscriber.py"


class SubscriberProcess:
    """A user's program under a supervisor, as `harness.subscriber` is one.

    It is started again whenever it has ended, which it does if NATS is away when it starts.
    """

    def __init__(self, url: str, file: Path, log: Path) -> None:
        self._arguments = [sys.executable, str(_SUBSCRIBER), url, str(file)]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self) -> None:
        """Run it until cancelled."""
        try:
            while True:
                with self._log.open("ab") as log:
                    self._process = await asyncio.create_subprocess_exec(
                        *self._arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
                await self._process.wait()
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self.kill()
            if self._process is not None:
                await self._process.wait()

    def kill(self) -> None:
        """As a crash: `kill -9`."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)

    @property
    def exits(self) -> Counter[str]:
        """How often it ended by itself, by the last line that it wrote each time."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return Counter(line for line in lines if line.startswith("pbscast.errors."))


@dataclass
class Load:
    """A site's simulated PBS server, kept busy over every crash of its datastore."""

    site: StageSite
    generator: LoadGenerator
    ledger: Ledger
    rate: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: bool = False

    async def keep(self) -> None:
        """Write until `stop`."""
        while not self._stopping:
            try:
                await self.generator.run(rate=self.rate)
            except UnavailableError:
                await insist(self.generator.reconnect)
        self.ended.set()

    async def pass_changes(self, count: int) -> None:
        """Return when that many more changes are committed at this site."""
        await _reach(lambda: self.ledger.count, count)

    def stop(self) -> None:
        """End after the change that is being written."""
        self._stopping = True
        self.generator.stop()

    def close(self) -> None:
        self.generator.close()
        self.ledger.close()


@dataclass
class Scene:
    """Everything that runs, and what the faults need of it."""

    stage: Stage
    ways: Mapping[str, CuttingProxy]
    """To each site's datastore by its name, to `log` and to `nats`."""
    ingest: list[DaemonProcess]
    fanout: list[DaemonProcess]
    subscriber: SubscriberProcess
    loads: dict[str, Load]
    tail: Tail
    journals: Mapping[str, JournalSize]
    """In each site's datastore."""
    held: set[DaemonProcess] = field(default_factory=set)
    """Daemons that a fault has taken down."""

    @property
    def committed(self) -> int:
        """Committed changes of jobs at all sites."""
        return sum(load.ledger.count for load in self.loads.values())

    async def pass_changes(self, count: int) -> None:
        """Return when that many more changes are committed, wherever."""
        await _reach(lambda: self.committed, count)

    async def wait_until_current(self) -> None:
        """Return when the subscriber has what every site commits from now on."""
        now = datetime.now(UTC)
        await self.tail.wait_for(lambda: all(self.tail.newest(site) > now for site in SITES))

    async def wait_until_idle(self) -> None:
        """Return once no load writes any more."""
        async with asyncio.timeout(PATIENCE):
            for load in self.loads.values():
                await load.ended.wait()

    async def describe(self) -> str:
        """How far everybody is, and what the daemons said last."""
        async with Log.open(self.stage.log_dsn) as log:
            rows = await log.sites()
        stream = await stream_ends(self.stage.nats.url)
        places = [
            f"{row.name}: logged {row.position} at {row.logged} by {row.holder}, published "
            f"{stream.get(row.name)}, received {self.tail.positions.get(row.name)}"
            for row in rows
        ]
        return "\n".join([*places, *(daemon.log for daemon in (*self.ingest, *self.fanout))])

    def dead(self) -> list[str]:
        """What the daemons said that ended by themselves."""
        daemons = (*self.ingest, *self.fanout)
        return [d.log for d in daemons if d.pid is None and d not in self.held]


async def _reach(counted: Callable[[], int], more: int) -> None:
    target = counted() + more
    async with asyncio.timeout(PATIENCE):
        while counted() < target:  # noqa: ASYNC110 - counted in other threads
            await asyncio.sleep(0.01)


async def stream_ends(url: str) -> dict[str, str]:
    """The last message of each site, and when it was stored."""
    client = await nats.connect(url)
    try:
        stream = client.jetstream()
        last = {site: await stream.get_last_msg("PBS", f"pbs.v1.{site}.>") for site in SITES}
    finally:
        await client.close()
    return {
        site: f"{message.headers or message.data!r} at {message.time}"
        for site, message in last.items()
    }


async def insist(attempt: Callable[[], Awaitable[object]]) -> None:
    """Try again while servers are away, as an administrator would."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await attempt()
            except PbscastError as error:
                if not error.transient:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


@asynccontextmanager
async def open_scene(directory: Path, *, seed: int, rate: float) -> AsyncIterator[Scene]:
    """Start everything and wait until it works; `rate` is each site's, in changes per second."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        stage = await stack.enter_async_context(open_stage(*SITES))
        ways = {
            name: await stack.enter_async_context(cutting_proxy(target))
            for name, target in _targets(stage).items()
        }
        ingest, fanout = _daemons(stage, ways)
        tail = Tail(directory / "received.jsonl")
        user = SubscriberProcess(_nats_url(ways), tail.file, directory / "subscriber.log")
        tasks = [group.create_task(keep()) for keep in (user.keep, tail.keep)]
        try:
            await stage.wait_until_followed()
            loads = {}
            for number, site in enumerate(stage.sites.values()):
                load = loads[site.name] = await _load(site, directory, seed, number, rate)
                stack.callback(load.close)
                tasks.append(group.create_task(load.keep()))
            journals = {site.name: JournalSize(site.dsn) for site in stage.sites.values()}
            tasks += [group.create_task(journal.keep()) for journal in journals.values()]
            scene = Scene(stage, ways, ingest, fanout, user, loads, tail, journals)
            await scene.wait_until_current()
            yield scene
        finally:
            for task in tasks:
                task.cancel()


def _targets(stage: Stage) -> dict[str, tuple[str, int] | str]:
    sites = {name: _socket(site.server) for name, site in stage.sites.items()}
    nats = ("127.0.0.1", stage.nats.port)
    return {**sites, "log": _socket(stage.log_server), "nats": nats}


def _socket(server: PostgresServer) -> str:
    return f"{server.directory}/.s.PGSQL.{server.port}"


def _nats_url(ways: Mapping[str, CuttingProxy]) -> str:
    return f"nats://127.0.0.1:{ways['nats'].port}"


def _daemons(
    stage: Stage, ways: Mapping[str, CuttingProxy]
) -> tuple[list[DaemonProcess], list[DaemonProcess]]:
    made = {
        role: [
            DaemonProcess(_config(role, f"{role}-{number}", ways)).start() for number in range(2)
        ]
        for role in Role
    }
    stage.daemons.extend(itertools.chain.from_iterable(made.values()))
    return made[Role.INGEST], made[Role.FANOUT]


def _config(role: Role, holder: str, ways: Mapping[str, CuttingProxy]) -> str:
    """Every way leads through a proxy to a server's socket, where it trusts."""
    lines = [
        f'[log]\ndsn = "postgresql://postgres@127.0.0.1:{ways["log"].port}/pbscast"',
        f'[nats]\nservers = ["{_nats_url(ways)}"]',
        f'[daemon]\nroles = ["{role}"]\nholder = "{holder}"\nlease_seconds = {LEASE_SECONDS}',
    ]
    for site in SITES:
        where = f"127.0.0.1:{ways[site].port}/pbs_datastore"
        lines.append(f'[[site]]\nname = "{site}"\ndsn = "postgresql://pbscast_reader@{where}"')
    return "\n".join(lines)


async def _load(site: StageSite, directory: Path, seed: int, number: int, rate: float) -> Load:
    ledger = Ledger(directory / f"committed-{site.name}.jsonl")
    generator = LoadGenerator(
        site.dsn, site.name, history=number == 0, seed=2 * seed + number, on_commit=ledger
    )
    await generator.seed()
    return Load(site, generator, ledger, rate)
