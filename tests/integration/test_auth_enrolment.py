"""Accounts without files: enrolment, who is kept out, open sites; with a real nats-server."""

from __future__ import annotations

import asyncio
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats.errors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from harness.auth import Gate, cut, reach, secured
from nats.aio.client import Client
from nats.aio.msg import Msg
from typer.testing import CliRunner, Result

from pbscast.errors import ConfigError, NotFoundError, UsageError
from pbscast_deploy.auth import certificates
from pbscast_deploy.auth.accounts import replace
from pbscast_deploy.auth.issuing import revocations, sign
from pbscast_deploy.auth.keys import Key
from pbscast_deploy.auth.layout import Principal
from pbscast_deploy.auth.people import lowest_uid
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.tokens import decode, encode
from pbscast_deploy.cli import app
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.askers import Role


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm.init(tmp_path / "realm", ["127.0.0.1"])


@pytest.fixture
def server(realm: Realm) -> Iterator[NatsServer]:
    with secured(realm.directory) as running:
        yield running


@pytest.fixture
def gate(realm: Realm, server: NatsServer) -> Gate:
    return Gate(realm.directory, server.url)


def pbscastd(realm: Realm, *arguments: str, given: str = "") -> Result:
    command = ["auth", *arguments, "--dir", str(realm.directory)]
    return CliRunner().invoke(app, command, input=given)


async def done(gate: Gate, *arguments: str, given: str = "") -> str:
    """What an administrator reads, who has the server told."""
    more = (*arguments, "--server", gate.url)
    result = await asyncio.to_thread(pbscastd, gate.realm, *more, given=given)
    assert result.exception is None, result.exception
    return result.output


def brokered(realm: Realm, name: str, seconds: int = 600) -> str:
    """What a broker hands out, with the one key that it has."""
    user, now = Principal(name, Role.USER), int(datetime.now(UTC).timestamp())
    key = Key.load(realm.directory / "keys" / "user.nk")
    return sign(user, user.account, key, now, now + seconds).content


async def is_let_in(gate: Gate, content: str) -> bool:
    try:
        client = await gate.connect(content)
    except (nats.errors.Error, OSError):
        return False
    await client.close()
    return True


def revoked(realm: Realm, name: str) -> dict[str, int]:
    return revocations(decode(realm.accounts()[Principal(name, Role.USER).account]))


async def test_who_is_enrolled_needs_no_file(gate: Gate) -> None:
    alice = brokered(gate.realm, "alice")
    assert not await is_let_in(gate, alice)
    told = await done(gate, "enrol", "alice", "-", given="bob\ncarol dora\n")
    assert "4 users enrolled" in told
    for name in ("alice", "bob", "carol", "dora"):
        assert await is_let_in(gate, brokered(gate.realm, name))
    before = gate.realm.accounts()
    assert "4 users enrolled" in await done(gate, "enrol", "bob", "alice", "-", given="carol dora")
    assert gate.realm.accounts() == before


async def test_who_left_is_out_and_may_come_back(gate: Gate) -> None:
    await done(gate, "enrol", "alice", "bob", "carol")
    old = brokered(gate.realm, "alice")
    client = await gate.connect(old)
    assert "left: alice" in await done(gate, "enrol", "bob", "carol", "--prune")
    await cut(client)
    assert not await is_let_in(gate, brokered(gate.realm, "alice"))
    assert await is_let_in(gate, brokered(gate.realm, "bob"))
    assert "made: alice" in await done(gate, "enrol", "alice", "bob", "carol", "--prune")
    assert not await is_let_in(gate, old)
    async with asyncio.timeout(30):
        while not await is_let_in(gate, brokered(gate.realm, "alice")):
            pass  # what is signed in the second in which he left is not let in either


