"""Rows of any bytes at all, through translation into a real log: none is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from pbscast_ingest.corrections import correct
from pbscast_ingest.rows import JournalRow, decode_row
from pbscast_ingest.translation import KINDS, object_id, translate
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

_PIECES = st.sampled_from(
    [
        *(b"1.s", b"6[2].s", b"6[].s", b"\xff\xfe", b"\\", b"\\xff", "ключ".encode(), b"\x01"),
        *(b'"', b"'", b"\n", b"\x7f", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"%s", b"{", b"$1"),
    ]
)
BYTES = st.lists(_PIECES, max_size=4).map(b"".join) | st.binary(max_size=6).map(
    lambda raw: raw.replace(b"\0", b"")
)
LONG = st.builds(lambda raw, times: raw * times, BYTES, st.sampled_from([1, 1, 1, 300, 3000]))
NUMBERS = st.sampled_from(
    [
        *(b"0", b"-1", b"42", b"91", b"2147483648", b"-9223372036854775809", b"9" * 400, b"1e9"),
        *("٣".encode(), b"0x1f", b" 7", b"+7", b"", b"nan", b"1_000", b"-", b"256", b"1" * 5000),
    ]
)
STATES = st.sampled_from([b"Q", b"R", b"F", b"X", b"M", b"B", b"", b"QQ", b"\xff", "Ж".encode()])
NAMED = {
    "job_state": STATES,
    "substate": NUMBERS,
    "Exit_status": NUMBERS,
    "Job_Owner": LONG,
    "queue": LONG,
    "project": LONG,
    "Job_Name": LONG,
    "history_timestamp": NUMBERS,
    "destination": LONG,
    "array_id": BYTES,
    "resources_used.walltime": LONG,
    "ji_svrflags": NUMBERS,
    "ji_destin": LONG,
    "ri_state": NUMBERS,
    "ri_substate": NUMBERS,
    "nd_state": NUMBERS,
}


@st.composite
def pairs(draw: st.DrawFn) -> list[bytes | None]:
    """An hstore array: some names that mean something, some that do not, any values."""
    flat: list[bytes | None] = []
    for name in draw(st.lists(st.sampled_from(sorted(NAMED)), unique=True, max_size=5)):
        flags = draw(st.sampled_from([b"11.", b"15.", b"3.", b"", b"11"]))
        flat += [name.encode(), flags + draw(NAMED[name])]
    for name in draw(st.lists(LONG, max_size=2)):
        flat += [name, draw(st.none() | LONG)]
    return flat


TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them naive
ROWS = st.tuples(
    TIMES,
    st.sampled_from("IUUUD"),
    st.sampled_from(sorted(KINDS)),
    LONG,
    st.sampled_from([b"", b"2026-11-22 09:36:57.1", b"infinity", b"0044-03-15 00:00:00 BC"]),
    pairs(),
    pairs(),
    pairs(),
    st.lists(LONG, max_size=3),
    st.none() | pairs(),
)


def _json(value: Any) -> bytes:
    """As PostgreSQL writes what is in a SQL_ASCII database: bytes above 127 as they are."""
    if value is None:
        return b"null"
    if isinstance(value, list):
        return b"[" + b",".join(map(_json, value)) + b"]"
    return json.dumps(value.decode("latin-1"), ensure_ascii=False).encode("latin-1")


def _decode(seq: int, row: tuple[Any, ...]) -> JournalRow:
    at, op, kind, *rest = row
    body = [op.encode(), kind.encode(), *rest]
    return decode_row((seq, seq, at, _json(body)))


def _drafts(rows: list[JournalRow]) -> Iterator[Draft]:
    for row in rows:
        if row.op != "I":
            yield from correct(row, None, object_id(row, "s"))
        yield from translate(row, "s")


async def test_the_log_takes_whatever_the_datastore_holds(log: Log) -> None:
    examples: list[list[Draft]] = []

    @given(st.lists(ROWS, min_size=1, max_size=4))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def collect(rows: list[tuple[Any, ...]]) -> None:
        examples.append(list(_drafts([_decode(seq, row) for seq, row in zip(count(1), rows)])))

    collect()
    await log.register_site("s")
    writer = await log.acquire("s", "test", 60)
    assert writer is not None
    for drafts in examples:
        await writer.append(drafts, {})
    last = 0
    while records := await log.read("s", last, 1000):
        for record in records:
            record.decode()
        last = records[-1].position
    assert last == writer.position > 40
    await writer.release()
