"""Telling who watches a job that nobody knows that nothing may ever come."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from pbscast.cli.running import say
from pbscast.errors import NotFoundError, PbscastError
from pbscast.ids import JobId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from pbscast.client import Client

_MOST: Final = 20
"""Ids that are asked for: it is a courtesy, and one question each."""


@asynccontextmanager
async def telling_unknown(
    client: Client, job_ids: Iterable[str], sites: Sequence[str]
) -> AsyncIterator[None]:
    """Say meanwhile, once, of which of these sites and jobs the log knows nothing yet.

    An id without its server cannot be asked for; where nobody answers nothing is said.
    """
    asking = asyncio.create_task(_tell(client, job_ids, sites))
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _tell(client: Client, job_ids: Iterable[str], sites: Sequence[str]) -> None:
    full = [job_id for job_id in dict.fromkeys(job_ids) if JobId.parse(job_id).server is not None]
    try:
        known = [
            site
            for site in dict.fromkeys(sites)
            if await _is_known(client.history(sites=site, limit=1))
        ]
        for job_id in full[:_MOST]:
            await _is_known(client.jobs(job_id, sites=known or None))
    except PbscastError:
        return


async def _is_known(answer: AsyncIterator[object]) -> bool:
    try:
        await anext(answer, None)
    except NotFoundError as error:
        say(f"{error}; waiting for it")
        return False
    return True
