"""Clusters of nats-servers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pbscast_deploy.embedded import NatsServer


@contextmanager
def run_cluster(count: int) -> Iterator[list[str]]:
    """Yield the URLs of its servers; they still have to agree on a leader."""
    ports = _free_ports(count)
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                NatsServer(
                    durable=False,
                    config=f"server_name: n{port}\n"
                    f"cluster {{ name: c, listen: '127.0.0.1:{port}', routes: [{routes}] }}",
                )
            ).url
            for port in ports
        ]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
