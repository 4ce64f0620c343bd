"""The course of the demo."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import pbscast
from pbscast.client import Client
from pbscast.events import Event
from pbscast.starts import beginning
from pbscast_deploy.demo.desk import Desk, ReplayClock, open_desk
from pbscast_deploy.demo.picture import Picture, find_differences
from pbscast_deploy.demo.screen import Screen
from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import Change, bundled_traces, read_trace
from pbscast_deploy.stage import Stage, open_stage
from pbscast_deploy.tally import Tally
from pbscast_store.log import Log

_NATS_PORT: Final = 4222
_SPEED: Final = 15.0
_PATIENCE_SECONDS: Final = 60.0
_LOAD_RATE: Final = 20.0
_JOBS_SHOWN: Final = 2_000


class Audience:
    """A subscriber to everything."""

    def __init__(self, tally: Tally, picture: Picture, screen: Screen) -> None:
        self._tally = tally
        self._picture = picture
        self._screen = screen
        self.news = asyncio.Event()

    async def listen(self, client: Client) -> None:
        """Take in events for ever."""
        async with client.watch(start=beginning()) as items:
            async for item in items:
                if isinstance(item, Event):
                    self._tally.observe(item)
                    self._tally.forget_all_but(_JOBS_SHOWN)
                    self._picture.observe(item)
                    self._screen.heard(item)
                    self.news.set()


async def play() -> int:
    """Run the demo; return its exit status, 0 if everything that was written was delivered."""
    traces = {site: read_trace(path) for site, path in bundled_traces().items()}
    tally, picture = Tally(), Picture()
    screen = Screen(tally, sum(map(len, traces.values())))
    screen.say("starting two PBS datastores, the event log, NATS and pbscastd …")
    async with AsyncExitStack() as stack:
        desk = stack.enter_context(open_desk())
        opening = open_stage(*traces, nats_port=_NATS_PORT, settings=desk.settings)
        stage = await stack.enter_async_context(opening)
        screen.say(f"open to everybody on this machine, and to nobody else: {stage.nats.url}")
        desk.config.write_text(stage.config())
        replays = await _prepare(stage, traces, stack)
        audience = Audience(tally, picture, screen)
        client = await stack.enter_async_context(pbscast.connect(stage.nats.url))
        await stack.enter_async_context(_running(audience.listen(client)))
        screen.say("replaying what two live PBS servers wrote, 15 times as fast as it happened")
        with screen.showing():
            clocks = await _replay(replays, screen)
            differences = await _settle(traces, tally, picture, audience)
        for site, clock in zip(traces, clocks, strict=True):
            desk.write_accounting(site, clock)
        screen.summarize()
        report = await _report(stage, traces, tally)
        flaws = tally.duplicates + tally.out_of_order + len(differences)
        good = not flaws and report["events_logged"] == report["events_delivered"]
        for line in differences:
            screen.say(f"[red]{line}")
        if os.environ.get("DEMO_ONCE") != "1":
            await _go_on(stage, screen, desk)
    if os.environ.get("DEMO_ONCE") == "1":
        print(json.dumps(report))  # noqa: T201 - the last line, for programs
    return 0 if good else 1


async def _prepare(
    stage: Stage, traces: dict[str, list[Change]], stack: AsyncExitStack
) -> list[Replay]:
    """Bring the datastores to where the recordings began, and let pbscastd find them so."""
    replays = []
    for site, changes in traces.items():
        replay = await asyncio.to_thread(Replay, changes, stage.sites[site].dsn)
        stack.callback(replay.close)
        await replay.seed()
        replays.append(replay)
    stage.start_daemon()
    await stage.wait_until_followed()
    return replays


async def _replay(replays: Sequence[Replay], screen: Screen) -> list[ReplayClock]:
    """Write all traces by their common clock, without the wait before the last of them begins."""
    origin = max(replay.begins for replay in replays)
    clocks = [ReplayClock() for _ in replays]

    def wrote(change: Change, clock: ReplayClock) -> None:
        clock.note(change.at)
        screen.wrote()

    async with asyncio.TaskGroup() as tasks:
        for replay, clock in zip(replays, clocks, strict=True):
            noting = partial(wrote, clock=clock)
            tasks.create_task(replay.run(speed=_SPEED, origin=origin, on_change=noting))
    return clocks


async def _settle(
    traces: dict[str, list[Change]], tally: Tally, picture: Picture, audience: Audience
) -> list[str]:
    """Wait until nothing is missing; return what still is when nothing comes any more."""
    while differences := find_differences(traces, tally, picture):
        audience.news.clear()
        try:
            await asyncio.wait_for(audience.news.wait(), _PATIENCE_SECONDS)
        except TimeoutError:
            return differences
    return []


async def _report(stage: Stage, traces: dict[str, list[Change]], tally: Tally) -> dict[str, object]:
    async with Log.open(stage.log_dsn) as log:
        logged = [await log.position(site) for site in traces]
    return {
        "sites": len(traces),
        "changes_written": sum(map(len, traces.values())),
        "events_logged": sum(logged),
        "events_delivered": tally.delivered,
        "jobs": len(tally.jobs),
        "finalized": tally.finalized,
        "gaps": tally.gaps,
        "duplicates": tally.duplicates,
        "out_of_order": tally.out_of_order,
    }


async def _go_on(stage: Stage, screen: Screen, desk: Desk) -> None:
    """A steady load on both sites until Ctrl-C."""
    server = "" if stage.nats.port == _NATS_PORT else f"PBSCAST_SERVERS={stage.nats.url} "
    screen.advise(
        f"{server}.venv/bin/pbscast watch",
        f"{server}.venv/bin/pbscast watch --owner alice --json",
        f"{server}.venv/bin/pbscast subscribe --where 'Resource_List.ncpus >= 4'",
        f"{server}.venv/bin/pbscast history 19.sitea",
        f"{server}.venv/bin/pbscast history '6[].sitea' --json",
        f".venv/bin/pbscastd audit verify --config {desk.config}",
        f".venv/bin/pbscastd audit reconcile --config {desk.config} --site sitea"
        f" {desk.directory}/accounting/sitea/*",
    )
    screen.say("a steady load follows on both sites; Ctrl-C ends the demo")
    try:
        with screen.showing():
            async with asyncio.TaskGroup() as tasks:
                for site in stage.sites.values():
                    tasks.create_task(_load(site.dsn, site.name))
    except asyncio.CancelledError:
        screen.say("ending …")
    screen.conclude()


async def _load(dsn: str, site: str) -> None:
    seed = sum(site.encode())
    load = await asyncio.to_thread(lambda: LoadGenerator(dsn, site, seed=seed))
    async with load:
        await load.run(rate=_LOAD_RATE)


@asynccontextmanager
async def _running(listening: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run something beside the block; if it fails, so does the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(listening)
        yield
        task.cancel()
