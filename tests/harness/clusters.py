"""Clusters of nats-servers, and leaf nodes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import nats.errors
from nats.aio.client import Client

from pbscast_deploy.embedded import NatsServer


@contextmanager
def run_cluster(count: int) -> Iterator[list[str]]:
    """Yield the URLs of its servers; they still have to agree on a leader."""
    with cluster_of(count) as servers:
        yield [server.url for server in servers.values()]


@contextmanager
def cluster_of(count: int, *, durable: bool = False) -> Iterator[dict[str, NatsServer]]:
    """Yield its servers by name, to kill and to start again."""
    ports = free_ports(count)
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        yield {
            f"n{port}": stack.enter_context(
                NatsServer(
                    durable=durable,
                    config=f"server_name: n{port}\n"
                    f"cluster {{ name: c, listen: '127.0.0.1:{port}', routes: [{routes}] }}",
                )
            )
            for port in ports
        }


async def leader_of(client: Client, stream: str) -> str:
    """The name of the server that leads a stream."""
    info = await client.jetstream().stream_info(stream)
    assert info.cluster is not None
    return str(info.cluster.leader)


async def lead_at(client: Client, stream: str, server: str) -> None:
    """Let that server lead a stream."""
    wanted = json.dumps({"placement": {"preferred": server}}).encode()
    async with asyncio.timeout(60):
        while await leader_of(client, stream) != server:
            with suppress(nats.errors.TimeoutError):
                await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", wanted, timeout=5)
            await asyncio.sleep(0.2)


async def until_linked(client: Client, domain: str) -> None:
    """Wait until the hub reaches the JetStream of a site.

    A stream that is told to copy before that tries again only after seconds, then minutes.
    """
    async with asyncio.timeout(60):
        while True:
            with suppress(nats.errors.NoRespondersError, nats.errors.TimeoutError):
                await client.request(f"$JS.{domain}.API.INFO", timeout=2)
                return
            await asyncio.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has at the moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
