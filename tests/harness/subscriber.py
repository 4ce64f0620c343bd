"""A subscriber that survives kill -9: `python subscriber.py NATS_URL FILE`.

Every event is a line of the file before the next is taken; a new start goes on behind the last
whole line, as a program of a user would.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pbscast
from pbscast import wire
from pbscast.errors import NotFoundError, UnavailableError
from pbscast.events import Event
from pbscast.starts import Start

_MESSAGE_ID = re.compile(rb'"id":"([^":]+):(\d+)"')


def read_events(file: Path) -> Iterator[Event]:
    """The events in the file; a last line that was cut off is none."""
    with file.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield wire.decode(line)


def _resume(file: Path) -> dict[str, int]:
    """The position of each site that the file ends with; a torn last line is dropped."""
    file.touch()
    positions, whole = {}, 0
    with file.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n") and (found := _MESSAGE_ID.search(line)):
                positions[found[1].decode()] = int(found[2])
                whole += len(line)
    os.truncate(file, whole)
    return positions


async def _opened(client: pbscast.Client, start: Start) -> pbscast.Watch:
    """Begin, if need be as soon as there is somebody who serves."""
    while True:
        with suppress(UnavailableError, NotFoundError):
            return await client.watch(start=start).open()
        await asyncio.sleep(0.1)


async def _listen(url: str, file: Path) -> None:
    positions = await asyncio.to_thread(_resume, file)
    start = pbscast.after(positions) if positions else pbscast.beginning()
    with file.open("ab", buffering=0) as sink:
        async with pbscast.connect(url) as client, await _opened(client, start) as watch:
            async for item, body in watch.with_bodies():
                if isinstance(item, Event) and body is not None:
                    sink.write(body + b"\n")


if __name__ == "__main__":
    asyncio.run(_listen(sys.argv[1], Path(sys.argv[2])))
