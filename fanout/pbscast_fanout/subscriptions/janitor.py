"""Takes away what is left of subscriptions that nobody renews, or that somebody half removed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from pbscast.errors import NotFoundError, PbscastError
from pbscast_fanout import metrics
from pbscast_fanout.lasting import lasting

if TYPE_CHECKING:
    from pbscast_fanout.subscriptions.holdings import Holdings
    from pbscast_fanout.subscriptions.membership import Membership

SWEEP_SECONDS: Final = 300.0
"""What ran out while its worker was dying goes so much later."""
_SWEEPING: Final = "sweep"
_RETRY_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class Janitor:
    """Removes, of the subscriptions that are this worker's, those whose lease has run out.

    Told by NATS when that happens. One worker's sweeps too, for what nobody was told and for what
    was left by who was interrupted.
    """

    def __init__(self, holdings: Holdings, membership: Membership) -> None:
        self._holdings = holdings
        self._membership = membership
        self._suspects: set[str] = set()
        self._error = ""

    async def run(self) -> NoReturn:
        """Work until cancelled; outages are waited out."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lasting(self._watch()))
            while True:
                rest = await self._try()
                await asyncio.sleep(rest)

    async def _try(self) -> float:
        """Sweep; return after how many seconds to do so again."""
        try:
            await self._holdings.ensure()
            if self._membership.mine(_SWEEPING):
                await self.sweep()
        except PbscastError as error:
            if str(error) != self._error:
                _log.warning("subscriptions_not_swept", error=str(error))
            self._error = str(error)
            return _RETRY_SECONDS
        self._error = ""
        return SWEEP_SECONDS

    async def _watch(self) -> None:
        async with aclosing(self._holdings.registry.expiries()) as expiries:
            async for key in expiries:
                if self._membership.mine(key):
                    await self._try_expire(key)

    async def _try_expire(self, key: str) -> None:
        try:
            await self._expire(key)
        except PbscastError as error:
            _log.warning("subscription_left", subscription=key, error=str(error))

    async def _expire(self, key: str) -> None:
        """Remove a subscription if there is one and it has no lease."""
        registry = self._holdings.registry
        if await registry.has(key):
            try:
                await registry.lease(key)
            except NotFoundError:
                await self._holdings.remove(key)
                metrics.ENDED.labels("expired").inc()
                _log.info("subscription_expired", subscription=key)

    async def sweep(self) -> None:
        """Look at all that there is, whosever it is.

        What belongs to no definition is removed when it is seen for the second time: it may be of
        one that is just being registered.
        """
        holdings = self._holdings
        registered = await holdings.registry.keys()
        for key in registered - await holdings.registry.leased():
            await self._try_expire(key)
        # At once when they are seen: in a slot that is taken meanwhile would be another's.
        consumers = await holdings.loose_consumers()
        for name in consumers & self._suspects:
            await holdings.consumers.drop_named(name)
        traces = await holdings.traces() - registered
        loose = await holdings.registry.loose_parts()
        for part in loose & self._suspects:
            await holdings.registry.forget_part(part)
        for key in traces & self._suspects:
            await holdings.remove(key)
        self._suspects = (traces | loose | consumers) - self._suspects
