"""Events that are too large for a NATS message: cut, never a reason to stop.

Values go largest first until the event fits, and their names stand in ``omitted``. If even the
names do not fit, only the header and the short fields stay, and ``omitted`` is ``["*"]``. The log
keeps the event in full.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast_store.records import Record

EVERYTHING: Final = "*"
_MAPPINGS: Final = ("changed", "columns", "usage")
_ROW_MAPPINGS: Final = ("attributes", "columns", "changed")
_SHORT: Final = 256


def shorten(record: Record, limit: int) -> Record:
    """Return the event with as few values left out as makes it fit into ``limit`` bytes."""
    fields: dict[str, Any] = json.loads(record.payload)
    fields["omitted"] = _drop(fields, _MAPPINGS, len(record.encode()) - limit)
    cut = replace(record, payload=_dump(fields))
    return cut if len(cut.encode()) <= limit else replace(record, payload=_dump(_bare(fields)))


def shorten_row(body: bytes, limit: int) -> bytes:
    """Return a row of an answer with as few attributes left out as makes it fit."""
    if len(body) <= limit:
        return body
    fields: dict[str, Any] = json.loads(body)
    fields["omitted"] = _drop(fields, _ROW_MAPPINGS, len(body) - limit)
    cut = _dump(fields).encode()
    if len(cut) <= limit:
        return cut
    bare = {name: {} if name in _ROW_MAPPINGS else value for name, value in fields.items()}
    return _dump({**bare, "omitted": [EVERYTHING]}).encode()


def _drop(fields: dict[str, Any], mappings: Iterable[str], excess: int) -> list[str]:
    """Take the largest values out until that many bytes are saved; return their names."""
    excess += len(',"omitted":[]')
    omitted: list[str] = []
    for gain, mapping, name in _candidates(fields, mappings):
        if excess <= 0 or gain <= 0:
            break
        del fields[mapping][name]
        omitted.append(name)
        excess -= gain
    return omitted


def _candidates(fields: dict[str, Any], mappings: Iterable[str]) -> list[tuple[int, str, str]]:
    """Bytes saved by taking each value out, largest first; its name and a comma stay."""
    values = (
        (len(_dump(value).encode()) + 1, mapping, name)
        for mapping in mappings
        for name, value in fields.get(mapping, {}).items()
    )
    return sorted(values, reverse=True)


def _bare(fields: dict[str, Any]) -> dict[str, Any]:
    short = {
        key: value
        for key, value in fields.items()
        if not isinstance(value, dict | list) and len(_dump(value)) <= _SHORT
    }
    return {**short, "omitted": [EVERYTHING]}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
