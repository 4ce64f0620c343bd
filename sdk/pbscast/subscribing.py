"""What a caller may ask of a registered subscription, in requests that fit into a message."""

from __future__ import annotations

import json
import re
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, TypedDict

from pydantic import ValidationError

from pbscast.errors import UsageError
from pbscast.selection import first_fault, listed
from pbscast.subscriptions import ModifyRequest, SubscribeRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_KEY: Final = re.compile(r"[0-9a-f]{32}")
_HEADROOM: Final = 1024
_SCALARS: Final = frozenset({"where", "delivery", "lease", "shared"})


class SubscribeOptions(TypedDict, total=False):
    """The options of ``Client.subscribe``, which says what they mean."""

    kinds: str | Iterable[str] | None
    sites: str | Iterable[str] | None
    owners: str | Iterable[str] | None
    queues: str | Iterable[str] | None
    projects: str | Iterable[str] | None
    names: str | Iterable[str] | None
    states: str | Iterable[str] | None
    where: str | None
    events: str | Iterable[str] | None
    attributes: str | Iterable[str] | None
    delivery: str
    lease: int
    shared: bool


def check_key(text: str) -> str:
    """Return the id of a subscription. Raises UsageError if it can be none."""
    if _KEY.fullmatch(text) is None:
        raise UsageError(f"not the id of a subscription: {text!r} (32 hexadecimal digits)")
    return text


def check_place(place: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, int]]:
    """Return a ``Subscription.place``, also one that JSON has held. Raises UsageError."""
    try:
        return {site: (int(number), int(position)) for site, (number, position) in place.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError("place: not what Subscription.place said") from error


def subscribe_request(
    ids: str | Iterable[str] | None, options: SubscribeOptions
) -> SubscribeRequest:
    """Return the request under an id that nobody guesses. Raises UsageError."""
    values: dict[str, Any] = {"ids": ids, **options}
    fields = {
        name: value if name in _SCALARS else listed(name, value)
        for name, value in values.items()
        if value is not None
    }
    try:
        return SubscribeRequest(id=token_hex(16), **fields)
    except ValidationError as error:
        raise first_fault(error) from error


def modify_request(
    key: str,
    add_ids: str | Iterable[str],
    remove_ids: str | Iterable[str],
    attributes: str | Iterable[str] | None,
) -> ModifyRequest:
    """Return the request. Raises UsageError."""
    try:
        return ModifyRequest(
            id=key,
            add_ids=_texts(add_ids),
            remove_ids=_texts(remove_ids),
            attributes=None if attributes is None else _texts(attributes),
        )
    except ValidationError as error:
        raise first_fault(error) from error


def split_subscribe(
    request: SubscribeRequest, most_bytes: int
) -> tuple[SubscribeRequest, tuple[ModifyRequest, ...]]:
    """Return the request with as many ids as fit, and what adds the others.

    ``most_bytes`` is how large a message may be. Raises UsageError if it is too large without ids.
    """
    if _size(request) <= most_bytes:
        return request, ()
    bare = request.model_copy(update={"ids": (), "more": True})
    room = _room(bare, most_bytes)
    first, *rest = _pieces(request.ids, room)
    assert request.id is not None  # noqa: S101 - subscribe_request gives one
    parts = [ModifyRequest(id=request.id, add_ids=piece, more=True) for piece in rest]
    return bare.model_copy(update={"ids": first}), _ending(parts)


def split_modify(request: ModifyRequest, most_bytes: int) -> tuple[ModifyRequest, ...]:
    """Return requests that together do the same; each fits into a message. Raises UsageError."""
    if _size(request) <= most_bytes:
        return (request,)
    key = request.id
    room = _room(ModifyRequest(id=key, add_ids=("x",), more=True), most_bytes)
    parts = [
        *(ModifyRequest(id=key, add_ids=ids, more=True) for ids in _pieces(request.add_ids, room)),
        *(
            ModifyRequest(id=key, remove_ids=ids, more=True)
            for ids in _pieces(request.remove_ids, room)
        ),
    ]
    if request.attributes is not None:
        last = ModifyRequest(id=key, attributes=request.attributes, more=True)
        _room(last, most_bytes)
        parts.append(last)
    return _ending(parts)


def _ending(parts: Sequence[ModifyRequest]) -> tuple[ModifyRequest, ...]:
    return (*parts[:-1], parts[-1].model_copy(update={"more": False}))


def _room(request: SubscribeRequest | ModifyRequest, most_bytes: int) -> int:
    room = most_bytes - _size(request) - _HEADROOM
    if room < _HEADROOM:
        raise UsageError(
            f"the request is too large for the NATS server (max_payload {most_bytes} bytes):"
            " list fewer values, or have max_payload raised"
        )
    return room


def _size(request: SubscribeRequest | ModifyRequest) -> int:
    return len(request.model_dump_json(exclude_defaults=True).encode())


def _pieces(ids: Sequence[str], room: int) -> Iterator[tuple[str, ...]]:
    piece: list[str] = []
    used = 0
    for text in ids:
        size = len(json.dumps(text, ensure_ascii=False).encode()) + 1
        if piece and used + size > room:
            yield tuple(piece)
            piece, used = [], 0
        piece.append(text)
        used += size
    if piece:
        yield tuple(piece)


def _texts(values: str | Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)
