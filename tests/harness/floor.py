"""The barest way from a commit to a subscriber: `python floor.py relay|write DSN …`.

`relay DSN NATS_URL` publishes the payload of each NOTIFY to core NATS. `write DSN RATE SECONDS`
commits a NOTIFY with the server's clock as payload, at that rate. No journal, no order, no log, no
filter; nothing survives anything.
"""

from __future__ import annotations

import asyncio
import sys
import time

import asyncpg
import nats
import psycopg

SUBJECT = "floor"


async def relay(dsn: str, url: str) -> None:
    """Until killed."""
    client = await nats.connect(url)
    waiting: asyncio.Queue[str] = asyncio.Queue()
    connection = await asyncpg.connect(dsn)
    await connection.add_listener("floor", lambda *notice: waiting.put_nowait(str(notice[3])))
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    while True:
        await client.publish(SUBJECT, (await waiting.get()).encode())


def write(dsn: str, rate: float, seconds: float) -> None:
    """A row and a NOTIFY in each transaction, on an absolute schedule."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS floor (at timestamptz)")
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            connection.execute(
                "WITH saved AS (INSERT INTO floor VALUES (clock_timestamp()) RETURNING at)"
                " SELECT pg_notify('floor', extract(epoch FROM at)::text) FROM saved",
                prepare=True,
            )


if __name__ == "__main__":
    if sys.argv[1] == "relay":
        asyncio.run(relay(sys.argv[2], sys.argv[3]))
    else:
        write(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
