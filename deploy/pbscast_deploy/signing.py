"""The daemon's share in proof: signing every site's log at intervals."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from pbscast.errors import PbscastError
from pbscast_store.audit.checkpoints import sign
from pbscast_store.audit.keys import load_private_key

if TYPE_CHECKING:
    from pathlib import Path

_log = structlog.get_logger(__name__)


async def sign_regularly(dsn: str, key: Path, interval: float) -> None:
    """Sign each site's log every `interval` seconds, until cancelled.

    Several daemons may do so: a site that another has just signed is passed over. What stands in
    the way (no key, no right, no log) is told when it changes, and tried again.
    """
    trouble = None
    while True:
        try:
            # A shade less than the interval, or every other turn would come just too early.
            made = await sign(dsn, load_private_key(key), at_least=interval / 2)
        except PbscastError as error:
            if str(error) != trouble:
                _log.warning("not_signed", error=str(error))
            trouble = str(error)
        else:
            trouble = None
            for one in made:
                _log.info("signed", site=one.site, position=one.position, checkpoint=one.number)
        await asyncio.sleep(interval)
