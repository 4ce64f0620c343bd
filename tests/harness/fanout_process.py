"""A fan-out worker as a process, to stop and kill: `python fanout_process.py LOG NATS`."""

from __future__ import annotations

import asyncio
import sys

from pbscast_fanout.settings import FanoutSettings, NatsSettings
from pbscast_fanout.worker import Fanout
from pbscast_store.log import Log


async def main(dsn: str, url: str) -> None:
    async with Log.open(dsn) as log:
        await Fanout(log, FanoutSettings(nats=NatsSettings(servers=(url,), timeout=2))).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