async def test_who_is_barred_stays_out_whoever_gives_him_what(gate: Gate) -> None:
    await done(gate, "enrol", "alice", "bob")
    operator = await gate.creds("alice", Role.OPERATOR, ("sitea",))
    connections = [await gate.connect(one) for one in (brokered(gate.realm, "alice"), operator)]
    assert await done(gate, "bar", "alice", "never") == "alice: barred\nnever: barred\n"
    for client in connections:
        await cut(client)
    assert "barred: alice, never" in await done(gate, "enrol", "alice", "bob", "never", "--prune")
    await done(gate, "push")
    for content in (brokered(gate.realm, "alice"), operator, brokered(gate.realm, "never")):
        assert not await is_let_in(gate, content)
    for role in (Role.USER, Role.AUDITOR):
        with pytest.raises(UsageError, match="alice is barred"):
            gate.realm.issue(Principal("alice", role), timedelta(hours=1))
    shown = await asyncio.to_thread(pbscastd, gate.realm, "list")
    assert "barred: alice, never" in shown.output
    assert await is_let_in(gate, brokered(gate.realm, "bob"))
    await done(gate, "bar", "alice", "--lift")
    assert not await is_let_in(gate, operator)
    assert await is_let_in(gate, await gate.creds("alice"))
    assert await is_let_in(gate, await gate.creds("alice", Role.OPERATOR, ("sitea",)))
    with pytest.raises(NotFoundError, match="alice is not barred"):
        gate.realm.lift("alice")


async def test_a_broker_gives_another_to_whom_is_only_revoked(gate: Gate) -> None:
    await done(gate, "enrol", "alice")
    old = brokered(gate.realm, "alice")
    client = await gate.connect(old)
    assert "pbscastd auth bar alice" in await done(gate, "revoke", "alice")
    await cut(client)
    assert not await is_let_in(gate, old)
    async with asyncio.timeout(30):
        while not await is_let_in(gate, brokered(gate.realm, "alice")):
            pass


async def test_what_could_not_be_told_is_told_by_the_next_command(
    gate: Gate, server: NatsServer
) -> None:
    site = gate.realm.directory.with_name("site")
    shutil.copytree(gate.realm.directory, site)
    with secured(site) as leaf:
        both = ("--server", gate.url, "--server", leaf.url)
        await asyncio.to_thread(pbscastd, gate.realm, "enrol", "alice", "bob", *both)
        content = brokered(gate.realm, "alice")
        assert await is_let_in(Gate(site, leaf.url), content)
        await asyncio.to_thread(server.stop)
        result = await asyncio.to_thread(pbscastd, gate.realm, "bar", "alice", *both)
        assert f":{server.port}: " in str(result.exception)
        assert "nothing is lost" in str(result.exception)
        assert not await is_let_in(Gate(site, leaf.url), content)
    await asyncio.to_thread(server.start)
    assert await is_let_in(gate, content)
    await done(gate, "enrol", "bob")
    assert not await is_let_in(gate, content)
    assert [gate.realm.lacking(one) for one in gate.realm.servers()] == [{}, {}]


def test_a_list_that_is_not_whole_closes_nothing(realm: Realm) -> None:
    realm.enrol([f"u{number}" for number in range(10)])
    before = realm.accounts()
    with pytest.raises(UsageError, match="6 of 10 accounts: is the list whole"):
        realm.enrol(["u1", "u2", "u3", "u4"], prune=True)
    for arguments in (("enrol",), ("enrol", "-", "--prune"), ("enrol", "a b"), ("enrol", "*")):
        assert isinstance(pbscastd(realm, *arguments).exception, UsageError), arguments
    assert isinstance(pbscastd(realm, "enrol", "--group", "no such").exception, NotFoundError)
    assert realm.accounts() == before


def test_people_of_this_machine_are_enrolled(realm: Realm) -> None:
    lowest = lowest_uid()
    people = {one.pw_name for one in pwd.getpwall() if lowest <= one.pw_uid != 65534}
    result = pbscastd(realm, "enrol", "--passwd", "daemon")
    assert f"{len(people | {'daemon'})} users enrolled" in result.output
    names = {decode(token)["name"] for token in realm.accounts().values()}
    assert names == people | {"daemon", "PBS", "SYS"}


def test_a_user_who_was_given_certain_sites_keeps_to_them(realm: Realm) -> None:
    realm.issue(Principal("alice", Role.USER, ("sitea",)), timedelta(hours=1))
    before = realm.accounts()
    realm.enrol(["alice"])
    assert realm.accounts() == before


