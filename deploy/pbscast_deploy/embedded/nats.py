"""A real nats-server with JetStream in a temporary directory."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pbscast.errors import UnavailableError
from pbscast_deploy.embedded.binaries import find_nats_server
from pbscast_deploy.embedded.place import Place, tail

_MAX_PAYLOAD = 8 * 1024 * 1024  # the most that nats-server recommends; its default cuts 1 MB events
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0


class NatsServer:
    """One server with its store: kept over `stop`, `kill` and `restart`, gone after `close`.

    It listens on 127.0.0.1 only, on a free port that stays the same over restarts. With `durable`
    (the default) the store is synced on every write (`sync_interval: always`). All methods block.
    """

    def __init__(
        self,
        *,
        durable: bool = True,
        port: int | None = None,
        config: str = "",
        jetstream: str = "",
    ) -> None:
        """Takes `port` if it is free at the first start, else any.

        `config` is added to the configuration file, `jetstream` to its jetstream block.
        """
        self._durable = durable
        self._config = config
        self._jetstream = jetstream
        self._port = -1 if port is None or not _is_free(port) else port
        self._place: Place | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The server's directory: configuration, log and store lie in it."""
        if self._place is None:
            raise UnavailableError("this nats-server has not been started")
        return self._place.directory

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:port`."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def start(self) -> Self:
        """Returns when clients can connect.

        Raises UnavailableError with the reason; after a first start that failed nothing is left.
        """
        if self._place is not None:
            return self._start(self._place)
        self._place = Place.make()
        try:
            return self._start(self._place)
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Orderly; the store stays for `start`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash: `kill -9`. The store stays for `start`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Orderly stop and start on the same store and port."""
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

    def _start(self, place: Place) -> Self:
        if self.pid is None:
            self._launch(place)
            self._wait_until_ready(place)
        return self

    def _launch(self, place: Place) -> None:
        config = place.directory / "nats.conf"
        config.write_text(self._configuration(place))
        with (place.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_nats_server(), "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place.directory,
                start_new_session=True,
            )
        place.guard(self._process.pid)

    def _configuration(self, place: Place) -> str:
        """Port -1 lets the server choose, and tell us by `ports_file_dir`: nobody can be faster."""
        sync = "sync_interval: always" if self._durable else ""
        return "\n".join(
            (
                f"listen: '127.0.0.1:{self._port}'",
                f"ports_file_dir: '{place.directory}'",
                f"max_payload: {_MAX_PAYLOAD}",
                f"jetstream {{ store_dir: '{place.directory / 'store'}'",
                sync,
                self._jetstream,
                "}",
                self._config,
            )
        )

    def _wait_until_ready(self, place: Place) -> None:
        deadline = time.monotonic() + _START_SECONDS
        ports = place.directory / f"nats-server_{self.pid}.ports"
        while not (ports.exists() and ports.stat().st_size):
            if self.pid is None or time.monotonic() > deadline:
                self.kill()
                raise UnavailableError(
                    f"nats-server did not start: {tail(place.directory / 'log')}"
                )
            time.sleep(0.01)
        first = json.loads(ports.read_text())["nats"][0]
        self._port = int(first.rsplit(":", 1)[1])

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


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
