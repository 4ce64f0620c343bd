"""How each trouble is made, and mended."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Literal

from harness.soak.scene import PATIENCE, SITES, Load, Scene, insist
from harness.soak.schedule import Trouble, Turn

from pbscast_deploy.embedded import NatsServer, PostgresServer
from pbscast_deploy.embedded.server import EmbeddedServer
from pbscast_deploy.stage import DaemonProcess
from pbscast_ingest import capture
from pbscast_ingest.capture.session import administrator
from pbscast_store.log import Log

Fault = Callable[[Scene, Turn], AbstractAsyncContextManager[None]]
"""Makes the trouble on the way in and mends it on the way out."""

_CUTS: Final = 3
_MOST_BYTES: Final = 20_000


def part_of(turn: Turn) -> str:
    """What a fault takes away: one fault at a time may have it.

    The two datastores are one part, so that changes are committed at all times.
    """
    match turn.trouble:
        case Trouble.DATASTORE_KILLED | Trouble.DATASTORE_RESTARTED:
            return "datastore"
        case Trouble.DATASTORE_CUT | Trouble.DATASTORE_UNREACHABLE:
            return f"way to {SITES[turn.target]}"
        case (
            Trouble.DOORBELL_OFF
            | Trouble.CAPTURE_PAUSED
            | Trouble.TRIGGERS_DISABLED
            | Trouble.RIGHTS_REVOKED
            | Trouble.TABLES_ALTERED
        ):
            return f"capture of {SITES[turn.target]}"
        case Trouble.LOG_CUT | Trouble.LOG_UNREACHABLE:
            return "way to the log"
        case Trouble.NATS_CUT | Trouble.NATS_UNREACHABLE:
            return "way to NATS"
        case _:
            return turn.trouble.split()[0]


def has_standby(turn: Turn) -> bool:
    """Whether another takes over what the fault stops."""
    return part_of(turn) in ("ingest", "fan-out")


def fault(scene: Scene, turn: Turn) -> AbstractAsyncContextManager[None]:
    """The fault of a turn: it begins and ends with the block."""
    return _FAULTS[turn.trouble](scene, turn)


@asynccontextmanager
async def _ingest_down(scene: Scene, turn: Turn, *, how: str) -> AsyncIterator[None]:
    daemon = await _holder(scene, turn)
    async with _down(scene, daemon, how=how):
        yield


@asynccontextmanager
async def _fanout_down(scene: Scene, turn: Turn, *, how: str) -> AsyncIterator[None]:
    async with _down(scene, scene.fanout[turn.dice % 2], how=how):
        yield


@asynccontextmanager
async def _down(scene: Scene, daemon: DaemonProcess, *, how: str) -> AsyncIterator[None]:
    scene.held.add(daemon)
    await asyncio.to_thread(getattr(daemon, how))
    try:
        yield
    finally:
        await asyncio.to_thread(daemon.start)
        scene.held.discard(daemon)


@asynccontextmanager
async def _ingest_stalled(scene: Scene, turn: Turn) -> AsyncIterator[None]:
    """Until another has its sites: what it was about to write then, it must not."""
    daemon = await _holder(scene, turn)
    async with _stopped(daemon):
        async with asyncio.timeout(PATIENCE):
            while await _holder(scene, turn) is daemon:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.1)
        yield


@asynccontextmanager
async def _fanout_stalled(scene: Scene, turn: Turn) -> AsyncIterator[None]:
    """Until the subscriber gets news again, which then come from the other."""
    async with _stopped(scene.fanout[turn.dice % 2]):
        await scene.wait_until_current()
        yield


@asynccontextmanager
async def _stopped(daemon: DaemonProcess) -> AsyncIterator[None]:
    daemon.send(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.send(signal.SIGCONT)


async def _holder(scene: Scene, turn: Turn) -> DaemonProcess:
    """Who writes the target's log now."""
    found: DaemonProcess | None = None

    async def look() -> None:
        nonlocal found
        async with Log.open(scene.stage.log_dsn) as log:
            (row,) = [row for row in await log.sites() if row.name == SITES[turn.target]]
        found = scene.ingest[int((row.holder or "ingest-0").rpartition("-")[2])]

    await insist(look)
    assert found is not None
    return found


