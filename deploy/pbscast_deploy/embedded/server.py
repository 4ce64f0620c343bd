"""What the embedded servers have in common: a directory of their own and a process in it."""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from pbscast.errors import UnavailableError
from pbscast_deploy.embedded.place import Place

_STOP_SECONDS = 30.0


class EmbeddedServer(ABC):
    """Made by the first `start`, kept over `stop`, `kill` and `restart`, gone after `close`.

    It does not outlive this process, however that ends. All methods block: call them by
    `asyncio.to_thread` where an event loop runs, and from one thread at a time.
    """

    _orderly: ClassVar[signal.Signals]
    """Ends the server with everything flushed."""
    _hasty: ClassVar[str]
    """Name of the signal that it gets when we are gone, and its directory with us."""

    def __init__(self) -> None:
        self._place: Place | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The server's directory; its `log` lies in it."""
        if self._place is None:
            raise UnavailableError(f"this {type(self).__name__} has not been started")
        return self._place.directory

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def start(self) -> Self:
        """Returns when clients can connect.

        Raises UnavailableError with the reason; after a first start that failed nothing is left.
        """
        if self._place is not None:
            self._come_up()
            return self
        self._place = Place.make(self._hasty)
        try:
            self._prepare()
            self._come_up()
        except BaseException:
            self.close()
            raise
        return self

    def stop(self) -> None:
        """Orderly and fast; what it stores stays for `start`."""
        self._end(self._orderly)

    def kill(self) -> None:
        """As a crash: `kill -9`; what it stores stays for `start`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Orderly stop and start, on the same data and port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stops the server and removes its directory. May be repeated."""
        self.stop()
        if self._place is not None:
            self._place.remove()
            self._place = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    @abstractmethod
    def _prepare(self) -> None:
        """Fills the new directory."""

    @abstractmethod
    def _come_up(self) -> None:
        """Starts the process unless it runs, and waits until it serves."""

    def _guard(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        if self._place is not None:
            self._place.guard(process.pid)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._place is not None:
            self._place.guard(None)
