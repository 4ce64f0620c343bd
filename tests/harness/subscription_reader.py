"""A reader to kill: `python subscription_reader.py NATS_URL FILE SUBSCRIPTION PAUSE`.

Every message is a line of the file before the next is taken, and what was missed as well.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pbscast


async def _read(url: str, file: Path, key: str, pause: float) -> None:
    with file.open("ab", buffering=0) as sink:
        async with pbscast.connect(url) as client, client.attach(key) as subscription:
            async for item, body in subscription.with_bodies():
                sink.write((body or json.dumps({"what": str(item)}).encode()) + b"\n")
                await asyncio.sleep(pause)


if __name__ == "__main__":
    asyncio.run(_read(sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
