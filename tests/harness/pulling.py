"""Read what a stream holds, as any JetStream client does."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nats.errors import TimeoutError as NatsTimeout

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext


async def pulled(consumer: JetStreamContext.PullSubscription, most: int = 1000) -> list[Msg]:
    """All that a consumer has yet to deliver, in order; `most`: at once.

    No more is asked for than there is: for more the server would wait, and what it sends just as
    the wait ends counts as delivered and is not here.
    """
    messages: list[Msg] = []
    while pending := (await consumer.consumer_info()).num_pending:
        with suppress(NatsTimeout):  # something has been deleted meanwhile
            messages += await consumer.fetch(min(pending, most), timeout=10)
    return messages
