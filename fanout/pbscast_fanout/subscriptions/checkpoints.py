"""Where a site's deliverer was a while ago, and what no log tells of then (`PBS_PROGRESS`)."""

from __future__ import annotations

import asyncio
import json
import secrets
import zlib
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Any, Final

from pbscast.errors import ConflictError, FencedError
from pbscast.events import Incarnation
from pbscast.subjects import encode_token
from pbscast_fanout.fences import HEADROOM
from pbscast_fanout.matching.matcher import Life
from pbscast_fanout.subscriptions.buckets import Bucket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.buckets import Entry

PROGRESS: Final = "PBS_PROGRESS"

_LARGEST_PART: Final = 512 * 1024
_ORPHAN_SECONDS: Final = 600.0
"""Parts of so long ago that no checkpoint names were left by a worker that died meanwhile."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a deliverer needs, beside the log, to go on after `position`."""

    position: int
    departures: tuple[tuple[Life, str], ...] = ()
    """`Matcher.departures()` of the site at that position."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """The last `n` of each subscription: needed where the stream has lost its last message."""
    session: str = ""
    """Of the deliverer that stored it."""
    noted: int = 0
    """The last note of who has joined the site that there was when that began."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What the site's key holds: of a small checkpoint all, else which keys hold it."""

    position: int
    parts: tuple[str, ...]
    digest: int
    body: bytes

    def encode(self) -> bytes:
        head = {"position": self.position, "parts": self.parts, "digest": self.digest}
        return json.dumps(head).encode() + b"\n" + self.body

    @classmethod
    def decode(cls, value: bytes) -> _Head:
        text, _, body = value.partition(b"\n")
        head = json.loads(text)
        return cls(head["position"], tuple(head["parts"]), head["digest"], body)


class Checkpoints:
    """Keeps one checkpoint for each site."""

    def __init__(self, connection: Connection, *, replicas: int = 1) -> None:
        self._connection = connection
        self._bucket = Bucket(connection, PROGRESS, replicas=replicas)
        self._revisions: dict[str, int] = {}

    async def ensure(self) -> None:
        """Make the bucket. Raises as `Bucket.ensure`."""
        await self._bucket.ensure()

    async def load(self, site: str) -> Checkpoint | None:
        """Return the last that was stored; None if there is none, or it is damaged.

        Raises UnavailableError.
        """
        seen = None
        while (entry := await self._bucket.get(encode_token(site))) is not None:
            self._revisions[site] = entry.revision
            checkpoint = await self._read(site, entry)
            # Its parts may have been taken away just now, because there is a newer one.
            if checkpoint is not None or entry.revision == seen:
                return checkpoint
            seen = entry.revision
        self._revisions[site] = 0
        return None

    async def store(self, site: str, checkpoint: Checkpoint) -> None:
        """Replace what `load` returned, or what was stored since.

        Whatever happens `load` returns the old one or the new one, never a mixture. Raises
        FencedError if another worker stored one meanwhile, UnavailableError: then `load` it anew.
        """
        if site not in self._revisions:
            raise FencedError(f"nobody knows what checkpoint {site} has")
        revision = self._revisions.pop(site)
        body = await asyncio.to_thread(_encode, checkpoint)
        head = await self._write_parts(site, checkpoint.position, body)
        try:
            stored = await self._bucket.put(encode_token(site), head.encode(), last=revision)
        except ConflictError as error:
            raise FencedError(f"another worker stored a checkpoint of {site}") from error
        self._revisions[site] = stored
        await self._tidy(site, head.parts)

    async def _write_parts(self, site: str, position: int, body: bytes) -> _Head:
        room = min(_LARGEST_PART, self._connection.client.max_payload - HEADROOM)
        if len(body) <= room // 2:
            return _Head(position, (), zlib.crc32(body), body)
        generation = f"{int(time()):x}-{secrets.token_hex(4)}"
        starts = range(0, len(body), room)
        names = tuple(f"{encode_token(site)}.{generation}-{start}" for start in starts)
        for name, start in zip(names, starts, strict=True):
            await self._bucket.put(name, body[start : start + room])
        return _Head(position, names, zlib.crc32(body), b"")

    async def _tidy(self, site: str, kept: tuple[str, ...]) -> None:
        """Take away parts that nobody names any more, but not what is just being written."""
        for name in await self._bucket.keys(f"{encode_token(site)}.*"):
            age = time() - int(name.rpartition(".")[2].partition("-")[0], 16)
            if name not in kept and age > _ORPHAN_SECONDS:
                await self._bucket.forget(name)

    async def _read(self, site: str, entry: Entry) -> Checkpoint | None:
        try:
            head = _Head.decode(entry.value)
            body = head.body
            for name in head.parts:
                part = await self._bucket.get(name)
                body += b"" if part is None else part.value
            if zlib.crc32(body) != head.digest:
                return None
            return await asyncio.to_thread(_decode, site, head.position, body)
        except (ValueError, KeyError, TypeError, zlib.error):
            return None


def _encode(checkpoint: Checkpoint) -> bytes:
    departures = [(life.id, life.incarnation, key) for life, key in checkpoint.departures]
    content = {
        "departures": departures,
        "numbers": dict(checkpoint.numbers),
        "session": checkpoint.session,
        "noted": checkpoint.noted,
    }
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 1)


def _decode(site: str, position: int, body: bytes) -> Checkpoint:
    content: dict[str, Any] = json.loads(zlib.decompress(body))
    departures = tuple(
        (Life(site, job_id, Incarnation(incarnation)), key)
        for job_id, incarnation, key in content["departures"]
    )
    session, noted = content.get("session", ""), content.get("noted", 0)
    return Checkpoint(position, departures, content["numbers"], session, noted)
