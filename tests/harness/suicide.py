"""Archiving in a process that is killed (`kill -9`) at a chosen step."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from harness import archiving

from pbscast_store.archive import catalog, keeping, writing

_MODULES = {"catalog": catalog, "keeping": keeping, "writing": writing}


class Suicide:
    """Keeps one process that has everything loaded, and lets copies of it archive and die."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.suicide"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def archive(self, dsn: str, directory: Path, policy: str, step: str, when: str) -> None:
        """Archive until just `before` or `after` a step; returns when the process is dead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join([dsn, str(directory), policy, step, when]) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"{-signal.SIGKILL}\n"


def _main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _archive_and_die(*line.strip().split("\t"))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _archive_and_die(dsn: str, directory: str, policy: str, step: str, when: str) -> None:
    module, _, name = step.partition(".")
    real = getattr(_MODULES[module], name)

    def call(*arguments: Any, **named: Any) -> Any:
        if when == "after":
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(_MODULES[module], name, call)
    asyncio.run(archiving.archive(dsn, Path(directory), getattr(archiving, policy)))


if __name__ == "__main__":
    _main()
