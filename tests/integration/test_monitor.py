"""Metrics, liveness and readiness over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from pbscast.errors import ConfigError
from pbscast_deploy.monitor import Monitor, PartStatus
from pbscast_ingest import metrics

GOOD = PartStatus("ingest sitea", "following", ready=True, position=7, error=None)
BAD = PartStatus("publish sitea", "retrying", ready=False, position=3, error="NATS is away")


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_ready_if_every_part_is() -> None:
    parts = [GOOD]
    async with Monitor(lambda: parts).serve("127.0.0.1:0") as port:
        status, body = await asyncio.to_thread(get, port, "/readyz")
        assert (status, json.loads(body)["parts"][0]["state"]) == (200, "following")
        parts.append(BAD)
        status, body = await asyncio.to_thread(get, port, "/readyz")
        assert (status, json.loads(body)["parts"][1]["error"]) == (503, "NATS is away")


async def test_alive_and_measured() -> None:
    metrics.LAG_ROWS.labels("sitea").set(42)
    async with Monitor(list).serve("127.0.0.1:0") as port:
        assert (await asyncio.to_thread(get, port, "/healthz"))[0] == 200
        status, body = await asyncio.to_thread(get, port, "/metrics")
        assert status == 200
        assert 'pbscast_ingest_lag_rows{site="sitea"} 42.0' in body
        assert (await asyncio.to_thread(get, port, "/secret"))[0] == 404


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:99999", "127.0.0.1:x"])
async def test_an_address_that_is_none(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"daemon\.listen: cannot listen on"):
        async with Monitor(list).serve(listen):
            pass


async def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="in use"):
            async with Monitor(list).serve(f"127.0.0.1:{taken.getsockname()[1]}"):
                pass
