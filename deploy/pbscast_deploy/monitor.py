"""Metrics, liveness and readiness over HTTP, and the words for a part's state.

``/metrics`` is prometheus_client's own WSGI application; the server is the standard library's, in
a thread, so that a busy event loop is seen as busy instead of not being seen at all.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from pbscast.errors import ConfigError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_PULSE_SECONDS: Final = 1.0
_STUCK_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one part of the daemon is doing, in a form to show."""

    part: str
    """``ingest sitea``, ``publish sitea``, …"""
    state: str
    ready: bool
    """Whether it does its work or stands by to do it."""
    position: int
    error: str | None
    """The last error as one line, while it lasts."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Requests of a scraper are not worth a line each."""


class Monitor:
    """Answers ``/metrics``, ``/healthz`` (the loop moves) and ``/readyz`` (all parts work)."""

    def __init__(self, parts: Callable[[], Iterable[PartStatus]]) -> None:
        self._parts = parts
        self._pulse = time.monotonic()
        self._metrics: WSGIApplication = make_wsgi_app()

    @asynccontextmanager
    async def serve(self, listen: str) -> AsyncIterator[int]:
        """Serve on ``host:port`` until the end of the block; gives the port that was bound.

        Raises ConfigError if it cannot be bound.
        """
        server = _bind(listen, self._answer)
        thread = threading.Thread(target=server.serve_forever, name="monitor", daemon=True)
        thread.start()
        beat = asyncio.create_task(self._beat())
        try:
            yield server.server_port
        finally:
            beat.cancel()
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    async def _beat(self) -> None:
        while True:
            self._pulse = time.monotonic()
            await asyncio.sleep(_PULSE_SECONDS)

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/metrics":
                return self._metrics(environ, start)
            case "/healthz":
                moving = time.monotonic() - self._pulse < _STUCK_SECONDS
                return _reply(start, {"moving": moving}, good=moving)
            case "/readyz":
                parts = list(self._parts())
                ready = all(part.ready for part in parts)
                return _reply(start, {"parts": [asdict(part) for part in parts]}, good=ready)
            case _:
                return _say(start, HTTPStatus.NOT_FOUND, {"paths": _PATHS})


_PATHS: Final[Sequence[str]] = ("/metrics", "/healthz", "/readyz")


def _bind(listen: str, application: WSGIApplication) -> WSGIServer:
    host, _, port = listen.rpartition(":")
    try:
        return make_server(
            host.strip("[]"), int(port), application, server_class=_Server, handler_class=_Quiet
        )
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"daemon.listen: cannot listen on {listen!r}: {error}") from error


def _reply(start: StartResponse, body: dict[str, object], *, good: bool) -> Iterable[bytes]:
    return _say(start, HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, body)


def _say(start: StartResponse, status: HTTPStatus, body: dict[str, object]) -> Iterable[bytes]:
    headers = [("Content-Type", "application/json")]
    start(f"{status.value} {status.phrase}", headers)
    return [json.dumps(body).encode() + b"\n"]
