"""Journal rows: what one committed row change of the PBS datastore left for us, decoded from bytes.

The datastore is SQL_ASCII, so every text arrives as bytes that may be anything but NUL. Attribute
values are ``flags.text`` (decimal flags, the first dot, raw text): the flags carry no meaning for a
user and are dropped here; rows converted from schema 1.3 may hold keys that end in a dot and values
without text.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import from_json

from pbscast.events import escape, unescape

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from datetime import datetime
    from typing import TypeAlias

    Texts: TypeAlias = Sequence[str | None] | None

_USUAL: Final = frozenset({"11.", "15."})
_SHOWN: Final = frozenset({"ji_svrflags", "ji_destin", "ri_state", "ri_substate", "nd_state"})
"""The columns in a row's context."""

ID_BYTES: Final = 512
"""The longest id of an object that is logged as it is; PBS itself allows some 280."""
SHORT: Final = ID_BYTES // 4
"""So many characters never take more."""

NOTE: Final = "pbscast.unread"
"""The attribute that says of an object that a row of it was not read as it is."""

UNREAD: Final = "?"
"""The op of a row of which nothing but its head could be read; ``why`` is in its context."""


class JournalRow(NamedTuple):
    """One row of ``pbscast.journal``."""

    seq: int
    xid: int
    at: datetime
    """Datastore clock when the trigger ran."""
    op: str
    """``I`` ``U`` ``D`` a row change, ``T`` a TRUNCATE, ``H`` a heartbeat, ``G`` a gap marker."""
    kind: str
    key: str
    created: str
    columns: dict[str, str]
    changed: dict[str, str]
    before: dict[str, str]
    removed: tuple[str, ...]
    context: dict[str, str]
    escaped: tuple[str, ...]
    """Names in ``columns`` and ``changed`` whose value was not UTF-8."""


def decode_row(record: Sequence[Any]) -> JournalRow:
    """Return the row of a record of ``page.sql``. No bytes raise."""
    seq, xid, at, body = record
    items, escaped = _decode_body(body)
    if b'."' in body:
        _mend_names(items)
    return _make_row(seq, xid, at, items, escaped)


def decode_lone(
    record: Sequence[Any], arrays: Sequence[Sequence[bytes | None] | None], note: str = ""
) -> JournalRow:
    """Return the row of a record of ``page.sql`` that holds its head alone, and of its arrays.

    A note on what was cut of it stands among its attributes. No bytes raise.
    """
    seq, xid, at, body = record
    names: list[str] = []
    lists = [flat and escape_pairs(flat, names) for flat in arrays]
    items = [*_decode_body(body)[0], *lists]
    _mend_names(items)
    if note:
        items[5] = [*(items[5] or ()), NOTE, note]
    return _make_row(seq, xid, at, items, tuple(names))


def unread(record: Sequence[Any], why: str) -> JournalRow:
    """Return what is known of a row that cannot be read, from its head."""
    seq, xid, at, body = record
    _, *head = _decode_body(body)[0]
    return _make_row(seq, xid, at, [UNREAD, *head, *[None] * 4, ["why", why]], ())


def _decode_body(body: bytes) -> tuple[list[Any], tuple[str, ...]]:
    try:
        return from_json(body, cache_strings="keys"), ()  # there are none: texts are met once
    except ValueError:
        return _decode_damaged(body)


def _mend_names(items: list[Any]) -> None:
    items[5:] = [item and _undotted(item) for item in items[5:]]
    items[7] = [name.removesuffix(".") for name in items[7] or ()]


def _make_row(
    seq: int, xid: int, at: datetime, items: list[Any], escaped: tuple[str, ...]
) -> JournalRow:
    op, kind, key, created, columns, changed, before, removed, context = items
    if len(key) > SHORT:
        key = shortened(key)
    plain = dict(_pairs(columns)) if columns else {}
    return JournalRow(
        seq,
        xid,
        at,
        op,
        kind,
        key,
        created,
        plain,
        _attributes(changed),
        _mixed(before, plain) if plain else _attributes(before),
        tuple(removed) if removed else (),
        _mixed(context, _SHOWN),
        escaped,
    )


