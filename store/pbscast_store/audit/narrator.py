"""Where the story of a site is told while its chain is followed elsewhere.

A small log is told in the same process, a large one in a process of its own: the chain is half of
the work, and each of the two halves keeps one processor busy.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, cast

from pbscast import errors
from pbscast.errors import PbscastError, UnavailableError
from pbscast_store.audit.chaining import SiteEnd
from pbscast_store.audit.findings import Broken, Finding, Tale
from pbscast_store.audit.settling import Settler
from pbscast_store.audit.story import Story
from pbscast_store.connection import close, connect, place
from pbscast_store.errors import translated

if TYPE_CHECKING:
    import asyncpg

SMALL: Final = 50_000
"""Events up to which starting a process is not worth the time."""

PATIENCE: Final = 3600.0
"""Seconds that a query of an audit may take: some look through whole tables."""

_PIPE: Final = 1024 * 1024
_LENGTH: Final = 4
_COMPLETE: Final = b"complete"
_CUT: Final = b"cut"


class Narrator(Protocol):
    """Takes a site's events in order, in blocks of whole lines."""

    async def take(self, block: bytes) -> bool:
        """Whether there is any use in going on: nothing was found so far."""

    async def finish(self, *, is_complete: bool) -> Tale:
        """What was told; if that was all, the projection is compared to the end."""


@asynccontextmanager
async def narrating(dsn: str, snapshot: str, head: SiteEnd) -> AsyncIterator[Narrator]:
    """A narrator that sees the log as the exporter of the snapshot does."""
    if head.position > SMALL:
        async with _telling_elsewhere(dsn, snapshot, head) as elsewhere:
            yield elsewhere
        return
    async with _telling_here(dsn, snapshot, head) as here:
        yield here


@asynccontextmanager
async def reading(dsn: str, snapshot: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that sees what the exporter of a snapshot sees."""
    connection = await connect(dsn, command_timeout=PATIENCE)
    try:
        with translated(place(dsn)):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                yield connection
    finally:
        await close(connection)


class _Here:
    """Tells in this process."""

    def __init__(self, story: Story, settler: Settler) -> None:
        self._story = story
        self._settler = settler

    async def take(self, block: bytes) -> bool:
        if self._story.tale.finding is None:
            try:
                self._story.take(block)
                await self._settler.settle()
            except Broken as broken:
                self._story.tale.finding = broken.finding
        return self._story.tale.finding is None

    async def finish(self, *, is_complete: bool) -> Tale:
        if is_complete and self._story.tale.finding is None:
            try:
                await self._settler.finish()
            except Broken as broken:
                self._story.tale.finding = broken.finding
        return self._story.tale


@asynccontextmanager
async def _telling_here(dsn: str, snapshot: str, head: SiteEnd) -> AsyncIterator[_Here]:
    async with reading(dsn, snapshot) as connection:
        story = Story(head.site)
        settler = Settler(connection, story, head)
        try:
            yield _Here(story, settler)
        finally:
            await settler.close()


class _Elsewhere:
    """Has another process tell."""

    def __init__(self, process: asyncio.subprocess.Process, where: str) -> None:
        self._process = process
        self._where = where
        self._input = cast("asyncio.StreamWriter", process.stdin)
        self._output = cast("asyncio.StreamReader", process.stdout)

    def widen(self) -> None:
        """Has the pipe hold a whole block, where the system lets us: fewer turns of both loops."""
        with suppress(OSError):
            fcntl.fcntl(self._input.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, _PIPE)

    async def take(self, block: bytes) -> bool:
        if self._input.is_closing() or self._process.returncode is not None:
            return False
        with suppress(BrokenPipeError, ConnectionResetError):
            self._input.writelines((len(block).to_bytes(_LENGTH), block))
            await self._input.drain()
            return True
        return False

    async def finish(self, *, is_complete: bool) -> Tale:
        await self.take(_COMPLETE if is_complete else _CUT)
        self._input.close()
        answer = json.loads(await self._output.read() or "{}")
        await self._process.wait()
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        if "tale" not in answer:
            raise UnavailableError(f"{self._where}: the process that audits it has died")
        finding = answer["tale"].pop("finding")
        return Tale(finding=finding and Finding(**finding), **answer["tale"])


@asynccontextmanager
async def _telling_elsewhere(dsn: str, snapshot: str, head: SiteEnd) -> AsyncIterator[_Elsewhere]:
    # In a session of its own, so that Ctrl-C reaches us alone: it ends when its input does.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # or a file of the current directory might be imported in place of a library
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    narrator = _Elsewhere(process, place(dsn))
    narrator.widen()
    order = asdict(head) | {"digest": head.digest.hex()}
    try:
        # Through the pipe: others can read a command line, and a DSN may hold a password.
        await narrator.take(json.dumps({"dsn": dsn, "snapshot": snapshot, "head": order}).encode())
        yield narrator
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _frames(source: BinaryIO) -> Iterator[bytes]:
    while length := source.read(_LENGTH):
        yield source.read(int.from_bytes(length))


async def _tell(frames: Iterator[bytes]) -> Tale:
    order: dict[str, Any] = json.loads(next(frames))
    head = SiteEnd(**order["head"] | {"digest": bytes.fromhex(order["head"]["digest"])})
    async with _telling_here(order["dsn"], order["snapshot"], head) as narrator:
        for frame in frames:
            if frame in (_COMPLETE, _CUT):
                return await narrator.finish(is_complete=frame == _COMPLETE)
            if not await narrator.take(frame):
                break
        return await narrator.finish(is_complete=False)


def main() -> None:
    """Tell the story of the events that come in, and say what was found as one JSON object."""
    gc.disable()  # it would look through all that is held, again and again; there are no cycles
    answer: dict[str, Any]
    try:
        answer = {"tale": asdict(asyncio.run(_tell(_frames(sys.stdin.buffer))))}
    except PbscastError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
