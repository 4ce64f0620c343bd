"""The servers that tests run against: by environment variable, embedded, or in containers."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import LiteralString
from urllib.parse import urlsplit, urlunsplit

import psycopg
from nats.aio.client import Client
from nats.js.manager import JetStreamManager
from psycopg import sql

from pbscast.errors import UnavailableError
from pbscast_deploy.embedded import NatsServer, PostgresServer

_NUMBERS = itertools.count(1)


def as_role(dsn: str, name: str) -> str:
    """The same URI for role `name` with the password `x`."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{name}:x@{parts.netloc.rpartition('@')[2]}"))


@dataclass
class Databases:
    """Makes databases on one server by copying a template, and drops them again."""

    admin_dsn: str
    _made: list[str] = field(default_factory=list)

    def create(self, template: str = "template0") -> str:
        """A fresh copy of database `template` (nobody may be connected to it); returns its URI."""
        name = f"pbscast_test_{os.getpid()}_{next(_NUMBERS)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        self._made.append(name)
        return self.uri(name)

    def uri(self, database: str) -> str:
        """The URI of `database` on this server."""
        return urlunsplit(urlsplit(self.admin_dsn)._replace(path=f"/{database}"))

    def drop_all(self) -> None:
        """Drops what was made, cutting off whoever is still connected."""
        while self._made:
            name = self._made.pop()
            with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [name],
                )
            self.drop(name)

    def drop(self, name: str) -> None:
        """Drops database `name` if it is there."""
        self._execute("DROP DATABASE IF EXISTS {}", name)

    def _execute(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def run_postgres(variable: str) -> Iterator[str]:
    """The URI of a server where databases may be made: `$variable`, embedded, or a container."""
    given = os.environ.get(variable)
    if given:
        yield given
        return
    try:
        # A killed server loses nothing without fsync, only a machine that loses power does.
        server = PostgresServer(settings={"fsync": "off", "max_connections": "200"}).start()
    except UnavailableError:
        with _container_postgres() as uri:
            yield uri
        return
    with server:
        yield server.dsn()


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """All its processes stand still inside: connections stay open, nothing answers."""
    found = subprocess.run(
        ["pgrep", "-P", str(server.pid)], capture_output=True, text=True, check=True
    )
    processes = [int(pid) for pid in (server.pid, *found.stdout.split()) if pid]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@contextmanager
def run_nats(variable: str) -> Iterator[str]:
    """The URL of a nats-server with JetStream: `$variable`, or embedded."""
    given = os.environ.get(variable)
    if given:
        yield given
        return
    with NatsServer(durable=False) as server:
        yield server.url


@contextmanager
def _container_postgres() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer  # noqa: PLC0415 - it asks for Docker

    with PostgresContainer("postgres:18", driver=None) as container:
        yield container.get_connection_url()


async def stream_names(client: Client) -> set[str]:
    """The streams of a server."""
    manager = JetStreamManager(client)
    return {info.config.name or "" for info in await manager.streams_info()}


async def delete_streams(client: Client, names: set[str]) -> None:
    """Deletes streams (key-value buckets are streams as well)."""
    manager = JetStreamManager(client)
    for name in names:
        await manager.delete_stream(name)
