"""The messages to subscriptions, in bytes: what many are told alike is encoded once. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pbscast.deliveries import Passage
from pbscast.events import HEADER_FIELDS, Change, Finalize, Reason
from pbscast_fanout import oversize

if TYPE_CHECKING:
    from pbscast.events import AnyEvent, Kind, Site
    from pbscast.lives import Standing
    from pbscast_fanout.matching import Interest, Match
    from pbscast_fanout.subscriptions.stream import Place
    from pbscast_store.records import Record

_HEADER: Final = set(HEADER_FIELDS)


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object that joined by another event than its first: how that left it is told as well."""

    kind: Kind
    id: str
    position: int
    interest: Interest | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one subscription, but for what only others know: its number, and the rest."""

    key: str
    kept: bool
    """Whether it is delivered at least once, so that it has a number."""
    tail: bytes
    """What follows the number; shared by all that are told the same."""
    place: Place | None = None
    """How far the site is told with it; None: not moved by it."""
    arrival: Arrival | None = None
    """Whose standing is to be added."""
    destination: str | None = None
    """Of a job that was moved: the site there is to be added, if it is the subscription's."""


def encode(
    site: Site,
    delivery: Delivery,
    number: int | None,
    standing: bytes | None = None,
    to: Site | None = None,
) -> bytes:
    """Return the message; `standing` as `encode_standing` gives it."""
    parts = [_head(site, delivery.key)]
    if number is not None:
        parts.append(b'"n":%d,' % number)
    if standing is not None:
        parts.append(b'"standing":' + standing + b",")
    if to is not None:
        parts.append(b'"to":' + json.dumps(to).encode() + b",")
    parts.append(delivery.tail)
    return b"".join(parts)


@lru_cache(16_384)
def _head(site: Site, key: str) -> bytes:
    return f'{{"subscription":{json.dumps(key)},"site":{json.dumps(site)},'.encode()


def begin_tail(position: int) -> bytes:
    """Return what follows the number of the message that begins a site."""
    return b'"what":"begin","position":%d}' % position


def boundary_tail(position: int) -> bytes:
    """Return the same of the message after all that stood."""
    return b'"what":"boundary","position":%d}' % position


def object_tail(standing: Standing, interest: Interest | None, limit: int) -> bytes:
    """Return the same of how an object stands.

    `limit` is what a message may have, envelope not counted.
    """
    return b'"what":"object","object":' + encode_standing(standing, interest, limit) + b"}"


def encode_standing(standing: Standing, interest: Interest | None, limit: int) -> bytes:
    """Return it cut to what is of interest, and without its largest values where it has to be."""
    shown = standing if interest is None else interest.cut_standing(standing)
    return oversize.shorten_row(shown.model_dump_json(exclude_defaults=True).encode(), limit)


class Telling:
    """One event, and the forms in which subscriptions are told of it."""

    def __init__(self, record: Record, event: AnyEvent, limit: int) -> None:
        self._record = record
        self._event = event
        self._limit = limit
        self._tails: dict[tuple[Passage, Interest | None, bool], bytes] = {}

    def delivery(self, match: Match, place: Place | None, *, kept: bool) -> Delivery:
        """Return the message for one of those that it is for."""
        event, arrival = self._event, None
        if match.passage is Passage.JOINED and event.revision > 1:
            arrival = Arrival(event.kind, event.id, event.position, match.interest)
        moved = isinstance(event, Finalize) and event.reason is Reason.MOVED
        destination = event.destination if isinstance(event, Finalize) and moved else None
        tail = self._tail(match.passage, match.interest, shares=arrival is not None)
        return Delivery(match.key, kept, tail, place, arrival, destination)

    def _tail(self, passage: Passage, interest: Interest | None, *, shares: bool) -> bytes:
        kind = (passage, interest, shares)
        if (tail := self._tails.get(kind)) is None:
            # Half of the room is left to the standing that comes with it.
            body = self._body(interest, self._limit // 2 if shares else self._limit)
            tail = self._tails[kind] = (
                f'"what":"event","passage":"{passage}","event":'.encode() + body + b"}"
            )
        return tail

    def _body(self, interest: Interest | None, limit: int) -> bytes:
        record = self._record
        if interest is not None and isinstance(self._event, Change):
            cut = interest.cut(self._event)
            payload = cut.model_dump_json(exclude=_HEADER, exclude_defaults=True)
            record = replace(record, payload=payload)
        body = record.encode()
        return body if len(body) <= limit else oversize.shorten(record, limit).encode()
