"""Journal rows: what one committed row change of the PBS datastore left for us, decoded from bytes.

The datastore is SQL_ASCII, so every text arrives as bytes that may be anything but NUL. Attribute
values are ``flags.text`` (decimal flags, the first dot, raw text): the flags carry no meaning for a
user and are dropped here; rows converted from schema 1.3 may hold keys that end in a dot and values
without text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pbscast.events import escape

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from datetime import datetime
    from typing import TypeAlias

    Bytes: TypeAlias = bytes | None
    Pairs: TypeAlias = Sequence[Bytes] | None

NUL: Final = b"\0"
_USUAL: Final = frozenset({"11.", "15."})
_COLUMN: Final = ("ji_", "ri_", "nd_", "qu_", "sv_", "sched_", "mom_")


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
    """Return the row of a record in the order of ``page.sql``. No content of it raises."""
    seq, xid, at, op, kind, key, created, columns, changed, before, removed, context = record
    names: list[str] = []
    decoded = decode_columns(columns, names)
    return JournalRow(
        seq,
        xid,
        at,
        text(op),
        text(kind),
        text(key),
        text(created),
        decoded,
        decode_attributes(changed, names),
        _decode_mixed(before, decoded),
        tuple(name.removesuffix(".") for name in _texts(removed, [])),
        _decode_mixed(context, ()),
        tuple(names),
    )


def decode_columns(pairs: Pairs, escaped: list[str]) -> dict[str, str]:
    """Return name → text of plain columns; names whose value was not UTF-8 are added to escaped."""
    flat = _texts(pairs, escaped)
    return dict(zip(flat[::2], flat[1::2], strict=False))


def decode_attributes(pairs: Pairs, escaped: list[str]) -> dict[str, str]:
    """Return name → text of attributes without their flags; see decode_columns for escaped."""
    flat = _texts(pairs, escaped)
    return {
        # Slices where they do: this is the hot spot of reading.
        (name if name[-1:] != "." else name[:-1]): value[3:]
        if value[:3] in _USUAL
        else strip_flags(value)
        for name, value in zip(flat[::2], flat[1::2], strict=False)
    }


def strip_flags(value: str) -> str:
    """Return what follows the first dot of a stored attribute value, nothing for flags alone.

    A value that does not begin with flags is kept as it is.
    """
    flags, _, rest = value.partition(".")
    return rest if flags.isdigit() else value


def _decode_mixed(pairs: Pairs, columns: Container[str]) -> dict[str, str]:
    flat = _texts(pairs, [])
    return {
        name.removesuffix("."): value
        if name in columns or name.startswith(_COLUMN)
        else strip_flags(value)
        for name, value in zip(flat[::2], flat[1::2], strict=False)
    }


def _texts(items: Pairs, escaped: list[str]) -> list[str]:
    if not items:
        return []
    try:
        # NUL cannot occur in a PostgreSQL text, so one decode serves the whole array.
        return NUL.join(items).decode().split("\0")  # type: ignore[arg-type]
    except (UnicodeDecodeError, TypeError):
        return _escaped_texts(items, escaped)


def _escaped_texts(items: Sequence[Bytes], escaped: list[str]) -> list[str]:
    texts: list[str] = []
    for place, item in enumerate(items):
        value, damaged = ("", False) if item is None else escape(item)
        texts.append(value)
        if damaged:
            escaped.append((value if place % 2 == 0 else texts[-2]).removesuffix("."))
    return texts


def text(raw: bytes | str | None) -> str:
    """Return bytes as text, escaped where they are not UTF-8; None is the empty text."""
    if raw is None:
        return ""
    return raw if isinstance(raw, str) else escape(raw)[0]
