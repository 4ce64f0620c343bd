"""nats-py's client with what it lacks for a connection that lasts for months."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from pbscast import tls
from pbscast.cancellation import is_cancelled

if TYPE_CHECKING:
    from nats.aio.client import Srv

    from pbscast.credentials import Credential

_CLOSING_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.1
_SECURE: Final = "tls"


class Driver(Client):
    """nats-py's client, with these changes.

    It sends nothing to a server without TLS where a URL or a context asks for TLS; lets go of the
    sockets of attempts that failed; goes on reading where nobody waits for a PONG any more; and is
    closed to the end, in bounded time, whatever became of the server (`abandon`).
    """

    shown: Credential | None = None
    """Which credential the server was shown last."""

    async def connect(self, *arguments: Any, **options: Any) -> None:
        """Connect, or be cancelled.

        Up to Python 3.11 ``asyncio.wait_for``, by which the driver waits, forgets a cancellation
        that comes together with what is waited for: the driver would try again for ever.
        """
        connecting = asyncio.create_task(super().connect(*arguments, **options))
        try:
            await asyncio.wait({connecting})
        finally:
            while not connecting.done():
                connecting.cancel()
                await asyncio.wait({connecting}, timeout=_AGAIN_SECONDS)
            if not connecting.cancelled():
                connecting.exception()  # told below, unless we have been cancelled
        connecting.result()

    async def abandon(self) -> None:
        """Close it, within a moment, whatever stands in the way.

        The driver swallows a cancellation where it waits while closing, and may then wait for ever.
        """
        closing = asyncio.create_task(self.close())
        try:
            await asyncio.wait({closing}, timeout=_CLOSING_SECONDS)
        finally:
            closing.cancel()
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
        if closing.done() and not closing.cancelled():
            closing.exception()  # as one that was never connected has: nothing to be told of

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002 - the driver's
        """The driver stops in the middle, and tells nobody, where a server has cut us off.

        So it does where something else waited for the socket to be closed and was cancelled:
        asyncio's streams hand the same future to all who wait.
        """
        try:
            await super()._close(status, do_cbs)
        except (OSError, RuntimeError):
            await self._finish_closing(do_cbs)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            await self._finish_closing(do_cbs)

    async def _finish_closing(self, do_cbs: bool) -> None:  # noqa: FBT001 - the driver's
        for subscription in self._subs.values():
            subscription._stop_processing()  # noqa: SLF001 - the driver's own
            for waiting in (subscription._pending_next_msgs_calls or {}).values():  # noqa: SLF001
                waiting.cancel()
        self._subs.clear()
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]
        if do_cbs and self._disconnected_cb is not None:
            await self._disconnected_cb()

    async def _connect_to_server(self, s: Srv) -> None:
        """Let go of an attempt that failed first: the driver forgets its socket."""
        if isinstance(self._transport, TcpTransport):
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)

    async def _process_pong(self) -> None:
        """Whoever waited for it may have given up: the driver would stop reading for good."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - the driver's
        """Called before anything is sent to a server: insist on TLS where it was asked for.

        The driver leaves it to the server, or to whoever stands between us and the server.
        """
        server = self._current_server
        is_secure = "tls" in self.options or (server is not None and server.uri.scheme == _SECURE)
        if initial_connection and is_secure and not info.get("tls_required"):
            raise tls.PlainServerError
        await super()._process_info(info, initial_connection)
