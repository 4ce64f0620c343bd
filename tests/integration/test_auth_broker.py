"""`pbscastd auth broker` as a process, with a real nats-server, socket and users."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import nats.errors
import pytest
from harness.auth import Gate, cut
from harness.brokers import RunningBroker, brokering, open_directory
from typer.testing import CliRunner

from pbscast.broker import ask_broker
from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    PbscastError,
    UnavailableError,
    UsageError,
)
from pbscast_deploy.auth.keys import Key, Kind
from pbscast_deploy.auth.listening import listening
from pbscast_deploy.auth.people import everybody, lowest_uid, members, name_of
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.auth.tokens import decode, token_of
from pbscast_deploy.cli import app

ALICE, BOB = pwd.getpwnam("daemon"), pwd.getpwnam("bin")
_FLOOD = """
import os, socket, sys, threading
uid, path = int(sys.argv[1]), sys.argv[2]
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
os.nice(10)
def connect():
    while not ended.is_set():
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
            except BlockingIOError:
                pass
ended = threading.Event()
for _ in range(8):
    threading.Thread(target=connect).start()
print(flush=True)
sys.stdin.read()
ended.set()
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be somebody else")


@pytest.fixture(scope="module")
def broker(gate: Gate) -> Iterator[RunningBroker]:
    with (
        open_directory() as place,
        brokering(place, gate.realm.directory, gate.url, "--uid-min", "1", "--ttl", "5m") as one,
    ):
        yield one


@contextmanager
def flooding(uid: int, path: Path) -> Iterator[None]:
    """Somebody who connects as often as he can, from eight threads."""
    command = [sys.executable, "-c", _FLOOD, str(uid), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as flood:
        assert flood.stdout is not None
        flood.stdout.readline()
        try:
            yield
        finally:
            flood.communicate(timeout=60)


async def enrol(gate: Gate, *names: str) -> None:
    gate.realm.enrol(names)
    await tell(gate.realm, [gate.url])


@as_root
async def test_the_kernel_says_who_asks(gate: Gate, broker: RunningBroker) -> None:
    await enrol(gate, ALICE.pw_name, BOB.pw_name)
    for person, said in ((ALICE, ""), (BOB, ""), (ALICE, '{"name": "bin", "uid": 2}\n')):
        (answer,) = await asyncio.to_thread(broker.asked_by, person.pw_uid, said)
        assert set(answer) == {"credentials", "expires", "servers", "ca"}
        claims = decode(token_of(answer["credentials"]))
        assert claims["name"] == person.pw_name
        expires = datetime.fromisoformat(answer["expires"])
        assert expires == datetime.fromtimestamp(claims["exp"], UTC)
        assert timedelta(minutes=4) < expires - datetime.now(UTC) < timedelta(minutes=6)
        assert answer["servers"] == [gate.url]
        assert answer["ca"] == gate.realm.authority.read_text()
        client = await gate.connect(answer["credentials"])
        with pytest.raises((nats.errors.Error, OSError)):
            await client.request("pbscast.v1.history", b"", timeout=1)
        await client.close()
    log = broker.log.read_text()
    assert f'"name": "{ALICE.pw_name}"' in log
    assert claims["sub"] in log
    for secret in ("SUA", "eyJ", (gate.realm.directory / "keys/user.nk").read_text().strip()):
        assert secret not in log


@as_root
async def test_a_namespace_of_his_own_makes_nobody_somebody_else(
    gate: Gate, broker: RunningBroker
) -> None:
    await enrol(gate, ALICE.pw_name)
    answers = await asyncio.to_thread(broker.asked_by, ALICE.pw_uid, apart=True)
    if not answers:
        pytest.skip("no user namespaces here")
    assert decode(token_of(answers[0]["credentials"]))["name"] == ALICE.pw_name


@as_root
async def test_who_is_not_let_in_is_told_so(gate: Gate, broker: RunningBroker) -> None:
    sync = pwd.getpwnam("sync")
    (answer,) = await asyncio.to_thread(broker.asked_by, sync.pw_uid)
    assert "not enrolled, or barred" in answer["error"]
    await enrol(gate, "sync")
    (answer,) = await asyncio.to_thread(broker.asked_by, sync.pw_uid)
    client = await gate.connect(answer["credentials"])
    await tell(gate.realm, [gate.url], gate.realm.bar("sync"))
    await cut(client)
    (answer,) = await asyncio.to_thread(broker.asked_by, sync.pw_uid)
    assert "barred" in answer["error"]


@as_root
@pytest.mark.parametrize("uid", [0, 65534, 54321])
def test_who_is_no_person_gets_none(broker: RunningBroker, uid: int) -> None:
    (answer,) = broker.asked_by(uid)
    assert list(answer) == ["error", "passing"]
    assert not answer["passing"]
    assert "\n" not in answer["error"]
    assert f"uid {uid}" in answer["error"]


@as_root
async def test_who_asks_without_end_waits_alone(gate: Gate, broker: RunningBroker) -> None:
    await enrol(gate, "games", "man")
    greedy, other = pwd.getpwnam("games").pw_uid, pwd.getpwnam("man").pw_uid
    began = monotonic()
    answers = await asyncio.to_thread(broker.asked_by, greedy, "", 100)
    allowed = 60 + (monotonic() - began)
    refused = [answer["error"] for answer in answers if answer.get("passing")]
    assert 100 - allowed - 1 <= len(refused) <= 40
    assert refused
    assert "too often" in refused[0]
    assert "credentials" in (await asyncio.to_thread(broker.asked_by, other))[0]
    assert broker.log.read_text().count(f"uid {greedy} asks too often") <= 10


@as_root
async def test_many_ask_at_once_while_some_do_not_read(gate: Gate, broker: RunningBroker) -> None:
    names = ["lp", "mail", "news", "uucp", "proxy", "backup"]
    people = [pwd.getpwnam(name) for name in names]
    await enrol(gate, *names)
    with ExitStack() as silent, ThreadPoolExecutor(6) as pool:
        for _ in range(200):
            client = silent.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(broker.socket))
        answers = list(pool.map(lambda one: broker.asked_by(one.pw_uid, "", 20), people))
    for person, answered in zip(people, answers, strict=True):
        given = {decode(token_of(one["credentials"]))["name"] for one in answered}
        assert given == {person.pw_name}
        assert len({one["credentials"] for one in answered}) == 20