def test_revocations_that_are_of_no_use_any_more_go(realm: Realm) -> None:
    alice = Principal("alice", Role.USER)
    short = realm.issue(alice, timedelta(seconds=1)).credential.key
    long = realm.issue(alice, timedelta(hours=1)).credential.key
    for key in (short, long):
        realm.revoke(key)
    assert set(revoked(realm, "alice")) == {short, long}
    path = realm.directory / "issued" / f"{short}.jwt"
    claims = decode(path.read_text())
    key_of_users = Key.load(realm.directory / "keys" / "user.nk")
    replace(path, encode({**claims, "exp": claims["iat"] - 1}, key_of_users).encode())
    realm.refresh()
    assert set(revoked(realm, "alice")) == {long}
    realm.revoke("alice")
    realm.refresh()
    assert set(revoked(realm, "alice")) == {"*"}
    assert [one.state for one in realm.issued()] == ["revoked", "revoked"]


EVENTS = [
    f"pbs.v1.{site}.job.{owner}.1/{site}.-.state"
    for site in ("sitea", "siteb", "sitec")
    for owner in ("alice", "bob")
]


async def seen(service: Client, client: Client) -> list[str]:
    heard: list[str] = []
    end = asyncio.Event()

    async def hear(message: Msg) -> None:
        end.set() if message.subject.endswith("mark") else heard.append(message.subject)

    for subject in ("pbs.v1.*.job.>", "pbs.v1.siteb.mark"):
        await client.subscribe(subject, cb=hear)
    await reach(client)
    for subject in (*EVENTS, "pbs.v1.siteb.mark"):
        await service.publish(subject, b"")
    async with asyncio.timeout(30):
        await end.wait()
    return sorted(heard)


async def test_sites_let_users_see_the_jobs_of_others_and_take_it_back(gate: Gate) -> None:
    async def say_who(message: Msg) -> None:
        await message.respond(message.subject.encode())

    mine = [subject for subject in EVENTS if ".alice." in subject]
    async with gate.enter("pbscastd", Role.SERVICE) as service:
        await service.subscribe("pbscast.v1.as.*.*.*.*", cb=say_who)
        await reach(service)
        for arguments, wanted, who in (
            ((), mine, "-"),
            (("--open", "sitea", "--closed", "siteb"), [*EVENTS[:2], EVENTS[2]], "siteb,sitea+"),
            (("--open", "sitea,siteb", "--closed", "sitec"), EVENTS[:5], "sitec,sitea+,siteb+"),
            (("--any",), mine, "-"),
        ):
            content = await gate.creds("alice")
            told = await done(gate, "sites", *arguments)
            # Without asking for another credential.
            client = await gate.connect(content)
            assert await seen(service, client) == wanted, told
            answer = await client.request("pbscast.v1.history", b"", timeout=30)
            assert answer.data.decode() == f"pbscast.v1.as.user.{who}.alice.history"
            await client.close()
            async with gate.enter("ann", Role.AUDITOR) as auditor:
                assert await seen(service, auditor) == sorted(EVENTS)


def test_what_cannot_be_said_of_sites_is_refused(realm: Realm) -> None:
    before = realm.accounts()
    for arguments in (
        ("--open", "sitea", "--closed", "sitea,siteb"),
        ("--any", "--open", "sitea"),
        ("--open", "site a"),
    ):
        assert isinstance(pbscastd(realm, "sites", *arguments).exception, UsageError), arguments
    assert realm.accounts() == before
    (realm.directory / "sites.json").write_text('{"sitea": "yes"}')
    assert isinstance(pbscastd(realm, "sites").exception, ConfigError)


async def test_certificates_are_renewed_without_a_word_to_clients(
    realm: Realm, server: NatsServer
) -> None:
    gate = Gate(realm.directory, server.url)
    content = await gate.creds("alice")
    before = realm.certificates
    told = await asyncio.to_thread(pbscastd, realm, "certificates", "--renew", "--host", "n.org")
    assert "n.org, localhost, 127.0.0.1" in told.output
    assert "ca.pem" not in told.output
    assert realm.certificates.authority == before.authority
    assert realm.certificates.server_key != before.server_key
    assert (realm.directory / "server/tls/server.key").stat().st_mode & 0o777 == 0o600
    await asyncio.to_thread(server.restart)
    assert await is_let_in(gate, content)