def _undotted(flat: list[str | None]) -> list[str | None]:
    """Take the dot off the keys that schema 1.3 left."""
    return [
        item.removesuffix(".") if item and place % 2 == 0 else item
        for place, item in enumerate(flat)
    ]


def _decode_damaged(body: bytes) -> tuple[list[Any], tuple[str, ...]]:
    """Decode a row that is not all UTF-8: what is not is escaped."""
    items = json.loads(body.decode(errors="surrogateescape"))
    names: list[str] = []
    for place, item in enumerate(items):
        if isinstance(item, list):
            items[place] = _mend(item, names)
        elif isinstance(item, str):
            items[place] = escape(item.encode(errors="surrogateescape"))[0]
    return items, tuple(names)


def _mend(flat: list[str | None], escaped: list[str]) -> list[str]:
    raw = [None if text is None else text.encode(errors="surrogateescape") for text in flat]
    return escape_pairs(raw, escaped)


def escape_pairs(flat: Sequence[bytes | None], escaped: list[str]) -> list[str]:
    """Return name, value, name, value … as text, and in escaped the names of what was no UTF-8."""
    texts: list[str] = []
    for place, item in enumerate(flat):
        text, is_damaged = ("", False) if item is None else escape(item)
        texts.append(text)
        if is_damaged:
            name = _name(text if place % 2 == 0 else texts[-2])
            escaped += [] if name in escaped else [name]
    return texts


def decode_attributes(flat: Sequence[bytes | None] | None, escaped: list[str]) -> dict[str, str]:
    """Return attribute → text without flags of the bytes of an hstore array."""
    return _attributes(_undotted([*escape_pairs(flat or (), escaped)]))


def decode_columns(flat: Sequence[bytes | None] | None, escaped: list[str]) -> dict[str, str]:
    """Return column → text of the bytes of an hstore array."""
    return dict(_pairs(escape_pairs(flat or (), escaped)))


def text(raw: bytes | str | None) -> str:
    """Return bytes as text, escaped where they are not UTF-8; None is the empty text."""
    if raw is None:
        return ""
    return raw if isinstance(raw, str) else escape(raw)[0]


def shortened(key: str) -> str:
    """Return an id or owner that the log's indexes can hold, always the same for the same one.

    What is longer than ID_BYTES keeps its beginning, with three dots and its SHA-256 for the rest.
    The whole stands in the job's first event: column ``ji_jobid``, attribute ``Job_Owner``.
    """
    raw = key.encode()
    if len(raw) <= ID_BYTES:
        return key
    digest = sha256(raw).hexdigest()
    return f"{raw[: ID_BYTES - len(digest) - 3].decode(errors='ignore')}...{digest}"


def originals(object_id: str) -> list[bytes]:
    """Return the keys that may stand for an id, unless it was shortened."""
    raw = object_id.encode()
    return [raw, unescape(object_id)] if "\\" in object_id else [raw]


def strip_flags(value: str) -> str:
    """Return what follows the first dot of a stored attribute value, nothing for flags alone.

    A value that does not begin with flags is kept as it is.
    """
    flags, _, rest = value.partition(".")
    return rest if flags.isdigit() else value


def _attributes(flat: Texts) -> dict[str, str]:
    # Slices and a set where they do: this is the hot spot of reading.
    return {
        name: value[3:] if value[:3] in _USUAL else strip_flags(value)
        for name, value in _pairs(flat)
    }


def _mixed(flat: Texts, columns: Container[str]) -> dict[str, str]:
    return {
        name: value if name in columns else value[3:] if value[:3] in _USUAL else strip_flags(value)
        for name, value in _pairs(flat)
    }


def _pairs(flat: Texts) -> Iterator[tuple[str, str]]:
    texts = iter([item or "" for item in flat] if flat and None in flat else flat or ())
    return zip(texts, texts, strict=False)  # type: ignore[arg-type]


def _name(name: str | None) -> str:
    return (name or "").removesuffix(".")
