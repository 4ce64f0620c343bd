"""What is kept of a subscription, and in which form. Pure.

A head, JSON, and where its ids are many, parts that hold them, compressed: each fits into a
message. A part is never rewritten, so a head that names it means the same for ever.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pbscast.errors import (
    ConflictError,
    DecodeError,
    InvalidJobId,
    NotFoundError,
    UsageError,
)
from pbscast.events import Kind
from pbscast.selection import first_fault
from pbscast.subscriptions import (
    MOST_IDS,
    Delivery,
    Filter,
    ModifyRequest,
    SubscribeRequest,
    complete,
)
from pbscast_fanout.subscriptions.owners import Owner

MOST_ID_TEXT: Final = 16 << 20
"""Characters that all ids of a subscription may have together."""

_INLINE_TEXT: Final = 16 << 10
"""Characters of ids that still go into the head."""
_PART_IDS: Final = 8192
_LARGEST_PART: Final = 256 << 10
_ID: Final = re.compile(r"[0-9A-Za-z]{22,64}")


@dataclass(frozen=True, slots=True)
class Definition:
    """A subscription as it is registered."""

    id: str
    """22 to 64 letters and digits that nobody guesses."""
    request: SubscribeRequest
    """As it was modified since: ``ids`` in the order in which they were added."""
    revision: int
    """Higher after each change of it."""
    ended: bool
    """Whether every id has ended."""
    created: datetime
    owner: Owner | None = None
    """None: of no person, so that it may be told everything."""
    slot: int | None = None
    """Which of its owner's it is."""
    lost: bool = False
    """Whether its owner may no longer see all of it, as those have said who change rights."""

    @property
    def more(self) -> bool:
        """Whether more ids are on their way: what has not begun waits for them."""
        return self.request.more

    def covers(self, site: str) -> bool:
        """Whether a site is told to it."""
        sites, owner = self.request.sites, self.owner
        is_visible = owner is None or owner.covers(site)
        return not self.ended and is_visible and (not sites or site in sites)

    def only_at(self, site: str) -> str | None:
        """Return whose jobs alone a site that it covers may tell to it; None: everybody's."""
        return None if self.owner is None else self.owner.only_at(site)

    @property
    def consumer(self) -> str | None:
        """The name of its consumer; None: it is delivered at most once."""
        return consumer_of(self.id, self.request.delivery, self.owner, self.slot)

    @property
    def address(self) -> str:
        """What the subjects of its messages end in if they come at most once.

        A person's account has them come to him without himself in it, and to nobody else at all.
        """
        return self.id if self.owner is None else f"{self.owner.pass_name}.{self.id}"


class Head(BaseModel):
    """What is kept under the subscription's id."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    request: SubscribeRequest
    """With its ids if they are few."""
    parts: tuple[str, ...] = ()
    """The keys, after the subscription's, of those that hold the ids if they are many."""
    count: int
    """How many ids there are."""
    ended: bool = False
    created: datetime
    origin: str
    """What tells the request with which it was registered from another."""
    owner: Owner | None = None
    slot: int | None = None
    lost: bool = False

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise DecodeError, also for what a newer release has written."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise DecodeError(f"not the head of a subscription: {first_fault(error)}") from error

    def is_of(self, owner: Owner | None) -> bool:
        """Whether he may know of it: None may know of all, a person of his own."""
        if owner is None:
            return True
        return self.owner is not None and self.owner.token == owner.token

    def consumer(self, key: str) -> str | None:
        """Return the name of the consumer; None: it is delivered at most once."""
        return consumer_of(key, self.request.delivery, self.owner, self.slot)

    def encode(self) -> bytes:
        """Return JSON; what is left out is at its default."""
        return self.model_dump_json(exclude_defaults=True).encode()


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be written for a request."""

    request: SubscribeRequest
    head: Head
    body: bytes
    """The head's."""
    parts: Mapping[str, bytes]
    """Those that are new."""


def consumer_of(key: str, delivery: Delivery, owner: Owner | None, slot: int | None) -> str | None:
    """Return the name of a subscription's consumer; None: it has none."""
    if delivery is Delivery.AT_MOST_ONCE:
        return None
    return key if owner is None or slot is None else owner.slot(slot)


def new_id() -> str:
    """Return one that nobody guesses."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether a subscription may be called so; such a text is one token of a subject."""
    return _ID.fullmatch(text) is not None


def check_id(key: str) -> str:
    """Return it. Raises NotFoundError for what is none: it could be another subject, or several."""
    if not is_id(key):
        raise unknown(key)
    return key


def unknown(key: str) -> NotFoundError:
    """Return the error for a subscription that is not there."""
    shown = key if len(key) <= 64 else f"{key[:61]}..."
    return NotFoundError(f"there is no subscription {shown!r}: it has ended, or its lease ran out")


def used(key: str) -> ConflictError:
    """Return the error for an id that one had which is no more."""
    return ConflictError(f"id: subscription {key!r} has ended: take another id")


def origin_of(request: SubscribeRequest) -> str:
    """Return a digest of all that was asked for."""
    return sha256(request.model_dump_json(exclude={"id"}).encode()).hexdigest()


