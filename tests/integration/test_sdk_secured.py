"""Users of a secured NATS: a real nats-server with accounts and TLS, a real worker."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.auth import secured
from harness.fanning import draft, write
from harness.proxy import cutting_proxy
from harness.secured import Town, handing_out, town

import pbscast
from pbscast import Boundary, ConnectionState, Matched, Missed, connection, credentials, dialing
from pbscast.driver import Driver
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.askers import SLOTS, Role
from pbscast_store.drafts import Draft
from pbscast_store.log import Log


@pytest.fixture
async def place(log: Log, tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path / "realm", log) as place:
        yield place


@pytest.fixture(autouse=True)
def quick_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "RECONNECT_WAIT", 0.1)
    monkeypatch.setattr(connection, "REFUSED", 1.5)


def of(owner: str, job: str) -> Draft:
    one = draft(job)
    return replace(one, payload=one.payload.model_copy(update={"owner": owner}))


BOTH = [of("alice", "1.sitea"), of("bob", "2.sitea")]


class Told:
    """What readers of several kinds are told of one job, beside their beginnings."""

    def __init__(self, client: pbscast.Client) -> None:
        self._readers: dict[str, pbscast.Watch | pbscast.Subscription] = {
            "watch": client.watch("1.sitea"),
            "kept": client.subscribe("1.sitea"),
            "live": client.subscribe("1.sitea", delivery="at-most-once"),
        }
        self.positions: dict[str, list[int]] = {name: [] for name in self._readers}
        self.missed: list[Missed] = []
        self._ready = 1
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, reader in self._readers.items():
                tasks.create_task(self._follow(name, reader))

    async def ready(self) -> None:
        """Wait until every reader hears what happens."""
        await self._until(lambda: self._ready == len(self._readers))

    async def reach(self, position: int) -> None:
        """Wait until every reader was told it."""
        await self._until(lambda: all(position in told for told in self.positions.values()))

    async def _until(self, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(condition)

    async def _follow(self, name: str, reader: pbscast.Watch | pbscast.Subscription) -> None:
        async with reader:
            async for item in reader:
                async with self._news:
                    if isinstance(item, Boundary):
                        self._ready += 1
                    elif isinstance(item, Missed):
                        self.missed.append(item)
                    elif isinstance(item, Matched):
                        self.positions[name].append(item.event.position)
                    elif isinstance(item, pbscast.Change):
                        self.positions[name].append(item.position)
                    self._news.notify_all()


async def test_a_user_reads_what_is_hers_as_in_a_nats_open_to_all(place: Town, log: Log) -> None:
    await write(log, "sitea", BOTH)
    async with place.enter("alice") as client, asyncio.timeout(30):
        async with client.watch(start=pbscast.beginning()) as everything:
            # Positions of others are no holes.
            told = [await anext(everything) for _ in range(2)]
            await write(log, "sitea", BOTH * 3)
            told += [await anext(everything) for _ in range(3)]
        assert [getattr(item, "position", item) for item in told] == [
            1,
            Boundary({"sitea": 1}),
            3,
            5,
            7,
        ]
        async with client.watch(start=pbscast.after({"sitea": 4})) as rest:
            assert [(await anext(rest)).position for _ in range(2)] == [5, 7]  # type: ignore[union-attr]
        assert [event.position async for event in client.history("1.sitea")] == [1, 3, 5, 7]
        with pytest.raises(pbscast.AccessDeniedError, match="nothing of that is alice's to see"):
            await client.watch(owners="bob").open()
    creds = await place.creds("ann", role=Role.OPERATOR, sites=("siteb",))
    async with place.enter("ann", creds=creds) as client:
        with pytest.raises(pbscast.AccessDeniedError, match="ann may see siteb alone"):
            await client.watch(start=pbscast.after({"sitea": 1})).open()
    assert await asyncio.to_thread(history_by_command, place, await place.creds("alice")) == 4


def history_by_command(place: Town, creds: Path) -> int:
    """How many lines it gives; there is nothing on stderr."""
    named = {"SERVERS": place.url, "CREDS": str(creds), "CA": str(place.ca)}
    environ = {**os.environ, **{f"PBSCAST_{name}": value for name, value in named.items()}}
    command = [sys.executable, "-m", "pbscast", "history", "1.sitea", "--json"]
    done = subprocess.run(command, capture_output=True, env=environ, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.count(b"\n")


def port_of(client: pbscast.Client) -> int | None:
    """Of the server that it is connected to."""
    url = client._connection.nats.connected_url
    return None if url is None else url.port


async def test_what_a_broker_hands_out_is_renewed_without_anybody_noticing(
    place: Town, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are renewed as soon as they are there, and run out long after the test."""
    monkeypatch.setattr(credentials, "_RENEWED", 0)
    monkeypatch.setattr(credentials, "_LOOK", 0.5)
    moves, states = 0, list[ConnectionState]()
    before = await write(log, "sitea", BOTH[:1])
    port = urlsplit(place.url).port
    assert port is not None

    def note_move() -> None:
        nonlocal moves
        moves += port_of(client) == port

    path = tmp_path / "broker"
    async with cutting_proxy(("127.0.0.1", port)) as proxy, AsyncExitStack() as stack:
        servers = [f"tls://127.0.0.1:{proxy.port}"]

        async def answer() -> object:
            creds = await place.gate.creds("alice")
            ca = place.ca.read_text()
            return {"credentials": creds, "expires": "", "servers": servers, "ca": ca}

        await stack.enter_async_context(handing_out(path, answer))
        client = await stack.enter_async_context(
            pbscast.connect(broker=path, connect_timeout=60, on_state=states.append)
        )
        told = Told(client)
        listening = asyncio.create_task(told.listen())
        await told.ready()
        client._connection.listen(note_move)
        servers[:] = [place.url]
        last = before
        async with asyncio.timeout(60):
            while moves < 3:
                last = await write(log, "sitea", BOTH[:1] * 3)
                await asyncio.sleep(0.02)
        # Those before are cut off, long after they were left: nobody uses them any more.
        proxy.cut()
        last = await write(log, "sitea", BOTH[:1])
        await told.reach(last)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    everything = list(range(before + 1, last + 1))
    assert told.positions == dict.fromkeys(told.positions, everything)
    assert told.missed == []
    assert states == [ConnectionState.CONNECTED, ConnectionState.CLOSED]


