"""The command line as users and scripts run it: a process, its output and its exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from harness.proxy import cutting_proxy
from harness.stream import Message, Publisher, SiteLog, serve_history
from nats.aio.msg import Msg

from pbscast.requests import JOBS, JobsRequest
from pbscast_deploy.embedded import NatsServer

COMMAND = [sys.executable, "-m", "pbscast"]
NOBODY = "nats://127.0.0.1:1"


@asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONDEVMODE": "", "TZ": "UTC", "COLUMNS": "200", **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*arguments: str, **environment: str) -> tuple[int, bytes, str]:
    async with running(*arguments, **environment) as process, asyncio.timeout(30):
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out, err.decode()


async def watching(publisher: Publisher) -> None:
    """Return once a watch has begun."""
    async with asyncio.timeout(30):
        while not await publisher.consumers():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.02)


async def lines(process: Process, count: int) -> list[bytes]:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return [(await process.stdout.readline()).rstrip(b"\n") for _ in range(count)]


def bodies(*messages: Message) -> list[bytes]:
    return [message.body for message in messages]


async def test_json_lines_are_the_messages_to_the_byte(publisher: Publisher, nats_url: str) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("19.sitea", name="jürgen's job"), site.node("n1.example")]
    async with running("watch", "--json", PBSCAST_SERVERS=nats_url) as process:
        await watching(publisher)
        # Each line comes at once, not when a buffer is full.
        for message in messages:
            await publisher.publish(message)
            assert await lines(process, 1) == [message.body]


async def test_filters_and_the_end(publisher: Publisher, nats_url: str) -> None:
    site = SiteLog("sitea")
    wanted = [*site.life("19.sitea", owner="bob")]
    await publisher.publish(*wanted, *site.life("20.sitea"), *site.life("21.sitea", owner="bob"))
    status, out, err = await run(
        *("watch", "19.sitea", "--owner", "bob", "--event", "state", "--event", "finalize"),
        *("--from-start", "--until-finished", "--json", "--servers", nats_url),
    )
    assert (status, err) == (0, "")
    assert out.splitlines() == bodies(*wanted[1:])


async def test_lines_for_people(publisher: Publisher, nats_url: str) -> None:
    site = SiteLog("sitea")
    evil = site.job("19.sitea", "submit", state="Q", name="\x1b[31mred\nalert", substate=10)
    run_ = site.job("19.sitea", name="good", old_state="Q", state="R", substate=42)
    modify = site.job("19.sitea", "modify", changed={"mtime": "1", "walltime": "01:00"})
    ended = site.job("19.sitea", "finalize", reason="failed", exit_status=1)
    await publisher.publish(evil, run_, modify, ended)
    status, out, _ = await run(
        *("watch", "19", "--from-start", "--until-finished", "--servers", nats_url)
    )
    assert status == 0
    common = "alice      workq     "
    end = "failed exit 1"
    assert out.decode().splitlines() == [
        f"09:00:01 sitea    19.sitea         ?[31mred?alert  {common} submit   Q      10",
        f"09:00:02 sitea    19.sitea         good            {common} state    Q→R    42",
        f"09:00:03 sitea    19.sitea         -               {common} modify   R      walltime",
        f"09:00:04 sitea    19.sitea         -               {common} finalize F      {end}",
    ]


async def test_states_in_either_case(publisher: Publisher, nats_url: str) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("19.sitea")]
    await publisher.publish(*messages)
    _, out, _ = await run(
        *("watch", "19", "--state", "r", "--from-start", "--until-finished", "--json"),
        *("--servers", nats_url),
    )
    assert out.splitlines() == bodies(messages[1])


async def test_since_and_last(publisher: Publisher, nats_url: str) -> None:
    site = SiteLog("sitea")
    first, second = [*site.life("1.sitea")], [*site.life("2.sitea")]
    await publisher.publish(*first, *second)
    common = ("watch", "1", "2", "--until-finished", "--json", "--servers", nats_url)
    _, out, _ = await run(*common, "--since", "2026-11-22T09:00:05Z")
    assert out.splitlines() == bodies(first[-1], *second)
    _, out, _ = await run(*common, "--since", "2026-11-22 09:00:05")
    assert out.splitlines() == bodies(first[-1], *second)
    _, out, _ = await run(*common)
    assert out.splitlines() == bodies(first[-1], second[-1])


async def serve_jobs(publisher: Publisher, *known: str) -> list[bytes]:
    """Answer as the jobs service does; gives what is asked."""
    asked: list[bytes] = []

    async def answer(message: Msg) -> None:
        asked.append(message.data)
        [wanted] = JobsRequest.model_validate_json(message.data).ids
        headers = {
            "Nats-Service-Error": f"NotFoundError: the log has no job {wanted}",
            "Nats-Service-Error-Code": "404",
        }
        refusal = None if wanted in known else headers
        await publisher.client.publish(message.reply, b'{"lives":[]}', headers=refusal)

    await publisher.client.subscribe(JOBS, cb=answer)
    await publisher.client.flush()
    return asked


@pytest.mark.parametrize("option", ["--json", "--last", "--until-finished"])
async def test_a_job_that_nobody_knows_is_said_once_and_waited_for(
    option: str, publisher: Publisher, nats_url: str
) -> None:
    site = SiteLog("sitea")
    asked = await serve_jobs(publisher, "7.sitea")
    arguments = ("7.sitea", "8.sitea", "8.sitea", "9", option, "--servers", nats_url)
    async with running("watch", *arguments) as process:
        assert process.stderr is not None
        async with asyncio.timeout(30):
            said = await process.stderr.readline()
        assert said == b"pbscast: the log has no job 8.sitea; waiting for it\n"
        await publisher.publish(message := site.job("8.sitea", "submit", state="Q"))
        [line] = await lines(process, 1)
        assert line == message.body if option == "--json" else b"8.sitea" in line
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await process.communicate() == (b"", b"")
    assert len(asked) == 2


async def test_history(publisher: Publisher, nats_url: str) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("19.sitea", name="jürgen")]
    await serve_history(publisher, messages, page=2)
    status, out, err = await run("history", "19.sitea", "--json", "--servers", nats_url)
    assert (status, out.splitlines(), err) == (0, bodies(*messages), "")
    status, out, err = await run("history", "19.sitea", "--events", "--servers", nats_url)
    assert out.decode().splitlines()[0].startswith("2026-11-22 09:00:01 sitea    19.sitea")
    status, out, err = await run("history", "20.sitea", "--servers", nats_url)
    assert (status, out, err) == (5, b"", "pbscast: no job 20.sitea\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["watch", "19x", "--servers", NOBODY], 2, "illegally formed job identifier: '19x'"),
        (["history", "19 x", "--servers", NOBODY], 2, "illegally formed job identifier: '19 x'"),
        (["history", "19", "--servers", NOBODY], 2, "'19' lacks its server"),
        (["watch", "--until-finished"], 2, "until_finished needs the ids"),
        (["watch", "--state", "Z"], 2, "'Z' is not one of"),
        (["watch", "--since", "soon"], 2, "--since: not a time: 'soon'"),
        (["watch", "--since", "1h", "--last"], 2, "exclude one another"),
        (["watch", "--servers", "http://x"], 2, "not the URL of a NATS server: 'http://x'"),
        (["watch", "--creds", "/nowhere"], 2, "cannot read the credentials file /nowhere"),
        (["watch", "--colour"], 2, "No such option"),
        (["watch", "--servers", NOBODY], 3, "cannot reach NATS at nats://127.0.0.1:1: connection"),
    ],
    ids=str,
)
async def test_what_goes_wrong_is_one_line_and_a_status(
    arguments: list[str], status: int, message: str
) -> None:
    got, out, err = await run(*arguments)
    assert (got, out) == (status, b"")
    assert message in err
    assert "Traceback" not in err
    assert err.startswith("pbscast: ")
    assert err.count("\n") == 1


async def test_secrets_stay_out_of_messages() -> None:
    _, _, err = await run("watch", "--servers", "nats://alice:secret@127.0.0.1:1")
    assert "secret" not in err
    assert "cannot reach NATS at nats://127.0.0.1:1" in err


@pytest.mark.parametrize("command", [("history", "19.sitea"), ("watch",)])
async def test_nobody_serves(nats_url: str, command: tuple[str, ...]) -> None:
    status, _, err = await run(*command, "--servers", nats_url)
    assert (status, "is pbscastd running?" in err) == (3, True)


async def test_a_refused_user() -> None:
    with NatsServer(config="authorization { user: alice, password: secret }") as server:
        status, _, err = await run("watch", "--servers", server.url)
        wants = "it wants credentials, see PBSCAST_CREDS and PBSCAST_BROKER"
        assert (status, err) == (4, f"pbscast: {server.url} refused us: {wants}\n")


async def test_a_user_who_may_not_read() -> None:
    permissions = "permissions { publish: ['$SYS.x'], subscribe: ['>'] }"
    config = f"authorization {{ users: [{{ user: bob, password: b, {permissions} }}] }}"
    with NatsServer(config=config) as server:
        url = server.url.replace("//", "//bob:b@")
        status, _, err = await run("watch", "--servers", url)
        assert (status, err) == (
            4,
            f"pbscast: {server.url} refused pbscast.v1.open: ask who runs pbscast\n",
        )


@pytest.mark.skipif(sys.platform == "win32", reason="sends a Unix signal")
async def test_ctrl_c_leaves_nothing_behind(publisher: Publisher, nats_url: str) -> None:
    async with running("watch", "--servers", nats_url) as process:
        await watching(publisher)
        message = SiteLog("sitea").job("19.sitea")
        await publisher.publish(message)
        assert len(await lines(process, 1)) == 1  # it knows by now what it has opened
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")
    assert await publisher.consumers() == []


@pytest.mark.parametrize("form", [["--json"], []], ids=str)
async def test_a_reader_that_has_had_enough(
    publisher: Publisher, nats_url: str, form: list[str]
) -> None:
    site = SiteLog("sitea")
    await publisher.publish(*site.life("19.sitea"))
    read, write = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("watch", "--from-start", *form, "--servers", nats_url),
        stdout=write,
        stderr=PIPE,
    )
    os.close(write)
    with os.fdopen(read, "rb") as reader:
        assert b"sitea" in await asyncio.to_thread(reader.readline)
    while process.returncode is None:
        await publisher.publish(site.job("20.sitea"))
        await asyncio.sleep(0.05)
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_a_lost_connection_is_said_once_and_nothing_is_missing(
    publisher: Publisher, nats_url: str
) -> None:
    site = SiteLog("sitea")
    first, second = [*site.life("1.sitea")], [*site.life("2.sitea")]
    port = int(nats_url.rpartition(":")[2])
    async with cutting_proxy(("127.0.0.1", port)) as proxy:
        url = f"nats://127.0.0.1:{proxy.port}"
        async with running("watch", "--json", "--servers", url) as process:
            assert process.stderr is not None
            await watching(publisher)
            await publisher.publish(*first)
            assert await lines(process, 5) == bodies(*first)
            proxy.refusing = True
            proxy.cut()
            assert (await process.stderr.readline()).startswith(b"pbscast: connection lost")
            await publisher.publish(*second)
            proxy.refusing = False
            assert await lines(process, 5) == bodies(*second)
            assert await process.stderr.readline() == b"pbscast: connected again\n"


async def test_version() -> None:
    status, out, _ = await run("--version")
    assert (status, out) == (0, b"pbscast 0.1.0\n")


def test_entry_point_is_installed() -> None:
    assert (Path(sys.executable).parent / "pbscast").exists()
