"""Which nats-servers know what an administrator has said, and how he learns which do not."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from itertools import chain, count
from pathlib import Path

import nats
import nats.errors
import pytest
from harness.auth import Gate, reach, secured
from nats.aio.client import Client
from nats.aio.msg import Msg
from typer.testing import CliRunner, Result

from pbscast.errors import ConfigError, NotFoundError, UnavailableError
from pbscast_deploy.auth import telling
from pbscast_deploy.auth.layout import Policy, Principal
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.auth.tokens import decode
from pbscast_deploy.cli import app
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.askers import Role
from pbscast_fanout.settling import SETTLE, SettleRequest

_NUMBERS = count()


class Authority:
    """A realm, and two servers that know nothing of one another."""

    def __init__(self, directory: Path, servers: list[NatsServer]) -> None:
        self.realm = Realm(directory)
        self.hub, self.site = servers

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["auth", *arguments, "--dir", str(self.realm.directory)])

    async def types(self, *arguments: str) -> str:
        result = await asyncio.to_thread(self.run, *arguments)
        assert result.exception is None, result.exception
        return result.output

    async def is_let_in(self, server: NatsServer, content: str) -> bool:
        try:
            client = await Gate(self.realm.directory, server.url).connect(content)
        except (nats.errors.Error, OSError):
            return False
        await client.close()
        return True


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    Realm.init(tmp_path / "realm", ["127.0.0.1"])
    shutil.copytree(tmp_path / "realm", tmp_path / "site")
    with ExitStack() as stack:
        servers = [stack.enter_context(secured(tmp_path / name)) for name in ("realm", "site")]
        yield Authority(tmp_path / "realm", servers)


async def test_every_server_is_told_by_whatever_command(authority: Authority) -> None:
    hub, site = authority.hub, authority.site
    frank = authority.realm.issue(Principal("frank", Role.USER), timedelta(hours=1)).content
    await authority.types("push", "--server", hub.url)
    await authority.types("enrol", "gina", "--server", site.url.replace("nats://", "tls://"))
    assert [await authority.is_let_in(one, frank) for one in (hub, site)] == [True, True]
    await asyncio.to_thread(site.stop)
    result = await asyncio.to_thread(authority.run, "bar", "frank")
    assert isinstance(result.exception, UnavailableError)
    assert f":{site.port}: " in str(result.exception)
    assert f":{hub.port}: " not in str(result.exception)
    assert not await authority.is_let_in(hub, frank)
    shown = (await authority.types("list")).splitlines()
    assert f"{hub.url}: told" in shown
    assert f"tls://127.0.0.1:{site.port}: has not been told of frank: pbscastd auth push" in shown
    await asyncio.to_thread(site.start)
    assert await authority.is_let_in(site, frank)
    # A command that has nothing to do with him, and names the other server.
    await authority.types("enrol", "hugo", "--server", hub.url)
    assert not await authority.is_let_in(site, frank)
    pushed = (await authority.types("push")).splitlines()
    told = [f"{hub.url}: told", f"tls://127.0.0.1:{site.port}: told"]
    assert {"5 accounts told", *told} <= {*pushed}


async def test_all_that_cannot_be_told_are_named_and_what_is_no_more_is_forgotten(
    authority: Authority,
) -> None:
    for server in (authority.hub, authority.site):
        await authority.types("push", "--server", server.url)
    for server in (authority.hub, authority.site):
        await asyncio.to_thread(server.stop)
    result = await asyncio.to_thread(authority.run, "enrol", "alice")
    for server in (authority.hub, authority.site):
        assert f"127.0.0.1:{server.port}: " in str(result.exception)
    await asyncio.to_thread(authority.hub.start)
    await authority.types("forget", authority.site.url)
    await authority.types("enrol", "bob")
    assert isinstance(authority.run("forget", authority.site.url).exception, NotFoundError)
    # One that was never reached is not known.
    unknown = await asyncio.to_thread(authority.run, "enrol", "--server", authority.site.url, "x")
    assert isinstance(unknown.exception, UnavailableError)
    await authority.types("enrol", "carol")


async def test_a_server_with_an_empty_store_trusts_nothing_that_is_void(
    authority: Authority,
) -> None:
    gate = Gate(authority.realm.directory, authority.hub.url)
    old, other = await gate.creds("old", Role.SERVICE), await gate.creds("other", Role.SERVICE)
    copy = f"copy {authority.realm.configuration} to each"
    assert copy not in await authority.types("enrol", "alice")
    assert copy in await authority.types("revoke", "old")
    with fresh(authority) as server:
        assert await authority.is_let_in(server, other)
        assert not await authority.is_let_in(server, old)
    assert copy in await authority.types("rekey", "service")
    with fresh(authority) as server:
        assert not await authority.is_let_in(server, other)
        new = authority.realm.issue(Principal("new", Role.SERVICE), timedelta(hours=1)).content
        assert await authority.is_let_in(server, new)


@contextmanager
def fresh(authority: Authority) -> Iterator[NatsServer]:
    """Another server, with what is in ``server/`` now and nothing in its store."""
    place = authority.realm.directory.parent / f"fresh{next(_NUMBERS)}"
    shutil.copytree(authority.realm.directory, place)
    with secured(place) as server:
        yield server


def test_the_configuration_is_changed_where_it_has_to_be(authority: Authority) -> None:
    path = authority.realm.configuration
    path.write_text(path.read_text().replace('"2m"', '"3m"'))
    before = path.read_text().splitlines()
    assert not authority.realm.renew_configuration()
    authority.realm.issue(Principal("d", Role.SERVICE), timedelta(hours=1))
    authority.realm.revoke("d")
    assert authority.realm.renew_configuration()
    after = path.read_text().splitlines()
    changed = [new for new, old in zip(after, before, strict=True) if new != old]
    assert [line.split(":")[0].strip() for line in changed] == [pbs_of(authority.realm)]
    path.write_text("operator: x")
    with pytest.raises(ConfigError, match=r"auth\.conf: no line of resolver_preload"):
        authority.realm.renew_configuration()


def pbs_of(realm: Realm) -> str:
    [account] = [one for one, token in realm.accounts().items() if decode(token)["name"] == "PBS"]
    return account


class Worker:
    """One that settles nothing, but notes what it is asked, and what servers lack then."""

    def __init__(self, realm: Realm, service: Client) -> None:
        self.realm = realm
        self.service = service
        self.asked: list[list[str]] = []
        self.behind: list[int] = []

    @classmethod
    @asynccontextmanager
    async def at(cls, authority: Authority, server: NatsServer) -> AsyncIterator[Worker]:
        realm = authority.realm
        async with Gate(realm.directory, server.url).enter("pbscastd", Role.SERVICE) as service:
            worker = cls(realm, service)
            await service.subscribe(SETTLE, cb=worker.answer)
            await reach(service)
            yield worker

    async def answer(self, message: Msg) -> None:
        request = SettleRequest.model_validate_json(message.data)
        self.asked.append(sorted(asker.rpartition(".")[2] for asker in request.askers))
        self.behind.append(sum(len(self.realm.lacking(one)) for one in self.realm.servers()))
        await message.respond(b"{}")


async def test_what_is_settled_is_so_when_every_server_knows(authority: Authority) -> None:
    hub, site = authority.hub, authority.site
    authority.realm.enrol(["frank", "gina"])
    urls = [hub.url.replace("nats://", "tls://"), site.url.replace("nats://", "tls://")]
    for workers_at in (hub, site):
        async with Worker.at(authority, workers_at) as worker:
            authority.realm.decide(Policy({"sitea": workers_at is hub}))
            for _ in range(2):  # the second time there is nothing to do
                assert await tell(authority.realm, urls)
        assert worker.asked == [["frank", "gina"]]
        assert worker.behind == [0]


async def test_what_nobody_has_settled_is_settled_later(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_SETTLED_ABREAST", 2)
    url = authority.hub.url.replace("nats://", "tls://")
    names = ["frank", "gina", "hugo", "ida", "jo"]
    # Of who is new nobody has anything.
    told = await authority.types("enrol", *names, "--server", url)
    assert "no worker" not in told
    told = await authority.types("sites", "--open", "sitea")
    assert "no worker runs that ends what" in told
    assert "may go on for frank, gina, hugo, ida, jo: pbscastd" in await authority.types("list")
    authority.realm.bar("ida")
    async with Worker.at(authority, authority.hub) as worker:
        assert "no worker" not in await authority.types("push")
        assert [len(some) for some in worker.asked] == [2, 2]
        assert sorted(chain(*worker.asked)) == ["frank", "gina", "hugo", "jo"]
        assert "may go on" not in await authority.types("list")
        await authority.types("push")
        assert len(worker.asked) == 2
        await authority.types("push", "--settle")
        assert sorted(chain(*worker.asked[2:])) == ["frank", "gina", "hugo", "jo"]
        # As a release before leaves the directory.
        (authority.realm.directory / "settled.json").unlink()
        await authority.types("sites", "--closed", "sitea")
        assert sorted(chain(*worker.asked[4:])) == ["frank", "gina", "hugo", "jo"]


async def test_a_server_that_answers_nonsense_keeps_no_other_from_being_told(
    authority: Authority,
) -> None:
    tls = authority.realm.authority.parent
    files = f"tls {{ cert_file: '{tls}/server.pem', key_file: '{tls}/server.key' }}"
    hub = authority.hub.url.replace("nats://", "tls://")
    with NatsServer(durable=False, config=files) as other:
        odd = other.url.replace("nats://", "tls://")
        context = ssl.create_default_context(cafile=authority.realm.authority)
        client = await nats.connect(odd, tls=context)

        async def answer(message: Msg) -> None:
            await message.respond(b"what?")

        await client.subscribe("$SYS.REQ.CLAIMS.UPDATE", cb=answer)
        await reach(client)
        with pytest.raises(UnavailableError, match=f"{odd}: its answer is not a nats-server's"):
            await tell(authority.realm, [odd, hub])
        await client.close()
    assert authority.realm.lacking(authority.realm.server(hub)) == {}
