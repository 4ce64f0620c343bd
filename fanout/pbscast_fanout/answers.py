"""What the log answers to the requests of `pbscast.requests`: JSON, each answer in one message."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from pbscast import requests
from pbscast.errors import NotFoundError, UsageError
from pbscast_fanout.batches import compose
from pbscast_fanout.fences import HEADROOM
from pbscast_fanout.oversize import shorten_row
from pbscast_fanout.rights import check_sites, confined, confines
from pbscast_store.standings import Spot

if TYPE_CHECKING:
    from pbscast_fanout.askers import Asker
    from pbscast_store.log import Log
    from pbscast_store.standings import Page

_LEAST_ROW: Final = 200
"""Bytes; so many rows are not looked up in vain."""

_Row = TypeVar("_Row", bound=BaseModel)
_Token = TypeVar("_Token")
_Number = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
_POSITIONS: Final = TypeAdapter(dict[str, _Number])
_SPOT: Final = TypeAdapter(tuple[str, _Number])


class Answers:
    """Answers from the log. Every method raises what the log raises, and UsageError.

    A person (the asker is None where everybody may see everything) is told what he may see: nothing
    in an answer differs by what else the log has. Raises AccessDeniedError for who asks for others'
    jobs or sites by name.
    """

    def __init__(self, log: Log, max_payload: Callable[[], int]) -> None:
        self._log = log
        self._max_payload = max_payload

    async def history(self, request: requests.HistoryRequest, asker: Asker | None) -> bytes:
        page = await self._log.events(
            confined(asker, request),
            begin=request.begin,
            end=request.end,
            newest_first=request.newest_first,
            positions=parse_token(request.after) if request.after else None,
            limit=request.limit,
            max_bytes=self._room,
        )
        taken = _token_room(page.positions)
        bodies = [compose(record, self._max_payload() - taken).body for record in page.records]
        page = page.cut(fitting(bodies, self._room - taken))
        bodies = bodies[: len(page.records)]
        return join("events", bodies, make_token(page.positions) if page.more else None)

    async def jobs(self, request: requests.JobsRequest, asker: Asker | None) -> bytes:
        page = await self._log.lives(
            confined(asker, request),
            begin=request.begin,
            end=request.end,
            newest_first=request.newest_first,
            positions=parse_token(request.after) if request.after else None,
            limit=self._limit(request.limit),
        )
        bodies = [dump(life) for life in page.lives]
        page = page.cut(fitting(bodies, self._room - _token_room(page.positions)))
        bodies = bodies[: len(page.lives)]
        return join("lives", bodies, make_token(page.positions) if page.more else None)

    async def snapshot(self, request: requests.SnapshotRequest, asker: Asker | None) -> bytes:
        page = await self._log.snapshot(
            confined(asker, request),
            attributes=request.attributes,
            after=parse_spot(request.after),
            limit=self._limit(request.limit),
            max_bytes=self._room,
        )
        return self._rows(page, positions=page.positions)

    async def at(self, request: requests.AtRequest, asker: Asker | None) -> bytes:
        page = await self._log.at(
            confined(asker, request),
            request.moment,
            attributes=request.attributes,
            after=parse_spot(request.after),
            limit=self._limit(request.limit),
            max_bytes=self._room,
        )
        return self._rows(page)

    async def difference(self, request: requests.DifferenceRequest, asker: Asker | None) -> bytes:
        page = await self._log.difference(
            confined(asker, request),
            request.begin,
            request.end,
            after=parse_spot(request.after),
            limit=self._limit(request.limit),
            max_bytes=self._room,
        )
        return self._rows(page)

    async def event(self, request: requests.EventRequest, asker: Asker | None) -> bytes:
        may_see = confines(asker)
        if asker is not None:
            check_sites(asker, (request.site,))
        records = await self._log.read(request.site, request.position - 1, 1)
        if (
            not records
            or records[0].position != request.position
            or not may_see.includes(request.site, records[0].kind, records[0].owner)
        ):
            msg = f"the log has no event {request.site}:{request.position}"
            raise NotFoundError(msg)
        return piece(records[0].encode().decode(), request.offset, self._room)

    def _rows(self, page: Page[_Row], **more: object) -> bytes:
        room = self._room - len(json.dumps(more))
        bodies = [shorten_row(dump(row), room) for _, row in page.rows]
        count = fitting(bodies, room)
        spot = page.next if count == len(bodies) else page.rows[count - 1][0]
        return join("objects", bodies[:count], None if spot is None else json.dumps(spot), **more)

    @property
    def _room(self) -> int:
        """Bytes that the rows of an answer may have."""
        return self._max_payload() - HEADROOM

    def _limit(self, limit: int) -> int:
        return min(limit, max(1, self._room // _LEAST_ROW))


def dump(row: BaseModel) -> bytes:
    """Return a row's JSON; what is left out is at its default."""
    return row.model_dump_json(exclude_defaults=True).encode()


def fitting(bodies: Sequence[bytes], room: int) -> int:
    """Return how many of the rows fit into one answer; one always does."""
    sizes = accumulate(len(body) + 1 for body in bodies)
    return max(bool(bodies), sum(size <= room for size in sizes))


def join(name: str, bodies: Sequence[bytes], token: str | None, **more: object) -> bytes:
    """Return a page of rows that are JSON already."""
    rest = json.dumps({"next": token, **more}).encode()
    return b'{"' + name.encode() + b'":[' + b",".join(bodies) + b"]," + rest[1:]


def make_token(positions: dict[str, int]) -> str:
    """Return what names a place in the log of each site; callers do not read it."""
    return json.dumps(positions, separators=(",", ":"))


def _token_room(positions: dict[str, int]) -> int:
    """Bytes that the token may need, a JSON text in JSON, whatever the positions will be."""
    return len(json.dumps(make_token(dict.fromkeys(positions, 2**63))))


def parse_token(token: str) -> dict[str, int]:
    """Undo make_token. Raises UsageError."""
    return _parse(_POSITIONS, token)


def parse_spot(token: str | None) -> Spot | None:
    """Return the place in the order of lives that an answer named. Raises UsageError."""
    return None if token is None else Spot(*_parse(_SPOT, token))


def piece(text: str, offset: int, room: int) -> bytes:
    """Return an EventResponse of at most ``room`` bytes: a character of it takes four at most."""
    end = offset + max(1, (room - 64) // 4)
    more = end if end < len(text) else None
    return requests.EventResponse(text=text[offset:end], next=more).model_dump_json().encode()


def _parse(adapter: TypeAdapter[_Token], token: str) -> _Token:
    try:
        return adapter.validate_json(token)
    except ValidationError as error:
        raise UsageError("after: not the `next` of an earlier answer") from error
