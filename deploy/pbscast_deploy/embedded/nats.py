"""A real nats-server with JetStream in a temporary directory."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time

from pbscast.errors import UnavailableError
from pbscast_deploy.embedded.binaries import find_nats_server
from pbscast_deploy.embedded.place import tail
from pbscast_deploy.embedded.server import EmbeddedServer

_MAX_PAYLOAD = 8 * 1024 * 1024  # the most that nats-server recommends; its default cuts 1 MB events
_START_SECONDS = 30.0


class NatsServer(EmbeddedServer):
    """A nats-server with its store.

    It listens on 127.0.0.1 only, on a free port that stays the same over restarts. With `durable`
    (the default) the store is synced on every write (`sync_interval: always`).
    """

    _orderly = signal.SIGTERM
    _hasty = "TERM"

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
        super().__init__()
        self._durable = durable
        self._config = config
        self._jetstream = jetstream
        self._port = -1 if port is None or not _is_free(port) else port

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:port`."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._port

    def _prepare(self) -> None:
        """The configuration is written at each start: the port is known after the first."""

    def _come_up(self) -> None:
        if self.pid is None:
            self._launch()
            self._wait_until_ready()

    def _launch(self) -> None:
        config = self.directory / "nats.conf"
        config.write_text(self._configuration())
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [find_nats_server(), "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )
        self._guard(process)

    def _configuration(self) -> str:
        """Port -1 lets the server choose, and tell us by `ports_file_dir`: nobody can be faster."""
        sync = "sync_interval: always" if self._durable else ""
        return "\n".join(
            (
                f"listen: '127.0.0.1:{self._port}'",
                f"ports_file_dir: '{self.directory}'",
                f"max_payload: {_MAX_PAYLOAD}",
                f"jetstream {{ store_dir: '{self.directory / 'store'}'",
                sync,
                self._jetstream,
                "}",
                self._config,
            )
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        ports = self.directory / f"nats-server_{self.pid}.ports"
        while not (ports.exists() and ports.stat().st_size):
            if self.pid is None or time.monotonic() > deadline:
                self.kill()
                raise UnavailableError(f"nats-server did not start: {tail(self._log)}")
            time.sleep(0.01)
        first = json.loads(ports.read_text())["nats"][0]
        self._port = int(first.rsplit(":", 1)[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
