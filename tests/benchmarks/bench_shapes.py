"""What TLS, accounts, three copies and a leaf node cost beside one plain nats-server.

Worker, writer and reader share one process: what is compared is the shapes, not what a machine can
do. ROUNDS (2) times through all shapes, medians.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Final, NamedTuple

import pytest
from harness.auth import Gate, secured
from harness.clusters import cluster_of, free_ports
from harness.fanning import draft, drafts, published_to, status_of, write
from harness.servers import Databases

import pbscast
from pbscast.errors import PbscastError
from pbscast_deploy.auth.certificates import make_certificates
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.askers import Role
from pbscast_fanout.settings import FanoutSettings, NatsSettings, StreamSettings
from pbscast_fanout.worker import Fanout, check
from pbscast_store.log import Log

pytestmark = pytest.mark.benchmark

_SITE: Final = "sitea"
_EVENTS: Final = 20_000
_SINGLE: Final = 300
"""Events of which each is waited for a moment."""
_PAUSE: Final = 0.01
_ROUNDS: Final = int(os.environ.get("ROUNDS", "2"))


@dataclass
class Shape:
    """How a worker and a reader connect."""

    worker: NatsSettings
    reader: dict[str, Any]
    """Arguments of pbscast.connect."""
    replicas: int = 1

    @property
    def settings(self) -> FanoutSettings:
        return FanoutSettings(nats=self.worker, stream=StreamSettings(replicas=self.replicas))


class Figures(NamedTuple):
    """Of one run."""

    p50: float
    """Milliseconds from the log's acknowledgement to the callback."""
    p99: float
    publishing: float
    """Events a second, from the log to the stream."""
    reading: float
    """The same from the stream to the callback."""


@asynccontextmanager
async def _plain(_: Path) -> AsyncIterator[Shape]:
    async with _running(NatsServer()) as server:
        yield Shape(NatsSettings(servers=(server.url,)), {"servers": server.url})


@asynccontextmanager
async def _over_tls(directory: Path) -> AsyncIterator[Shape]:
    certificates = make_certificates(["127.0.0.1"])
    ca, cert, key = (directory / name for name in ("ca.pem", "cert.pem", "key.pem"))
    ca.write_bytes(certificates.authority)
    cert.write_bytes(certificates.server)
    key.write_bytes(certificates.server_key)
    config = f"tls {{ cert_file: '{cert}', key_file: '{key}' }}"
    async with _running(NatsServer(config=config)) as server:
        worker = NatsSettings(servers=(server.url,), tls_ca=ca)
        yield Shape(worker, {"servers": server.url, "ca": ca})


@asynccontextmanager
async def _with_accounts(directory: Path) -> AsyncIterator[Shape]:
    """And TLS, as `pbscastd auth init` has it; alice reads."""
    realm = directory / "realm"
    ca = Realm.init(realm, ["127.0.0.1"]).authority
    async with _running(secured(realm, durable=True)) as server:
        gate = Gate(realm, server.url)
        service, alice = directory / "service.creds", directory / "alice.creds"
        service.write_text(await gate.creds("pbscastd", Role.SERVICE))
        alice.write_text(await gate.creds("alice"))
        worker = NatsSettings(servers=(server.url,), tls_ca=ca, credentials=service)
        yield Shape(worker, {"servers": server.url, "ca": ca, "creds": alice})


@asynccontextmanager
async def _three(_: Path) -> AsyncIterator[Shape]:
    cluster = cluster_of(3, durable=True)
    servers = await asyncio.to_thread(cluster.__enter__)
    urls = [server.url for server in servers.values()]
    try:
        yield Shape(NatsSettings(servers=tuple(urls)), {"servers": urls}, replicas=3)
    finally:
        await asyncio.to_thread(cluster.__exit__, None, None, None)


@asynccontextmanager
async def _at_a_leaf(_: Path) -> AsyncIterator[Shape]:
    [port] = free_ports(1)
    leaves = f"leafnodes {{ listen: '127.0.0.1:{port}' }}"
    remotes = f"leafnodes {{ remotes: [ {{ url: 'nats://127.0.0.1:{port}' }} ] }}"
    relay = f"{remotes}\ndefault_js_domain: {{ $G: hub }}"
    async with (
        _running(NatsServer(config=leaves, jetstream="domain: hub")) as hub,
        _running(NatsServer(config=relay, jetstream="enabled: false")) as leaf,
    ):
        yield Shape(NatsSettings(servers=(hub.url,)), {"servers": leaf.url})


