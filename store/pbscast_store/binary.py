"""An append's rows in PostgreSQL's binary form: what the driver sends as it is. Pure.

A composite value is its number of columns and, for each, the type's OID, the length and the value;
the length -1 is NULL. Written here a row takes a third of the time that the driver's codecs take,
and takes it while the server is still busy with the append before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from struct import Struct, error
from typing import Final, NamedTuple

from pbscast.errors import UsageError
from pbscast_store import chain
from pbscast_store.folds import FoldRow
from pbscast_store.planning import EventRow, Plan, Tail, lone_surrogate

# OIDs of built-in types are the same in every release.
_BOOL, _BYTEA, _INT8, _INT4, _TEXT, _JSON = 16, 17, 20, 23, 25, 114
_TEXTS, _TIMESTAMPTZ, _JSONB = 1009, 1184, 3802

_EPOCH: Final = 946_684_800_000_000
"""PostgreSQL's, 2000-01-01 UTC, as `chain.microseconds` gives it."""

_pack_length: Final = Struct("!Ii").pack
_pack_int4: Final = Struct("!Iii").pack
_pack_int8: Final = Struct("!Iiq").pack
_pack_event_head: Final = Struct("!i IiqIiq IiiIii").pack
_pack_array_head: Final = Struct("!iiIii").pack
_pack_empty: Final = Struct("!iiI").pack

_NULL_INT4: Final = _pack_length(_INT4, -1)
_NULL_INT8: Final = _pack_length(_INT8, -1)
_NULL_TEXT: Final = _pack_length(_TEXT, -1)
_NULL_TIME: Final = _pack_length(_TIMESTAMPTZ, -1)
_BOOLS: Final = (_pack_length(_BOOL, 1) + b"\x00", _pack_length(_BOOL, 1) + b"\x01")
_DIGEST: Final = _pack_length(_BYTEA, len(chain.GENESIS))
_JSONB_VERSION: Final = b"\x01"
_FOLD_HEAD: Final = Struct("!i").pack(len(FoldRow._fields))


class RowTypes(NamedTuple):
    """OIDs of the composite types that an append takes, which each database gives anew."""

    new_event: int
    fold: int


@dataclass(frozen=True, slots=True)
class Parcel:
    """A plan as it is sent."""

    events: bytes
    """`pbscast_log.new_event[]`"""
    folds: bytes
    """`pbscast_log.fold[]`"""
    superseded: bytes
    """The same."""
    number: int
    """Of the events."""
    logged: datetime
    tail: Tail
    dropped: int


def pack(plan: Plan, types: RowTypes) -> Parcel:
    """A plan as it is sent. Raises UsageError for what PostgreSQL cannot hold."""
    try:
        return Parcel(
            _array(types.new_event, [_pack_event(row) for row in plan.events]),
            _array(types.fold, [_pack_fold(row) for row in plan.folds]),
            _array(types.fold, [_pack_fold(row) for row in plan.superseded]),
            len(plan.events),
            plan.logged,
            plan.tail,
            plan.dropped,
        )
    except UnicodeEncodeError as problem:
        raise lone_surrogate(problem) from problem
    except error as problem:
        raise UsageError(f"PostgreSQL cannot hold such a number: {problem}") from problem


def _array(oid: int, items: Sequence[bytes]) -> bytes:
    """An array of one dimension of values of the type with this OID."""
    if not items:
        return _pack_empty(0, 0, oid)
    parts = [_pack_array_head(1, 0, oid, len(items), 1)]
    for item in items:
        parts += (len(item).to_bytes(4, "big"), item)
    return b"".join(parts)


def _pack_event(row: EventRow) -> bytes:
    position, time, incarnation, revision, kind, object_id, event, provenance, owner, *_ = row
    name, payload = object_id.encode(), row.payload.encode()
    return b"".join(
        (
            _pack_event_head(
                *(len(row), _INT8, 8, position),
                *(_TIMESTAMPTZ, 8, chain.microseconds(time) - _EPOCH),
                *(_INT4, 4, incarnation, _INT4, 4, revision),
            ),
            _word(kind),
            _pack_length(_TEXT, len(name)),
            name,
            _word(event),
            _word(provenance),
            _word(owner),
            _pack_length(_TEXT, len(payload)),
            payload,
            _DIGEST,
            row.digest,
        )
    )


def _pack_fold(row: FoldRow) -> bytes:
    return b"".join(
        (
            _FOLD_HEAD,
            _int8(row.position),
            _int8(row.first_position),
            _time(row.began),
            _time(row.ended),
            _time(row.gone_at),
            _int4(row.incarnation),
            _int4(row.revision),
            _int4(row.substate),
            _int4(row.exit_status),
            _BOOLS[row.finalized],
            _BOOLS[row.gone],
            _word(row.kind),
            _text(row.id),
            _text(row.born),
            _word(row.owner),
            _word(row.queue),
            _word(row.project),
            _text(row.name),
            _word(row.state),
            _word(row.reason),
            _states(tuple(row.reached)),
            _json(_JSONB, _JSONB_VERSION, row.columns),
            _json(_JSONB, _JSONB_VERSION, row.recent),
            _json(_JSON, b"", row.base),
        )
    )


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL_TEXT
    value = text.encode()
    return _pack_length(_TEXT, len(value)) + value


_word: Final = lru_cache(1024)(_text)
"""Of what is met again and again."""


def _int4(number: int | None) -> bytes:
    return _NULL_INT4 if number is None else _pack_int4(_INT4, 4, number)


def _int8(number: int | None) -> bytes:
    return _NULL_INT8 if number is None else _pack_int8(_INT8, 8, number)


def _time(moment: datetime | None) -> bytes:
    if moment is None:
        return _NULL_TIME
    return _pack_int8(_TIMESTAMPTZ, 8, chain.microseconds(moment) - _EPOCH)


def _json(oid: int, version: bytes, text: str) -> bytes:
    value = text.encode()
    return _pack_length(oid, len(version) + len(value)) + version + value


@lru_cache(1024)
def _states(states: tuple[str, ...]) -> bytes:
    value = _array(_TEXT, [state.encode() for state in states])
    return _pack_length(_TEXTS, len(value)) + value
