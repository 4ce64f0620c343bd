"""Fixtures for every test: one PostgreSQL and one nats-server a session, a database a test."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nats
import pytest
from harness.auth import Gate, secured
from harness.capturing import Connection, Pbs, connected
from harness.openings import serving_openings
from harness.servers import Databases, delete_streams, run_nats, run_postgres, stream_names
from harness.standing_in import Deliverer, delivering
from harness.stream import Publisher, publishing
from hypothesis import settings

from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.embedded import NatsServer, PostgresServer, find_postgres
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest import capture
from pbscast_store.log import Log

_DATASTORE_TEMPLATE = "pbscast_test_datastore"
_MEMORY = Path("/dev/shm")
_MEMORY_NEEDED = 4 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Keep the servers' files in memory where there is plenty: a slow disk would take minutes.

    Not in benchmarks and soaks, and `kill -9` loses nothing there either: only power does.
    """
    on_disk = config.option.markexpr in {"benchmark", "soak"} or "TMPDIR" in os.environ
    if not on_disk and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _MEMORY_NEEDED:
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None
    # A test that waited for a core has not failed.
    settings.register_profile("pbscast", settings.default, deadline=None)
    settings.load_profile("pbscast")
    # A shell starts what is in the background with SIGINT ignored, which children would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def datastore_server() -> Iterator[str]:
    """URI of a PostgreSQL for datastores (PBSCAST_TEST_DATASTORE_DSN, else embedded)."""
    with run_postgres("PBSCAST_TEST_DATASTORE_DSN") as uri:
        yield uri


@pytest.fixture(scope="session")
def log_server() -> Iterator[str]:
    """URI of a PostgreSQL for logs (PBSCAST_TEST_LOG_DSN, else embedded)."""
    with run_postgres("PBSCAST_TEST_LOG_DSN") as uri:
        yield uri


@pytest.fixture(scope="session")
def _datastore_template(datastore_server: str) -> str:
    _make_template(datastore_server)
    return _DATASTORE_TEMPLATE


@pytest.fixture
def new_datastore(datastore_server: str, _datastore_template: str) -> Iterator[Callable[[], str]]:
    """Call it for the URI of another empty PBS datastore (superuser `postgres`)."""
    databases = Databases(datastore_server)
    yield lambda: databases.create(_datastore_template)
    databases.drop_all()


@pytest.fixture
def datastore_dsn(new_datastore: Callable[[], str]) -> str:
    """URI of an empty PBS datastore."""
    return new_datastore()


@pytest.fixture
def captured(datastore_dsn: str) -> str:
    """URI of a PBS datastore with capture, of site `sitea`."""
    capture.install(datastore_dsn, site="sitea")
    return datastore_dsn


@pytest.fixture
def log_databases(log_server: str) -> Iterator[Databases]:
    """Makes databases for logs; they are dropped after the test."""
    databases = Databases(log_server)
    yield databases
    databases.drop_all()


@pytest.fixture(scope="session")
def _log_template(log_server: str) -> Iterator[str]:
    databases = Databases(log_server)
    uri = databases.create()
    asyncio.run(Log.migrate_at(uri))
    yield urlsplit(uri).path.removeprefix("/")
    databases.drop_all()


@pytest.fixture
def log_dsn(log_databases: Databases, _log_template: str) -> str:
    """URI of an empty event log, migrated."""
    return log_databases.create(_log_template)


@pytest.fixture
async def log(log_dsn: str) -> AsyncIterator[Log]:
    """An empty event log, open."""
    async with Log.open(log_dsn) as log:
        yield log


@pytest.fixture(scope="session", params=find_postgres().items(), ids=lambda item: f"pg{item[0]}")
def each_postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of each PostgreSQL major version on this machine in turn."""
    _, bindir = request.param
    with PostgresServer(bindir=bindir, settings={"fsync": "off"}) as server:
        _make_template(server.dsn())
        yield server


@pytest.fixture
def each_datastore_dsn(each_postgres: PostgresServer) -> Iterator[str]:
    """URI of an empty PBS datastore on each PostgreSQL major version in turn."""
    databases = Databases(each_postgres.dsn())
    yield databases.create(_DATASTORE_TEMPLATE)
    databases.drop_all()


@pytest.fixture
def dsn(each_datastore_dsn: str) -> str:
    """URI of a PBS datastore with capture, on each PostgreSQL major version in turn."""
    capture.install(each_datastore_dsn, site="sitea")
    return each_datastore_dsn


@pytest.fixture
def db(dsn: str) -> Iterator[Connection]:
    """An administrator's connection to that datastore."""
    with connected(dsn) as connection:
        yield connection


@pytest.fixture
def pbs(dsn: str) -> Iterator[Pbs]:
    """PBS's one connection to that datastore."""
    with connected(dsn) as connection:
        yield Pbs(connection)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of the test's own, on a socket and on TCP, to stop, kill and restart."""
    with PostgresServer(tcp=True) as server:
        yield server


@pytest.fixture(scope="session")
def _nats_server() -> Iterator[str]:
    with run_nats("PBSCAST_TEST_NATS_URL") as url:
        yield url


@pytest.fixture
async def nats_url(_nats_server: str) -> AsyncIterator[str]:
    """URL of a nats-server; the streams that the test leaves there are deleted after it."""
    client = await nats.connect(_nats_server)
    before = await stream_names(client)
    yield _nats_server
    await delete_streams(client, await stream_names(client) - before)
    await client.close()


@pytest.fixture
async def publisher(nats_url: str) -> AsyncIterator[Publisher]:
    """Who publishes to readers: an empty stream, and the service that opens it to them."""
    async with publishing(nats_url) as publisher, serving_openings(nats_url):
        yield publisher


@pytest.fixture
async def tier(nats_url: str) -> AsyncIterator[Deliverer]:
    """What stands in for the tier that serves subscriptions."""
    async with delivering(nats_url) as deliverer:
        yield deliverer


@pytest.fixture
def own_nats() -> Iterator[NatsServer]:
    """A nats-server of the test's own (durable), to stop, kill and restart."""
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A nats-server with accounts and certificates, and what lets people in."""
    directory = tmp_path_factory.mktemp("auth") / "realm"
    Realm.init(directory, ["127.0.0.1"])
    with secured(directory) as server:
        yield Gate(directory, server.url)


def _make_template(server: str) -> None:
    Databases(server).drop(_DATASTORE_TEMPLATE)
    create_datastore(server, _DATASTORE_TEMPLATE)