@asynccontextmanager
async def _running(server: NatsServer) -> AsyncIterator[NatsServer]:
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.close)


_SHAPES: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Shape]]]] = {
    "one, plain": _plain,
    "TLS": _over_tls,
    "TLS, accounts": _with_accounts,
    "three copies": _three,
    "read at a leaf": _at_a_leaf,
}


@asynccontextmanager
async def _worker(log: Log, shape: Shape) -> AsyncIterator[Fanout]:
    async with asyncio.timeout(60):
        while True:
            try:
                await check(shape.settings)
                break
            except PbscastError as error:  # a cluster has to agree first
                if not error.transient:
                    raise
                await asyncio.sleep(0.1)
    fanout = Fanout(log, shape.settings)
    task = asyncio.create_task(fanout.run())
    try:
        yield fanout
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _reading(shape: Shape, **options: Any) -> AsyncIterator[pbscast.Watch]:
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(60):
            while True:
                try:
                    client = await stack.enter_async_context(pbscast.connect(**shape.reader))
                    watch = client.watch(owners="alice", **options)
                    await stack.enter_async_context(watch)
                    break
                except PbscastError as error:  # nobody serves yet
                    if not error.transient:
                        raise
                    await asyncio.sleep(0.1)
        yield watch


@dataclass
class _Clock:
    """When each position was logged, and told."""

    logged: dict[int, float] = field(default_factory=dict)
    told: dict[int, float] = field(default_factory=dict)

    def milliseconds(self) -> list[float]:
        return [1000 * (self.told[at] - when) for at, when in self.logged.items()]


async def _latency(log: Log, shape: Shape) -> list[float]:
    clock = _Clock()
    writer = await log.acquire(_SITE, "bench", 60)
    assert writer is not None
    last = writer.position + _SINGLE
    async with _reading(shape) as watch:

        async def listen() -> None:
            async for item in watch:
                if isinstance(item, pbscast.Change):
                    clock.told[item.position] = perf_counter()
                    if item.position == last:
                        return

        listening = asyncio.create_task(listen())
        for _ in range(_SINGLE):
            result = await writer.append([draft()], {})
            clock.logged[result.last] = perf_counter()
            await asyncio.sleep(_PAUSE)
        await listening
    await writer.release()
    return clock.milliseconds()


async def _measure(log: Log, shape: Shape) -> Figures:
    async with _worker(log, shape) as worker:
        await published_to(worker, _SITE, 1, 60)
        delays = quantiles(await _latency(log, shape), n=100)
    begin = await log.position(_SITE) + 1
    await _pile_up(log)
    end = await log.position(_SITE)
    async with _worker(log, shape) as worker:
        await published_to(worker, _SITE, begin, 60)
        first, began = status_of(worker, _SITE).published, perf_counter()
        await published_to(worker, _SITE, end, 120)
        publishing = (end - first) / (perf_counter() - began)
        async with _reading(shape, start=pbscast.beginning()) as watch:
            began, count = perf_counter(), 0
            async for item in watch:
                count += 1
                if isinstance(item, pbscast.Change) and item.position == end:
                    break
            return Figures(delays[49], delays[98], publishing, count / (perf_counter() - began))


async def _pile_up(log: Log) -> None:
    for _ in range(_EVENTS // 1000):
        await write(log, _SITE, drafts(1000, 200))


async def test_what_each_shape_costs(log_databases: Databases, tmp_path: Path) -> None:
    runs: dict[str, list[Figures]] = defaultdict(list)
    for number in range(_ROUNDS):
        for name, shape in _SHAPES.items():
            dsn, place = log_databases.create(), tmp_path / f"{number}-{name}"
            place.mkdir()
            await Log.migrate_at(dsn)
            async with Log.open(dsn) as log, shape(place) as made:
                await write(log, _SITE, [draft()])
                runs[name].append(await _measure(log, made))
    _report({name: Figures(*map(median, zip(*found, strict=True))) for name, found in runs.items()})


def _report(found: dict[str, Figures]) -> None:
    plain = found["one, plain"]
    columns = "ms p50 | ms p99 | published/s | read/s | times plain: p50 | p99 | published | read"
    print(f"\n| shape | {columns} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, run in found.items():
        ratios = " | ".join(f"{one / other:.2f}" for one, other in zip(run, plain, strict=True))
        print(
            f"| {name} | {run.p50:.1f} | {run.p99:.1f} | {run.publishing:,.0f} |"
            f" {run.reading:,.0f} | {ratios} |"
        )