def draft_new(
    request: SubscribeRequest, room: int, owner: Owner | None = None, slot: int | None = None
) -> Draft:
    """Return what to write for a new subscription, no message of it larger than `room` bytes.

    Raises UsageError if it is too large.
    """
    head = Head(
        request=request,
        count=0,
        created=datetime.now(UTC),
        origin=origin_of(request),
        owner=owner,
        slot=slot,
    )
    return draft(head, request, room, {})


def draft(head: Head, request: SubscribeRequest, room: int, parts: Mapping[str, bytes]) -> Draft:
    """Return what to write for the request in place of the head and the parts that it names.

    Raises UsageError if it is too large.
    """
    kept, named = request.model_copy(update={"id": None}), dict[str, bytes]()
    if _is_long(request.ids):
        kept = kept.model_copy(update={"ids": ()})
        named = _named(pack(request.ids, min(room, _LARGEST_PART)), parts)
    update = {"request": kept, "parts": tuple(named), "count": len(request.ids)}
    head = head.model_copy(update=update)
    body = head.encode()
    if len(body) > room:
        msg = f"request: {len(body)} bytes, more than NATS takes ({room}): list fewer values"
        raise UsageError(msg)
    fresh = {name: part for name, part in named.items() if name not in parts}
    return Draft(request, head, body, fresh)


def _is_long(ids: Sequence[str]) -> bool:
    text = sum(map(len, ids))
    if text > MOST_ID_TEXT:
        msg = f"ids: {text} characters in all, more than {MOST_ID_TEXT}: register several"
        raise UsageError(msg)
    return text + 4 * len(ids) > _INLINE_TEXT


def _named(bodies: Iterable[bytes], existing: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give each part a name that never was in use, unless it is there already."""
    names = {body: name for name, body in existing.items()}
    return {names.get(body) or secrets.token_hex(8): body for body in bodies}


def pack(texts: Sequence[str], room: int) -> Iterator[bytes]:
    """Yield texts compressed, in order, each piece of at most `room` bytes or one text.

    What is appended to the texts changes the last pieces only.
    """
    for begin in range(0, len(texts), _PART_IDS):
        yield from _fit(texts[begin : begin + _PART_IDS], room)


def _fit(texts: Sequence[str], room: int) -> Iterator[bytes]:
    body = zlib.compress(json.dumps(texts, separators=(",", ":")).encode())
    if len(body) <= room or len(texts) == 1:
        yield body
        return
    half = len(texts) // 2
    yield from _fit(texts[:half], room)
    yield from _fit(texts[half:], room)


def unpack(bodies: Iterable[bytes]) -> tuple[str, ...]:
    """Undo pack. Raises DecodeError."""
    try:
        return tuple(text for body in bodies for text in json.loads(zlib.decompress(body)))
    except (ValueError, TypeError, zlib.error) as error:
        raise DecodeError(f"not a part of a subscription: {error}") from error


def define(key: str, revision: int, head: Head, parts: Iterable[bytes]) -> Definition:
    """Return what head and parts say. Raises DecodeError."""
    ids = unpack(parts) if head.parts else head.request.ids
    return defined(key, revision, head, head.request.model_copy(update={"ids": ids}))


def defined(key: str, revision: int, head: Head, request: SubscribeRequest) -> Definition:
    """Return what a head says of a request, which has all its ids."""
    return Definition(
        key,
        request.model_copy(update={"id": key}),
        revision,
        ended=head.ended,
        created=head.created,
        owner=head.owner,
        slot=head.slot,
        lost=head.lost,
    )


def modified(definition: Definition, change: ModifyRequest) -> SubscribeRequest:
    """Return the request after the change: what is there already, or not there, is no error.

    Raises UsageError, and ConflictError if it has ended.
    """
    if definition.ended:
        msg = f"every id of subscription {definition.id!r} has ended: subscribe anew"
        raise ConflictError(msg)
    request = definition.request
    update: dict[str, object] = {}
    if change.attributes is not None:
        update["attributes"] = _attributes(request, change.attributes)
    if change.add_ids or change.remove_ids:
        update |= {"ids": _ids(request, change), "more": change.more}
    return request.model_copy(update=update)


def _attributes(request: SubscribeRequest, names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return Filter(kinds=request.kinds, attributes=names).attributes
    except ValidationError as error:
        raise first_fault(error) from error


def _ids(request: SubscribeRequest, change: ModifyRequest) -> tuple[str, ...]:
    if not request.ids:
        field_name = "add_ids" if change.add_ids else "remove_ids"
        raise UsageError(f"{field_name}: the subscription is not about given ids: register another")
    removed = frozenset(_complete("remove_ids", change.remove_ids, request.kinds))
    added = _complete("add_ids", change.add_ids, request.kinds)
    ids = tuple(dict.fromkeys((*(id_ for id_ in request.ids if id_ not in removed), *added)))
    if not ids:
        raise UsageError("remove_ids: the last id cannot be removed: unsubscribe")
    if len(ids) > MOST_IDS:
        msg = f"add_ids: {len(ids)} ids in all, more than {MOST_IDS}: register another"
        raise UsageError(msg)
    return ids


def _complete(name: str, ids: tuple[str, ...], kinds: Iterable[Kind]) -> tuple[str, ...]:
    try:
        return complete(ids, kinds)
    except InvalidJobId as error:
        raise UsageError(f"{name}: {error}") from error
