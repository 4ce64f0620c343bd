"""``pbscast subscribe`` and ``pbscast subscriptions`` as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from harness.standing_in import Deliverer, standing
from harness.stream import BEGIN, SiteLog

from pbscast import wire
from pbscast.subscriptions import RenewRequest, SubscribeRequest

COMMAND = [sys.executable, "-m", "pbscast"]


@asynccontextmanager
async def running(*arguments: str, servers: str) -> AsyncIterator[Process]:
    environment = {**os.environ, "TZ": "UTC", "COLUMNS": "200", "PBSCAST_SERVERS": servers}
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=PIPE, stderr=PIPE, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*arguments: str, servers: str) -> tuple[int | None, list[str], str]:
    async with running(*arguments, servers=servers) as process:
        return await outcome(process)


async def outcome(process: Process) -> tuple[int | None, list[str], str]:
    async with asyncio.timeout(30):
        out, err = await process.communicate()
        return process.returncode, out.decode().splitlines(), err.decode()


async def test_prints_lines_and_ends_well_when_every_job_has_ended(
    tier: Deliverer, nats_url: str
) -> None:
    log, at_b = SiteLog("sitea", position=4), SiteLog("siteb")
    arguments = ("1.sitea", "2.sitea", "--attribute", "comment", "--lease", "2h")
    async with running("subscribe", *arguments, servers=nats_url) as process:
        await tier.seen(lambda: tier.known)
        [(key, request)] = tier.known.items()
        assert (request.attributes, request.lease) == (("comment",), 7200)
        ended = standing("2.sitea", ended=BEGIN.isoformat(), reason="failed", exit_status=1)
        commented = standing("1.sitea", name="train", attributes={"comment": "waits"})
        await tier.begin(key, "sitea", 4, commented, ended)
        changed = log.job("1.sitea", "modify", changed={"comment": "runs"}, name="train")
        await tier.event(key, changed)
        gone = log.job("1.sitea", "finalize", reason="moved", destination="workq@siteb")
        await tier.event(key, gone, "ended", to="siteb")
        await tier.event(key, at_b.job("1.sitea", "finalize", exit_status=0), "ended")
        await tier.complete(key)
        status, lines, err = await outcome(process)
    assert [line.split() for line in lines] == [
        ["sitea", "1.sitea", "train", "alice", "workq", "stands", "R", "comment=waits"],
        ["sitea", "2.sitea", "-", "alice", "workq", "stands", "R", "failed", "exit", "1"],
        ["09:00:05", "sitea", "1.sitea", "train", "alice", "workq", "modify", "R", "comment"],
        [
            *["09:00:06", "sitea", "1.sitea", "-", "alice", "workq", "finalize", "F"],
            *["moved", "to", "workq@siteb", "(goes", "on", "at", "siteb)"],
        ],
        [
            *["09:00:01", "siteb", "1.sitea", "-", "alice", "workq", "finalize", "F"],
            *["finished", "exit", "0"],
        ],
    ]
    assert len({line.index("1.sitea") for line in lines if "1.sitea" in line}) == 1
    assert (status, err) == (0, "pbscast: every job has ended\n")
    assert not tier.known


async def test_json_is_what_is_on_nats_and_what_is_kept_goes_on(
    tier: Deliverer, nats_url: str
) -> None:
    log = SiteLog("sitea")
    filters = ("--owner", "alice", "--where", "exists comment")
    async with running("subscribe", *filters, "--keep", "--json", servers=nats_url) as process:
        await tier.seen(lambda: tier.known)
        [key] = tier.known
        first = log.job("1.sitea")
        await tier.event(key, first)
        assert process.stdout is not None
        line = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGINT)
        status, _, err = await outcome(process)
    assert (status, err) == (130, f"pbscast: subscription {key}\n")
    assert line["event"] == json.loads(first.body)
    assert (line["site"], line["n"], line["passage"]) == ("sitea", 1, "stayed")
    assert wire.decode(json.dumps(line["event"])).position == 1

    async with running("subscribe", "--attach", key, "--json", servers=nats_url) as process:
        await tier.seen(lambda: any(item.resume for item in tier.requests(RenewRequest)))
        await tier.event(key, log.job("1.sitea"))
        tier.skip(key, "sitea", 3)
        log.position += 3
        await tier.event(key, log.job("1.sitea"))
        await tier.complete(key)
        status, lines, err = await outcome(process)
    assert [json.loads(line).get("n") for line in lines] == [2, 6, None]
    assert status == 0
    assert "missed: events of site sitea after position 2, before position 6" in err


async def test_lists_them_and_ends_them(tier: Deliverer, nats_url: str) -> None:
    first, second = "1" * 32, "2" * 32
    tier.known[first] = SubscribeRequest(id=first, ids=("1.sitea", "2.sitea"), shared=True)
    tier.known[second] = SubscribeRequest(id=second, owners=("alice",))
    (status, lines, _), (_, as_json, _), gone = await asyncio.gather(
        run("subscriptions", servers=nats_url),
        run("subscriptions", "--json", servers=nats_url),
        run("subscribe", "--attach", "3" * 32, servers=nats_url),
    )
    assert status == 0
    assert [line.split() for line in lines] == [
        ["subscription", "expires", "delivery", "shared", "ids", "pending"],
        [first, "2026-11-22", "09:00:00", "at-least-once", "yes", "2", "2"],
        [second, "2026-11-22", "09:00:00", "at-least-once", "no", "-", "-"],
    ]
    assert [json.loads(line)["id"] for line in as_json] == [first, second]
    assert gone[:2] == (5, [])
    assert f"subscription {'3' * 32} is no more" in gone[2]
    ending = ("subscriptions", "--end", first, "--end", second)
    assert await run(*ending, servers=nats_url) == (0, [], "")
    assert not tier.known
    status, _, err = await run("subscriptions", "--end", first, servers=nats_url)
    assert (status, err) == (5, f"pbscast: there is no subscription {first}\n")


@pytest.fixture
def heeded() -> Iterator[None]:
    """As from a terminal: who runs the tests may ignore it, and its children with it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_who_is_told_to_end_leaves_no_subscription_behind(
    tier: Deliverer, nats_url: str, number: signal.Signals
) -> None:
    async with running("subscribe", "--owner", "alice", servers=nats_url) as process:
        await tier.seen(lambda: tier.known)
        [key] = tier.known
        await tier.begin(key, "sitea", 1, standing())
        assert process.stdout is not None
        assert b"stands" in await process.stdout.readline()
        process.send_signal(number)
        assert await outcome(process) == (128 + number, [], "")
    assert not tier.known


