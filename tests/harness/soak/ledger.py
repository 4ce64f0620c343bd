"""What was committed and what was received, while it happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from harness.soak.verdict import Copy, Pause

from pbscast_deploy.oracle import Saved, read_record

_LOOK_SECONDS: Final = 0.05
_PATIENCE: Final = 60.0
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Ledger:
    """A site's record file, the number of changes in it, and when capture was off."""

    def __init__(self, path: Path) -> None:
        self.pauses: list[Pause] = []
        self.count = 0
        self._path = path
        self._file = path.open("a")

    def __call__(self, saved: Saved) -> None:
        """Called in the writing thread right after the commit."""
        self._file.write(f"{saved.to_line()}\n")
        self._file.flush()
        self.count += 1

    @asynccontextmanager
    async def pause(
        self, pause: Callable[[], Awaitable[object]], resume: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[None]:
        """Capture is off inside: what was committed before is captured, and what comes after.

        Of the save in flight at either moment nobody knows.
        """
        first, earliest = self.count + 1, datetime.now(UTC)
        await pause()
        begin = datetime.now(UTC)
        try:
            yield
        finally:
            end = datetime.now(UTC)
            await resume()
            latest = datetime.now(UTC)
            self.pauses.append(Pause(first, self.count + 1, begin, end, earliest, latest))

    def commits(self) -> Iterator[Saved]:
        return read_record(self._path)

    def close(self) -> None:
        """May be repeated."""
        self._file.close()


class Tail:
    """Follows the file that the subscriber writes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._read = 0
        self._newest: dict[str, datetime] = {}
        self._moved = asyncio.Event()
        self.positions: dict[str, int] = {}
        self.last_words: set[str] = set()
        """The jobs that were submitted when all was over: their number is 0."""
        self.covered: dict[str, datetime] = {}
        """Up to when gaps were told, of each site."""
        self.settled: dict[str, bool] = {}
        """Whether the last word of a site on gaps is that they were mended."""

    async def keep(self) -> None:
        """Follow until cancelled."""
        while True:
            for line in self._new_lines():
                self._note(json.loads(line)["data"])
                self._moved.set()
            await asyncio.sleep(_LOOK_SECONDS)

    def newest(self, site: str) -> datetime:
        """The time of the last change that came."""
        return self._newest.get(site, LONG_AGO)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when it holds. Raises TimeoutError."""
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                self._moved.clear()
                await self._moved.wait()

    def copies(self) -> dict[str, list[Copy]]:
        """Everything in the file, by site."""
        found: dict[str, list[Copy]] = {}
        with self.file.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    body = line[:-1]
                    data = json.loads(body)["data"]
                    found.setdefault(data["site"], []).append(Copy.of(data["position"], body))
        return found

    def _new_lines(self) -> list[bytes]:
        """Whole ones; the subscriber drops a torn one when it starts again."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.split(b"\n")[:-1]

    def _note(self, data: dict[str, object]) -> None:
        site = str(data["site"])
        self.positions[site] = max(self.positions.get(site, 0), int(str(data["position"])))
        if data["kind"] == "site":
            if data["event"] == "gap":
                self.covered[site] = datetime.fromisoformat(str(data["end"]))
            if data["event"] in ("gap", "resync"):
                self.settled[site] = data["event"] == "resync"
            return
        if (job := str(data["id"])).startswith("0."):
            self.last_words.add(job)
        if data["provenance"] == "journal":
            self._newest[site] = datetime.fromisoformat(str(data["time"]))