@asynccontextmanager
async def _subscriber_killed(scene: Scene, turn: Turn) -> AsyncIterator[None]:
    scene.subscriber.kill()
    yield


@asynccontextmanager
async def _server_down(scene: Scene, turn: Turn, *, which: str, how: str) -> AsyncIterator[None]:
    server = _server(scene, turn, which)
    await asyncio.to_thread(getattr(server, how))
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


def _server(scene: Scene, turn: Turn, which: str) -> EmbeddedServer:
    servers: Mapping[str, PostgresServer | NatsServer] = {
        "datastore": scene.stage.sites[SITES[turn.target]].server,
        "log": scene.stage.log_server,
        "nats": scene.stage.nats,
    }
    return servers[which]


@asynccontextmanager
async def _cut(scene: Scene, turn: Turn, *, way: str) -> AsyncIterator[None]:
    """After some bytes in some direction, a few times."""
    proxy, choose = scene.ways[way or SITES[turn.target]], random.Random(turn.dice)
    for _ in range(_CUTS):
        direction: Literal["up", "down"] = choose.choice(("up", "down"))
        proxy.cut_after(choose.randrange(_MOST_BYTES), direction)
        async with asyncio.timeout(PATIENCE):
            await proxy.wait_for_cut()
    yield


@asynccontextmanager
async def _unreachable(scene: Scene, turn: Turn, *, way: str) -> AsyncIterator[None]:
    proxy = scene.ways[way or SITES[turn.target]]
    proxy.refusing = True
    proxy.cut()
    try:
        yield
    finally:
        proxy.refusing = False


@asynccontextmanager
async def _doorbell_off(scene: Scene, turn: Turn) -> AsyncIterator[None]:
    """As an administrator does it: by installing again, under load."""
    site = scene.stage.sites[SITES[turn.target]]
    install = partial(asyncio.to_thread, capture.install, site.dsn, site=site.name)
    await insist(partial(install, notify=False))
    try:
        yield
    finally:
        await insist(install)


@asynccontextmanager
async def _capture_paused(scene: Scene, turn: Turn) -> AsyncIterator[None]:
    """States are lost now; the ledger says which may be."""
    name = SITES[turn.target]
    dsn = scene.stage.sites[name].dsn
    pause = partial(insist, partial(asyncio.to_thread, capture.pause, dsn, "soak"))
    resume = partial(insist, partial(asyncio.to_thread, capture.resume, dsn))
    async with scene.loads[name].ledger.pause(pause, resume):
        yield


_REVOKED: Final = (
    (
        "REVOKE INSERT ON pbscast.journal FROM pbscast_owner",
        "GRANT INSERT ON pbscast.journal TO pbscast_owner",
    ),
    (
        "REVOKE USAGE ON SCHEMA pbscast FROM pbscast_owner",
        "GRANT USAGE ON SCHEMA pbscast TO pbscast_owner",
    ),
    (
        "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pbscast FROM pbscast_owner",
        "GRANT ALL ON ALL FUNCTIONS IN SCHEMA pbscast TO pbscast_owner",
    ),
)


@asynccontextmanager
async def _rights_revoked(scene: Scene, turn: Turn) -> AsyncIterator[None]:
    """Some leave signs of what is lost, some nothing at all."""
    breaking, mending = _REVOKED[turn.dice % len(_REVOKED)]
    async with _capture_broken(scene, turn, breaking, mending):
        yield


@asynccontextmanager
async def _triggers_disabled(scene: Scene, turn: Turn) -> AsyncIterator[None]:
    breaking = "ALTER TABLE pbs.job DISABLE TRIGGER pbscast_row"
    mending = "ALTER TABLE pbs.job ENABLE ALWAYS TRIGGER pbscast_row"
    async with _capture_broken(scene, turn, breaking, mending):
        yield


