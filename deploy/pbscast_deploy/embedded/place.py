"""A temporary directory, and a process working in it, that do not outlive us."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pbscast.errors import UnavailableError

_SOCKET_PATH_LIMIT = 100
_LONGEST_NAME = len("/pbscast-12345678/socket/.s.PGSQL.65535")

# A shell in a session of its own holds the read end of a pipe of ours, which closes when we end,
# by whatever means. A parent-death signal would not do: it follows the thread that started the
# server, not the process.
_KEEPER = """
directory=$1; signal=$2; pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
  kill -s "$signal" "$pid"
  for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" || break; sleep 0.2; done
  kill -s KILL "$pid"
fi 2>/dev/null
exec rm -rf -- "$directory"
"""


@dataclass
class Place:
    """A directory of mode 0700 that is removed, its process stopped first, once we are gone."""

    directory: Path
    _keeper: subprocess.Popen[str]

    @classmethod
    def make(cls, stop_signal: str = "TERM") -> Place:
        """`stop_signal` is what the guarded process gets if we die without stopping it."""
        directory = Path(tempfile.mkdtemp(prefix="pbscast-", dir=_parent_directory()))
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "pbscast-keeper", directory, stop_signal],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            text=True,
        )
        return cls(directory, keeper)

    def guard(self, pid: int | None) -> None:
        """From now on process `pid` (None: nothing) is to be stopped if we die."""
        pipe = self._pipe()
        pipe.write(f"{pid or ''}\n")
        pipe.flush()

    def remove(self) -> None:
        """Removes the directory; the process working in it must have been stopped. Repeatable."""
        pipe = self._pipe()
        if not pipe.closed:
            self.guard(None)
            pipe.close()
        self._keeper.wait()

    def _pipe(self) -> IO[str]:
        pipe = self._keeper.stdin
        assert pipe is not None  # noqa: S101 - Popen was told to make one
        return pipe


def _parent_directory() -> Path:
    """The usual place for temporary files, unless a socket's path would become too long there."""
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp is used in it
        short = len(candidate) + _LONGEST_NAME <= _SOCKET_PATH_LIMIT
        if (
            short
            and os.access(candidate, os.W_OK | os.X_OK)
            and _servers_may_enter(Path(candidate))
        ):
            return Path(candidate)
    raise UnavailableError(
        f"no writable temporary directory with a path short enough for a socket "
        f"(at most {_SOCKET_PATH_LIMIT - _LONGEST_NAME} characters): set TMPDIR"
    )


def _servers_may_enter(directory: Path) -> bool:
    """As root we start PostgreSQL under another account, which must get through every parent."""
    if os.geteuid() != 0:
        return True
    way = [directory.resolve(), *directory.resolve().parents]
    return all(step.stat().st_mode & stat.S_IXOTH for step in way)


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a server's log on one line, for an error message."""
    if not log.exists():
        return "no log"
    text = log.read_text(errors="replace").strip().splitlines()
    return " | ".join(text[-lines:]) or "empty log"