def test_a_leaf_has_a_certificate_of_its_own(realm: Realm, tmp_path: Path) -> None:
    before, out = realm.certificates, tmp_path / "leaf"
    more = ("--host", "nats.sitea.example.org", "--out", str(out))
    assert f"copy {out} to that server" in pbscastd(realm, "certificates", *more).output
    assert realm.certificates == before
    assert {path.name: path.stat().st_mode & 0o777 for path in out.iterdir()} == {
        "ca.pem": 0o644,
        "server.pem": 0o644,
        "server.key": 0o600,
    }
    key = load_pem_private_key((out / "server.key").read_bytes(), None)
    mine = x509.load_pem_x509_certificate((out / "server.pem").read_bytes())
    assert key.public_key() == mine.public_key()
    hosts = ["nats.sitea.example.org", "localhost", "127.0.0.1"]
    assert certificates.hosts_of((out / "server.pem").read_bytes()) == hosts
    verify = ["openssl", "verify", "-CAfile", str(realm.authority), str(out / "server.pem")]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    assert isinstance(pbscastd(realm, "certificates", *more).exception, ConfigError)
    assert isinstance(pbscastd(realm, "certificates", *more[2:]).exception, UsageError)


def test_who_has_the_old_authority_trusts_the_prolonged_one(
    realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(certificates, "_SERVER_DAYS", 5000)
    old, directory = tmp_path / "old.pem", realm.directory / "server/tls"
    old.write_bytes(realm.authority.read_bytes())
    result = pbscastd(realm, "certificates", "--renew")
    assert "ca.pem to clients" in result.output
    for authority in (old, realm.authority):
        verify = ["openssl", "verify", "-CAfile", str(authority), str(directory / "server.pem")]
        assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    pbscastd(realm, "certificates", "--new-authority")
    verify = ["openssl", "verify", "-CAfile", str(old), str(directory / "server.pem")]
    assert subprocess.run(verify, capture_output=True, check=False).returncode != 0


def test_certificates_that_end_soon_are_told_of(
    realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_SERVER_DAYS", 20)
    for arguments in (("list",), ("enrol", "alice"), ("certificates", "--renew")):
        result = pbscastd(realm, *arguments)
        is_soon = arguments[0] == "certificates"
        assert ("certificates --renew" in result.stderr) == is_soon
    assert "server.pem: valid until" in pbscastd(realm, "list").stderr
    end = x509.load_pem_x509_certificate(realm.certificates.authority).not_valid_after_utc
    assert f"authority: until {end:%Y-%m-%d}" in pbscastd(realm, "certificates").output
    (realm.directory / "keys/ca.key").unlink()
    assert isinstance(pbscastd(realm, "certificates", "--renew").exception, ConfigError)


async def test_a_key_that_has_leaked_is_worth_nothing_after_another_was_made(gate: Gate) -> None:
    await done(gate, "enrol", "alice")
    await done(gate, "bar", "eve")
    old, service = brokered(gate.realm, "alice"), await gate.creds("pbscastd", Role.SERVICE)
    stolen = Key.load(gate.realm.directory / "keys" / "user.nk")
    clients = [await gate.connect(content) for content in (old, service)]
    await done(gate, "rekey", "user")
    await cut(clients[0])
    user, now = Principal("alice", Role.USER), int(datetime.now(UTC).timestamp()) + 60
    for content in (old, sign(user, user.account, stolen, now, now + 600).content):
        assert not await is_let_in(gate, content)
    assert not await is_let_in(gate, brokered(gate.realm, "eve"))
    assert clients[1].is_connected
    async with asyncio.timeout(30):
        while not await is_let_in(gate, brokered(gate.realm, "alice")):
            pass
    await done(gate, "rekey", "service")
    await cut(clients[1])
    assert not await is_let_in(gate, service)
    assert await is_let_in(gate, await gate.creds("pbscastd", Role.SERVICE))
    assert [one.state for one in gate.realm.issued()] == ["revoked", "valid"]
