"""How much one person may have registered, so that nobody uses up what all share. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pbscast.errors import ConflictError
from pbscast.subscriptions import LONGEST_WHERE, MOST_IDS, Delivery
from pbscast_fanout.askers import SLOTS
from pbscast_fanout.subscriptions.definitions import Head

MOST_LIVE: Final = 48
"""Subscriptions with delivery at most once. Each takes 2.5 kB of memory at each site."""

MOST_IDS_OWNED: Final = 2 * MOST_IDS
"""Ids that all of a person's subscriptions name together: some 25 MB of a worker's memory a site,
of the room for all subscriptions a two hundred and fiftieth part."""

MOST_WHERE_OWNED: Final = 2 * LONGEST_WHERE
"""Characters of all his expressions together, which an event of what he may see may cost 0.5 ms. A
user's are not evaluated for jobs of others, but at sites that are open to him."""

LONGEST_LEASE_OWNED: Final = 3 * 86_400
"""Seconds. What he may see is looked at when he renews, so this is how long he may be told more
than that, were he to renew nothing; messages are not kept for longer by default."""


def numbers(delivery: Delivery) -> range:
    """Return the slots of subscriptions with a delivery; consumers have those that come first."""
    if delivery is Delivery.AT_LEAST_ONCE:
        return range(1, SLOTS + 1)
    return range(SLOTS + 1, SLOTS + MOST_LIVE + 1)


def no_slot(name: str, delivery: Delivery) -> ConflictError:
    """Return the error for somebody who has a subscription in each."""
    count = len(numbers(delivery))
    return ConflictError(
        f"{name} has {count} subscriptions with delivery {delivery} already, which is the most: end"
        " one, or register fewer with more in each"
    )


def check_ids(name: str, others: Iterable[Head], count: int) -> None:
    """Raise ConflictError if a person's subscriptions name too many ids with so many more."""
    total = count + sum(head.count for head in others)
    if total > MOST_IDS_OWNED:
        raise ConflictError(
            f"ids: {name}'s subscriptions would name {total} in all, more than {MOST_IDS_OWNED}:"
            " end one, or remove ids from one"
        )


def check_where(name: str, others: Iterable[Head], where: str | None) -> None:
    """Raise ConflictError if a person's expressions are too long with one more."""
    total = sum(len(text) for text in (where, *(head.request.where for head in others)) if text)
    if total > MOST_WHERE_OWNED:
        raise ConflictError(
            f"where: the expressions of {name}'s subscriptions would have {total} characters in"
            f" all, more than {MOST_WHERE_OWNED}: end one, or say it more briefly"
        )