async def test_ids_come_from_a_file(tier: Deliverer, nats_url: str, tmp_path: Path) -> None:
    listed = tmp_path / "ids"
    listed.write_text("2.sitea 3.sitea\n4.sitea\n")
    arguments = ("subscribe", "1.sitea", "--ids-from", str(listed))
    async with running(*arguments, servers=nats_url) as process:
        await tier.seen(lambda: tier.known)
        [(key, request)] = tier.known.items()
        assert request.ids == ("1.sitea", "2.sitea", "3.sitea", "4.sitea")
        await tier.complete(key)
        assert (await outcome(process))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("19", "--lease", "2d"), "lacks its server"),
        (("--attach", "x", "--owner", "alice"), "--attach goes on with what is there"),
        (("1.sitea", "--lease", "1s"), "lease: has to be at least 10, in seconds"),
        (("--ids-from", "/nowhere"), "--ids-from: /nowhere cannot be read"),
        (("--event", "purge"), "'purge' comes after a job's last word"),
    ],
)
async def test_wrong_usage_is_one_line_before_anybody_is_asked(
    arguments: tuple[str, ...], words: str
) -> None:
    status, lines, err = await run("subscribe", *arguments, servers="nats://127.0.0.1:1")
    assert (status, lines) == (2, [])
    assert words in err
    assert err.count("\n") == 1
