"""What an operator has beside the demo: its configuration, a key, accounting files."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import IO, Final

from pbscast_store.audit.keys import make_key

_PLACE: Final = Path(".cache/demo")
_HEAD: Final = 19
_END: Final = re.compile(rb"(?<= end=)\d+")
_SIGNING_SECONDS: Final = 30


@dataclass(frozen=True)
class Desk:
    """A directory for its owner alone that lasts as long as the demo."""

    directory: Path

    @property
    def config(self) -> Path:
        """The configuration of the daemon, for other commands."""
        return self.directory / "pbscast.toml"

    @property
    def settings(self) -> list[str]:
        """Lines of the configuration that name what lies here."""
        place = self.directory.absolute()
        return [
            f'[audit]\nkey = "{place / "audit.key"}"\ninterval_seconds = {_SIGNING_SECONDS}',
            f'[archive]\ndirectory = "{place / "archive"}"',
        ]

    def prepare(self) -> None:
        """Make the key and the archives' directory."""
        make_key(self.directory / "audit.key")
        (self.directory / "archive").mkdir()

    def write_accounting(self, site: str, clock: ReplayClock) -> Path:
        """Write a recorded site's accounting as of the times of the replay; gives where."""
        directory = self.directory / "accounting" / site
        directory.mkdir(parents=True)
        days: defaultdict[date, list[bytes]] = defaultdict(list)
        for day, line in shifted(recorded_accounting(site), clock.moment):
            days[day].append(line)
        for day, lines in days.items():
            (directory / f"{day:%Y%m%d}").write_bytes(b"".join(lines))
        return directory


@dataclass
class ReplayClock:
    """When what was recorded was written again."""

    recorded: list[datetime] = field(default_factory=list)
    written: list[datetime] = field(default_factory=list)

    def note(self, recorded: datetime) -> None:
        """Something of that time has just been written."""
        self.recorded.append(recorded)
        self.written.append(datetime.now(UTC))

    def moment(self, recorded: datetime) -> datetime:
        """Return the time of the replay that a recorded time has become."""
        after = bisect_left(self.recorded, recorded)
        if after in (0, len(self.recorded)):
            return self.written[min(after, len(self.written) - 1)]
        begin, end = self.recorded[after - 1 : after + 1]
        share = (recorded - begin) / (end - begin)
        since, until = self.written[after - 1 : after + 1]
        return since + (until - since) * share


def recorded_accounting(site: str) -> list[bytes]:
    """Return the accounting lines that were recorded with the bundled trace of a site, in UTC."""
    directory = Path(str(files("pbscast_deploy").joinpath("traces", "accounting")))
    found = sorted(directory.glob(f"{site}-*"))
    return [line for path in found for line in path.read_bytes().splitlines(keepends=True)]


def shifted(
    lines: Iterable[bytes], moment: Callable[[datetime], datetime]
) -> Iterator[tuple[date, bytes]]:
    """Give lines as PBS would have written them at another time, in local time, and their days.

    An `end` is when the record was written; other epochs are attributes of the job, and stay.
    """
    for line in lines:
        head = datetime.strptime(line[:_HEAD].decode(), "%m/%d/%Y %H:%M:%S").replace(tzinfo=UTC)
        local = moment(head).astimezone()
        text = line[_HEAD:]
        if text[:3] in (b";E;", b";R;"):
            text = _END.sub(str(int(local.timestamp())).encode(), text)
        yield local.date(), f"{local:%m/%d/%Y %H:%M:%S}".encode() + text


@contextmanager
def open_desk() -> Iterator[Desk]:
    """Give a desk at `.cache/demo`, or at a place of its own where another demo runs there."""
    with ExitStack() as stack:
        try:
            directory = _own(_PLACE, stack) or _another(_PLACE.parent)
        except OSError:
            directory = _another(None)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        desk = Desk(directory)
        desk.prepare()
        yield desk


def _own(directory: Path, stack: ExitStack) -> Path | None:
    """Take the directory, emptied of what a demo left that was killed; None if one runs there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock: IO[str] = stack.enter_context((directory / "lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    for left in directory.iterdir():
        if left.name != "lock":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    directory.chmod(0o700)
    return directory


def _another(parent: Path | None) -> Path:
    return Path(os.path.relpath(tempfile.mkdtemp(prefix="demo-", dir=parent)))