@asynccontextmanager
async def _capture_broken(
    scene: Scene, turn: Turn, breaking: str, mending: str
) -> AsyncIterator[None]:
    """Behind capture's back, and as quietly mended; the ledger says which states may be lost."""
    load = scene.loads[SITES[turn.target]]

    async def mend() -> None:
        await insist(partial(_administer, load, mending))
        await _wait_until_captured(load)

    async with load.ledger.pause(partial(insist, partial(_administer, load, breaking)), mend):
        # A loss that no save has felt is none, and nobody could tell of it.
        await load.pass_changes(3)
        yield


async def _wait_until_captured(load: Load) -> None:
    """A session that met an error tries again within a second; till then it counts its losses."""
    async with asyncio.timeout(PATIENCE):
        lost, found = -1, await _count_losses(load)
        while found != lost:
            lost = found
            await load.pass_changes(3)
            found = await _count_losses(load)


async def _count_losses(load: Load) -> int:
    found = 0

    async def look() -> None:
        nonlocal found
        query = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pbscast.gap_seq"
        found = await _administer(load, query)

    await insist(look)
    return found


@asynccontextmanager
async def _tables_altered(scene: Scene, turn: Turn) -> AsyncIterator[None]:
    """As a newer schema of PBS does it, under load: nothing is lost."""
    load = scene.loads[SITES[turn.target]]
    adding = "ALTER TABLE pbs.job ADD COLUMN IF NOT EXISTS soak text NOT NULL DEFAULT 'x'"
    dropping = "ALTER TABLE pbs.job DROP COLUMN IF EXISTS soak"
    await insist(partial(_administer, load, adding))
    try:
        yield
    finally:
        await insist(partial(_administer, load, dropping))


async def _administer(load: Load, statement: str) -> Any:
    """The first value of the answer, if there is one."""

    def run() -> Any:
        with administrator(load.site.dsn) as connection:
            answer = connection.execute(statement.encode())
            return answer.fetchall()[0][0] if answer.description else None

    return await asyncio.to_thread(run)


_FAULTS: Final[Mapping[Trouble, Fault]] = {
    Trouble.INGEST_KILLED: partial(_ingest_down, how="kill"),
    Trouble.INGEST_RESTARTED: partial(_ingest_down, how="stop"),
    Trouble.INGEST_STALLED: _ingest_stalled,
    Trouble.FANOUT_KILLED: partial(_fanout_down, how="kill"),
    Trouble.FANOUT_RESTARTED: partial(_fanout_down, how="stop"),
    Trouble.FANOUT_STALLED: _fanout_stalled,
    Trouble.SUBSCRIBER_KILLED: _subscriber_killed,
    Trouble.LOG_KILLED: partial(_server_down, which="log", how="kill"),
    Trouble.LOG_RESTARTED: partial(_server_down, which="log", how="stop"),
    Trouble.LOG_CUT: partial(_cut, way="log"),
    Trouble.LOG_UNREACHABLE: partial(_unreachable, way="log"),
    Trouble.DATASTORE_KILLED: partial(_server_down, which="datastore", how="kill"),
    Trouble.DATASTORE_RESTARTED: partial(_server_down, which="datastore", how="stop"),
    Trouble.DATASTORE_CUT: partial(_cut, way=""),
    Trouble.DATASTORE_UNREACHABLE: partial(_unreachable, way=""),
    Trouble.NATS_KILLED: partial(_server_down, which="nats", how="kill"),
    Trouble.NATS_RESTARTED: partial(_server_down, which="nats", how="stop"),
    Trouble.NATS_CUT: partial(_cut, way="nats"),
    Trouble.NATS_UNREACHABLE: partial(_unreachable, way="nats"),
    Trouble.DOORBELL_OFF: _doorbell_off,
    Trouble.CAPTURE_PAUSED: _capture_paused,
    Trouble.TRIGGERS_DISABLED: _triggers_disabled,
    Trouble.RIGHTS_REVOKED: _rights_revoked,
    Trouble.TABLES_ALTERED: _tables_altered,
}
