"""`pbscastd auth` as an administrator uses it, with a real nats-server."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import nats
import nats.errors
import pytest
from harness.auth import Gate, cut, secured, uncommented
from nats.aio.client import RawCredentials
from typer.testing import CliRunner, Result

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UsageError,
)
from pbscast_deploy.auth import layout
from pbscast_deploy.auth.keys import Key, Kind
from pbscast_deploy.auth.layout import Principal
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.auth.tokens import decode, encode, token_of
from pbscast_deploy.cli import app
from pbscast_deploy.embedded import NatsServer
from pbscast_deploy.embedded.binaries import find_nats_server
from pbscast_fanout.askers import Role


@pytest.fixture
def realm(tmp_path: Path) -> Path:
    Realm.init(tmp_path / "realm", ["127.0.0.1"])
    return tmp_path / "realm"


@pytest.fixture
def server(realm: Path) -> Iterator[NatsServer]:
    with secured(realm) as running:
        yield running


def pbscastd(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["auth", *map(str, arguments)])


def done(*arguments: str | Path) -> str:
    result = pbscastd(*arguments)
    assert result.exception is None, result.exception
    return result.output


def seed_of(content: str) -> str:
    seed = content.split("SEED-----")[1].split(maxsplit=1)[0]
    assert Key(seed.encode()).kind is Kind.USER
    return seed


async def is_let_in(gate: Gate, content: str) -> bool:
    refusals: list[str] = []
    try:
        client = await gate.connect(content, refusals)
    except (nats.errors.Error, OSError):
        assert any("auth" in text.lower() for text in refusals), refusals
        return False
    await client.close()
    return True


def test_a_first_start(tmp_path: Path) -> None:
    directory = tmp_path / "realm"
    told = done("init", directory, "--host", "nats.example.org", "--host", "10.0.0.1")
    assert "for you alone" in told
    modes = {path: path.stat().st_mode & 0o777 for path in (directory, *directory.rglob("*"))}
    assert modes[directory] == 0o700
    readable = {str(path.relative_to(directory)) for path, mode in modes.items() if mode & 0o077}
    public = ("auth.conf", "nats-server.conf", "leaf.conf", "tls/ca.pem", "tls/server.pem")
    assert readable == {"server", "server/tls", *(f"server/{name}" for name in public)}
    assert not any(mode & 0o022 for mode in modes.values())
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", directory / "server/tls/server.pem"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in ("DNS:nats.example.org", "IP Address:10.0.0.1", "DNS:localhost"):
        assert name in shown
    seeds = [path.read_text().strip() for path in (directory / "keys").glob("*.nk")]
    copied = "".join(path.read_text() for path in (directory / "server").rglob("*.*"))
    assert not any(seed in copied + told for seed in seeds)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert isinstance(pbscastd("init", directory).exception, ConfigError)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    assert isinstance(pbscastd("init", tmp_path / "no" / "realm").exception, ConfigError)
    assert isinstance(pbscastd("init", tmp_path / "r", "--host", "é.org").exception, UsageError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sections", [(), ("cluster",), ("leafnodes",), ("cluster", "leafnodes")])
def test_nats_server_takes_the_configuration_as_it_is(
    realm: Path, sections: tuple[str, ...]
) -> None:
    directory = realm / "server"
    text = (directory / "nats-server.conf").read_text()
    for section in sections:
        text = uncommented(text, section)
    (directory / "changed.conf").write_text(text)
    command = [str(find_nats_server()), "--config", "changed.conf", "-t"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    assert result.returncode == 0, result.stderr


async def test_credentials_are_issued_and_revoked(realm: Path, server: NatsServer) -> None:
    gate = Gate(realm, server.url)
    place, out = ("--dir", realm, "--server", server.url), realm.parent
    issue = ("issue", "alice", "--role", "user")
    first, second = out / "1.creds", out / "2.creds"
    for file in (first, second):
        told = await asyncio.to_thread(done, *issue, "--out", file, *place)
        assert file.stat().st_mode & 0o777 == 0o600
        assert seed_of(file.read_text()) not in told
    one = await gate.connect(first.read_text())
    other = await gate.connect(second.read_text())
    key = str(decode(token_of(first.read_text()))["sub"])
    await asyncio.to_thread(done, "revoke", key, *place)
    await cut(one)
    assert not await is_let_in(gate, first.read_text())
    assert other.is_connected
    await asyncio.to_thread(done, "revoke", "alice", *place)
    await cut(other)
    assert not await is_let_in(gate, second.read_text())
    third = out / "3.creds"
    await asyncio.to_thread(done, *issue, "--out", third, *place)
    assert await is_let_in(gate, third.read_text())
    assert not await is_let_in(gate, second.read_text())
    shown = done("list", "--dir", realm)
    issued = [words for words in map(str.split, shown.splitlines()) if words[0] == "alice"]
    assert len(issued) == 3
    assert [line[3] for line in issued].count("revoked") == 2


async def test_a_service_is_revoked_without_the_others(realm: Path, server: NatsServer) -> None:
    gate = Gate(realm, server.url)
    one, other = await gate.creds("one", Role.SERVICE), await gate.creds("other", Role.SERVICE)
    await tell(gate.realm, [server.url], gate.realm.revoke("one"))
    assert not await is_let_in(gate, one)
    assert await is_let_in(gate, other)


async def test_credentials_expire_by_themselves(realm: Path, server: NatsServer) -> None:
    gate = Gate(realm, server.url)
    content = await gate.creds("alice", ttl=timedelta(seconds=4))
    await cut(await gate.connect(content))
    async with asyncio.timeout(30):
        # The server lets in until the second is over.
        while await is_let_in(gate, content):
            pass
    assert [one.state for one in gate.realm.issued()] == ["expired"]


async def test_accounts_can_be_told_later_and_survive_a_restart(
    realm: Path, server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(realm, server.url)
    content = gate.realm.issue(Principal("alice", Role.USER), timedelta(hours=1)).content
    assert not await is_let_in(gate, content)
    caplog.clear()
    told = await asyncio.to_thread(done, "push", "--dir", realm, "--server", server.url)
    assert told == f"3 accounts told\n{server.url}: told\n"
    assert caplog.messages == []
    assert await is_let_in(gate, content)
    await asyncio.to_thread(server.restart)
    assert await is_let_in(gate, content)


async def test_nobody_else_signs(realm: Path, server: NatsServer) -> None:
    """Not another authority, not a key of another role, not whoever changes a token."""
    gate = Gate(realm, server.url)
    content = await gate.creds("alice")
    await gate.creds("carol", Role.AUDITOR)
    claims, seed = decode(token_of(content)), seed_of(content)
    auditor = Principal("carol", Role.AUDITOR).account
    keys = {role: Key.load(realm / "keys" / f"{role}.nk") for role in (Role.USER, Role.AUDITOR)}
    attempts = {
        "signed by himself": encode(claims, Key(seed.encode())),
        "signed by a stranger": encode(claims, Key.make(Kind.ACCOUNT)),
        "an auditor's account": encode(
            {**claims, "nats": {**claims["nats"], "issuer_account": auditor}}, keys[Role.USER]
        ),
        "rights of his own": encode(
            {**claims, "nats": {**claims["nats"], "pub": {"allow": [">"]}}}, keys[Role.USER]
        ),
        "an altered name": token_of(content).replace(".", ".e30", 1),
    }
    for what, token in attempts.items():
        assert not await is_let_in(gate, content.replace(token_of(content), token)), what
    fair = encode(
        {**claims, "nats": {**claims["nats"], "issuer_account": auditor}}, keys[Role.AUDITOR]
    )
    assert await is_let_in(gate, content.replace(token_of(content), fair))


async def test_nobody_comes_in_without_credentials_or_tls(realm: Path, server: NatsServer) -> None:
    gate = Gate(realm, server.url)
    content = await gate.creds("alice")
    ours = ssl.create_default_context(cafile=gate.realm.authority)
    with pytest.raises((nats.errors.Error, OSError)):
        await nats.connect(server.url, tls=ours, allow_reconnect=False)
    with pytest.raises((nats.errors.Error, OSError)):
        await nats.connect(
            server.url,
            user_credentials=RawCredentials(content),
            tls=ssl.create_default_context(),
            allow_reconnect=False,
        )


async def test_servers_that_do_not_take_accounts(
    realm: Path, tmp_path: Path, server: NatsServer
) -> None:
    await asyncio.to_thread(server.stop)
    mine = Realm(realm)
    with pytest.raises(UnavailableError, match="nothing is lost, later: pbscastd auth push"):
        await tell(mine, [server.url], [])
    await asyncio.to_thread(server.start)
    stranger = Realm.init(tmp_path / "other", ["127.0.0.1"])
    (tmp_path / "other/server/tls/ca.pem").write_bytes(mine.authority.read_bytes())
    with pytest.raises(AccessDeniedError, match="does not know this authority"):
        await tell(stranger, [server.url], [])
    tls = mine.authority.parent
    files = f"tls {{ cert_file: '{tls}/server.pem', key_file: '{tls}/server.key' }}"
    with (
        NatsServer(durable=False, config=files) as other,
        pytest.raises(ConfigError, match="keeps no accounts"),
    ):
        await tell(mine, [other.url], list(mine.accounts().values()))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("issue", "a b", "--role", "user"), UsageError),
        (("issue", "alice", "--role", "operator"), UsageError),
        (("issue", "alice", "--role", "user", "--ttl", "0d"), UsageError),
        (("issue", "alice", "--role", "user", "--ttl", "9999d"), UsageError),
        (("issue", "alice", "--role", "user", "--sites", "site a"), UsageError),
    ],
)
def test_what_makes_no_sense_is_refused(
    realm: Path, arguments: tuple[str, ...], error: type[PbscastError]
) -> None:
    out = realm.parent / "a.creds"
    result = pbscastd(*arguments, "--dir", realm, "--out", out)
    assert isinstance(result.exception, error), result.exception
    assert not out.exists()
    assert Realm(realm).issued() == []


def test_other_refusals(realm: Path, tmp_path: Path) -> None:
    assert isinstance(pbscastd("revoke", "bob", "--dir", realm).exception, NotFoundError)
    assert isinstance(pbscastd("list", "--dir", tmp_path / "no").exception, ConfigError)
    assert isinstance(pbscastd("push", "--dir", realm).exception, UsageError)
    taken = tmp_path / "taken"
    taken.write_text("mine")
    issue = ("issue", "alice", "--role", "user", "--dir", realm, "--out", taken)
    assert isinstance(pbscastd(*issue).exception, ConfigError)
    assert taken.read_text() == "mine"
    assert Realm(realm).issued() == []
    (realm / "keys" / "user.nk").chmod(0o644)
    result = pbscastd(*issue[:-1], tmp_path / "new")
    assert isinstance(result.exception, ConfigError)
    assert "chmod 600" in str(result.exception)


def test_what_cannot_be_written_is_not_issued(realm: Path, tmp_path: Path) -> None:
    issue = ("issue", "alice", "--role", "user", "--dir", realm, "--out")
    result = pbscastd(*issue, tmp_path / "no" / "alice.creds")
    assert isinstance(result.exception, ConfigError)
    assert "no/alice.creds: cannot be written: No such file" in str(result.exception)
    done("bar", "alice", "--dir", realm)
    assert isinstance(pbscastd(*issue, tmp_path / "alice.creds").exception, UsageError)
    assert not (tmp_path / "alice.creds").exists()
    assert Realm(realm).issued() == []


@pytest.mark.parametrize(
    ("role", "first", "more"),
    [("user", "sitea", "all"), ("auditor", "sitea", "all"), ("operator", "sitea", "sitea,siteb")],
)
def test_who_has_certain_sites_keeps_them_until_others_are_named(
    realm: Path, role: str, first: str, more: str
) -> None:
    numbers = count()

    def issue(*sites: str) -> str:
        out = realm.parent / f"{next(numbers)}.creds"
        words = ("issue", "erin", "--role", role, *sites)
        return done(*words, "--dir", realm, "--out", out)

    def shown() -> list[str]:
        lines = done("list", "--dir", realm).splitlines()
        return [line.split()[2] for line in lines if line.split()[0] == "erin"]

    assert "before:" not in issue("--sites", first) + issue()
    assert shown() == [first] * 2
    assert f"sites {more}, before: {first}" in issue("--sites", more)
    assert shown() == [more] * 3
    assert "before:" not in issue()
    assert f"sites {first}, before: {more}" in issue("--sites", first)
    assert shown() == [first] * 5


def test_other_sites_change_the_account(realm: Path) -> None:
    mine = Realm(realm)

    def issue(*sites: str) -> str:
        return mine.issue(Principal("carol", Role.OPERATOR, sites), timedelta(hours=1)).account

    first, again, more = issue("sitea"), issue("sitea"), issue("sitea", "siteb")
    assert first == again
    assert decode(more)["iat"] > decode(first)["iat"]
    assert "pbs.v1.siteb.>" in str(decode(more)["nats"]["imports"])
    assert mine.accounts()[decode(more)["sub"]] == more
    assert all(one.expires > datetime.now(UTC) for one in mine.issued())


async def test_a_new_release_gives_every_account_what_is_its_own(
    realm: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(realm, server.url)
    bare = {**layout.system_account(""), "imports": []}
    with monkeypatch.context() as older:
        older.setattr(layout, "SLOTS", 1)
        older.setattr(layout, "_STREAMS", ("PBS",))
        older.setattr(layout, "system_account", lambda _: bare)
        gate.realm.refresh()
        content = await gate.creds("alice")
        await tell(gate.realm, [gate.url], gate.realm.revoke("alice"))
    assert "NEXT.PBS_DELIVERIES" not in str([*map(decode, gate.realm.accounts().values())])
    now = gate.realm.refresh()
    await tell(gate.realm, [gate.url], now)
    claims = {decode(token)["name"]: decode(token)["nats"] for token in now}
    assert "NEXT.PBS_DELIVERIES.*" in str(claims["PBS"]["exports"])
    assert "NEXT.PBS_DELIVERIES.user-alice-8adf3844-16" in str(claims["alice"]["imports"])
    assert "settle" in str(claims["SYS"]["imports"])
    assert gate.realm.refresh() == now
    await tell(gate.realm, [gate.url], gate.realm.revoke("alice"))
    assert not await is_let_in(gate, content)
