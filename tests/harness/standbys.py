"""A log's PostgreSQL with a standby that follows it, on this machine."""

from __future__ import annotations

from time import sleep

import psycopg

from pbscast_deploy.embedded import PostgresServer

_SETTINGS = {"fsync": "off", "wal_level": "replica", "hot_standby": "on"}


class Standby(PostgresServer):
    """Copies a primary that runs, and follows it until it is promoted. Both over TCP."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__(tcp=True, settings=_SETTINGS)
        self._primary = primary
        self._password = primary._password

    def promote(self) -> None:
        """Make it the primary. Returns once it takes writes."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def _status(self) -> str:
        """It is ready when it follows."""
        return "ready" if super()._status() == "standby" else super()._status()

    def _initdb(self) -> None:
        """In place of an empty cluster."""
        copy = self._run(
            "pg_basebackup",
            f"--pgdata={self.directory / 'data'}",
            f"--dbname={self._primary.dsn()}",
            "--checkpoint=fast",
            "--write-recovery-conf",
        )
        assert copy.wait(60) == 0, (self.directory / "log").read_text()


def primary() -> PostgresServer:
    """One that can be followed."""
    return PostgresServer(tcp=True, settings=_SETTINGS)


def wait_for_standbys(server: PostgresServer) -> None:
    """From now on a commit returns when a standby has it as well."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
        while connection.execute("SHOW synchronous_standby_names").fetchone() != ("*",):
            sleep(0.01)


def both(one: PostgresServer, other: PostgresServer, database: str = "postgres") -> str:
    """A DSN with two hosts."""
    return one.dsn(database, tcp=True).replace(
        f"127.0.0.1:{one.port}", f"127.0.0.1:{one.port},127.0.0.1:{other.port}"
    )