async def test_a_broker_that_refuses_is_silent_or_is_none(tmp_path: Path) -> None:
    path = tmp_path / "broker"

    async def entered() -> None:
        async with pbscast.connect(broker=path, connect_timeout=0.2):
            pass

    with pytest.raises(pbscast.UnavailableError, match="is pbscastd auth broker running"):
        await entered()
    refusals: list[tuple[object, type[Exception], str]] = [
        ({"error": "nobody knows uid 7"}, pbscast.AccessDeniedError, "nobody knows uid 7"),
        ({}, pbscast.UnavailableError, "is it a broker of pbscast"),
        ({"credentials": "x", "servers": ["a"]}, pbscast.UsageError, "holds no credentials"),
    ]
    for content, error, text in refusals:

        async def answer(content: object = content) -> object:
            return content

        async with handing_out(path, answer):
            with pytest.raises(error, match=text):
                await entered()
        path.unlink()

    async def nothing() -> object:
        return await asyncio.Event().wait()

    async with handing_out(path, nothing):
        with pytest.raises(pbscast.UnavailableError, match="no answer from the broker"):
            await entered()


async def test_a_new_file_is_used_and_an_old_one_ends_it_in_one_line(place: Town, log: Log) -> None:
    await write(log, "sitea", BOTH[:1])
    creds = await place.creds("alice")
    async with (
        asyncio.timeout(30),
        place.enter("alice", creds=creds) as client,
        client.watch("1.sitea") as watch,
    ):
        [revoked] = place.realm.revoke("alice")
        await place.creds("alice")
        await tell(place.realm, [place.gate.url], [revoked])
        await write(log, "sitea", BOTH[:1] * 2)
        assert [(await anext(watch)).position for _ in range(2)] == [2, 3]  # type: ignore[union-attr]
        await tell(place.realm, [place.gate.url], place.realm.revoke("alice"))
        with pytest.raises(pbscast.AccessDeniedError, match="were they revoked") as caught:
            await anext(watch)
        assert str(creds) in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_a_move_to_new_credentials_that_fails_is_tried_again(
    place: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_RENEWED", 0)
    monkeypatch.setattr(credentials, "_LOOK", 0.2)
    states, moved = list[ConnectionState](), asyncio.Event()
    creds = await place.creds("alice")
    async with place.enter("alice", creds=creds, on_state=states.append) as client:
        dialer = client._connection._dialer
        dial = dialer.dial

        async def fail(listener: dialing.Listener) -> Driver:
            monkeypatch.setattr(dialer, "dial", dial)
            raise pbscast.UnavailableError("the server is busy")

        monkeypatch.setattr(dialer, "dial", fail)
        client._connection.listen(moved.set)
        await place.creds("alice")
        async with asyncio.timeout(60):
            await moved.wait()
        assert dialer.dial == dial, "it has not failed before"
        assert states == [ConnectionState.CONNECTED]


async def watch_until_refused(place: Town, creds: Path) -> str | None:
    """What a watch ends with; None: it had not begun when the credentials ran out."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(60))
        try:
            client = await stack.enter_async_context(place.enter("alice", creds=creds))
            watch = await stack.enter_async_context(client.watch())
        except pbscast.AccessDeniedError:
            return None
        with pytest.raises(pbscast.AccessDeniedError) as caught:
            await anext(watch)
        return str(caught.value)


async def test_credentials_that_have_expired_and_none_at_all(place: Town) -> None:
    for seconds in (3, 10, 30):
        creds = await place.creds("alice", timedelta(seconds=seconds))
        if (told := await watch_until_refused(place, creds)) is not None:
            break
    expired = r"expired .* UTC, get new ones"
    assert re.search(expired, told or "")
    for shown, text in ((creds, expired), (None, "it wants credentials")):
        with pytest.raises(pbscast.AccessDeniedError, match=text):
            async with pbscast.connect(place.url, shown, ca=place.ca):
                pass


async def test_all_readers_that_one_may_have_survive_a_cut(place: Town, log: Log) -> None:
    port = urlsplit(place.url).port
    assert port is not None
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(cutting_proxy(("127.0.0.1", port)))
        client = await stack.enter_async_context(
            place.enter("alice", f"tls://127.0.0.1:{proxy.port}")
        )
        watches = [await stack.enter_async_context(client.watch()) for _ in range(SLOTS)]
        with pytest.raises(pbscast.ConflictError, match="close one"):
            await client.watch().open()
        for _ in range(3):
            proxy.cut()
            last = await write(log, "sitea", BOTH[:1] * 2)
            async with asyncio.timeout(30):
                for watch in watches:
                    told = [(await anext(watch)).position for _ in range(2)]  # type: ignore[union-attr]
                    assert told == [last - 1, last]
        await watches[0].close()
        async with client.watch():
            pass


async def test_what_is_wrong_with_tls_is_said_in_one_line(tmp_path: Path) -> None:
    Realm.init(tmp_path / "realm", ["nats.example.org"])
    Realm.init(tmp_path / "other", ["127.0.0.1"])
    ca = tmp_path / "realm" / "server" / "tls" / "ca.pem"
    unknown = ca.parents[3] / "other" / "server" / "tls" / "ca.pem"
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")

    async def enter(url: str, ca: Path | None) -> None:
        async with pbscast.connect(url, ca=ca, connect_timeout=5):
            pass

    with secured(tmp_path / "realm") as server, NatsServer(durable=False) as plain:
        tls = server.url.replace("nats://", "tls://")
        for url, authority, text in (
            (tls, None, "not from an authority that is trusted here: set PBSCAST_CA"),
            (server.url, None, "not from an authority that is trusted here: set PBSCAST_CA"),
            (tls, unknown, "not from an authority that is trusted here: set PBSCAST_CA"),
            (tls, ca, "is for other names"),
            (plain.url.replace("nats://", "tls://"), ca, "speaks no TLS"),
            (tls, empty, f"{empty} holds no certificate"),
            (tls, tmp_path / "none.pem", "none.pem: No such file"),
        ):
            with pytest.raises(pbscast.UsageError, match=text) as caught:
                await enter(url, authority)
            assert "\n" not in str(caught.value)
