"""Real servers without an installation: PostgreSQL and NATS out of wheels, in temporary places.

For the demo, the tests and the benchmarks. They are real in every respect (fsync is on), listen on
a Unix socket or on the loopback address only, and do not outlive the process that started them,
however it ends.
"""

from __future__ import annotations

from pbscast_deploy.embedded.binaries import find_nats_server, find_postgres
from pbscast_deploy.embedded.nats import NatsServer
from pbscast_deploy.embedded.postgres import PostgresServer

__all__ = ["NatsServer", "PostgresServer", "find_nats_server", "find_postgres"]