@as_root
async def test_who_connects_without_end_keeps_nobody_else_out(
    gate: Gate, broker: RunningBroker
) -> None:
    await enrol(gate, "irc", "list")
    greedy, other = pwd.getpwnam("irc").pw_uid, pwd.getpwnam("list").pw_uid
    with flooding(greedy, broker.socket):
        for _ in range(3):
            (answer,) = await asyncio.to_thread(broker.asked_by, other)
            assert "credentials" in answer
            with pytest.raises(AccessDeniedError, match="uid 0 is not a person's"):
                await ask_broker(broker.socket, 60)


@pytest.mark.parametrize(
    ("passing", "kind"), [(True, UnavailableError), (False, AccessDeniedError)]
)
async def test_a_refusal_that_passes_is_no_lack_of_rights(
    tmp_path: Path, *, passing: bool, kind: type[Exception]
) -> None:
    path = tmp_path / "s"

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps({"error": "because", "passing": passing}).encode())
        writer.close()

    async with await asyncio.start_unix_server(refuse, path):
        with pytest.raises(kind, match="because"):
            await ask_broker(path, 10)


async def test_a_broker_with_too_much_to_do_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        with pytest.raises(UnavailableError, match="has too much to do"):
            await ask_broker(path, 0.2)
        asking = asyncio.create_task(ask_broker(path, 10))
        await asyncio.sleep(0.1)
        listener.accept()[0].close()
        connection, _ = await asyncio.to_thread(listener.accept)
        connection.sendall(b'{"credentials": "c"}')
        connection.close()
        assert (await asking).credentials == "c"


@as_root
async def test_without_nats_people_get_theirs(gate: Gate) -> None:
    with (
        open_directory() as place,
        brokering(place, gate.realm.directory, "tls://127.0.0.1:1", "--uid-min", "1") as alone,
    ):
        (answer,) = await asyncio.to_thread(alone.asked_by, ALICE.pw_uid)
        assert decode(token_of(answer["credentials"]))["name"] == ALICE.pw_name
        assert stat.S_IMODE(alone.socket.stat().st_mode) == 0o666
        alone.process.send_signal(signal.SIGTERM)
        assert alone.process.wait(60) == 0
        assert not alone.socket.exists()
        assert json.loads(alone.log.read_text().splitlines()[-1])["event"] == "stopped"


def test_a_socket_takes_the_place_of_its_own_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="left as it is"), listening(path):
        pass
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="left as it is"), listening(path):
        pass
    path.unlink()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listening(path):
        with pytest.raises(ConfigError, match="somebody listens there already"), listening(path):
            pass
        assert stat.S_ISSOCK(path.lstat().st_mode)
    assert not path.exists()


def test_a_socket_is_not_put_where_others_could_put_theirs(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for mode in (0o777, 0o1777, 0o775):
        (tmp_path / "d").chmod(mode)
        with (
            pytest.raises(ConfigError, match="others may write to it"),
            listening(tmp_path / "d" / "s"),
        ):
            pass
    for directory in (tmp_path / "no", tmp_path / ("long" * 60)):
        with pytest.raises(ConfigError, match="cannot be"), listening(directory / "s"):
            pass
    assert list((tmp_path / "d").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (("--ttl", "0s"), UsageError, "at most a week"),
        (("--ttl", "8d"), UsageError, "at most a week"),
        (("--ttl", "long"), UsageError, "not a duration"),
        (("--server", "ftp://x"), ConfigError, "ftp"),
        (("--key", "/nowhere"), ConfigError, "cannot be read"),
        (("--ca", "/nowhere"), ConfigError, "cannot be read"),
        (("--ca", __file__), ConfigError, "no certificate"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, options: tuple[str, str], error: type[PbscastError], words: str
) -> None:
    Key.make(Kind.ACCOUNT).save(tmp_path / "user.nk")
    given = {"--key": str(tmp_path / "user.nk"), "--server": "tls://a", **dict([options])}
    words_of_it = [word for pair in given.items() for word in pair]
    command = ["auth", "broker", "--socket", str(tmp_path / "s"), *words_of_it]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, error), result.exception
    assert words in str(result.exception)
    assert not (tmp_path / "s").exists()


def test_a_key_that_signs_something_else_is_refused(tmp_path: Path) -> None:
    Key.make(Kind.USER).save(tmp_path / "k")
    command = ["auth", "broker", "--socket", "/s", "--server", "a", "--key", str(tmp_path / "k")]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ConfigError)
    assert "is not keys/user.nk" in str(result.exception)


def test_people_are_those_whom_the_machine_knows() -> None:
    assert name_of(ALICE.pw_uid, 1) == ALICE.pw_name
    for uid in (0, ALICE.pw_uid, 65534):
        with pytest.raises(AccessDeniedError):
            name_of(uid, lowest_uid())
    assert ALICE.pw_name in everybody(1)
    assert ALICE.pw_name in members("daemon", 1)
    assert {"root", "nobody"}.isdisjoint(everybody(0))
    assert everybody(60_000_000) == []
