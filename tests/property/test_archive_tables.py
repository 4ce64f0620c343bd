"""Any event becomes a row of Parquet and the same event again, and follows its chain."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pbscast.errors import DecodeError
from pbscast.events import EventName
from pbscast_store import chain
from pbscast_store.archive.groups import Groups
from pbscast_store.archive.proof import Proof
from pbscast_store.archive.tables import EVENTS, entries_of, events_table
from pbscast_store.archive.thinning import Entry, Thinned, leaf_of, thin
from pbscast_store.records import Record

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them naive
INTEGERS = st.integers(-(2**31), 2**31 - 1)
PAYLOADS = st.one_of(
    TEXTS,
    st.just("{}"),
    st.just('{"state":"R","changed":{"resources_used.mem":"1kb","mtime":"7"}}'),
    st.just('{"state":"R","changed":{"resources_used.mem":"1kb","comment":"x"}}'),
)
RECORDS = st.builds(
    Record,
    site=st.just("sitea"),
    position=st.integers(1, 2**63 - 1),
    time=TIMES,
    logged=TIMES,
    kind=TEXTS,
    id=TEXTS,
    incarnation=INTEGERS,
    revision=INTEGERS,
    event=TEXTS,
    provenance=TEXTS,
    owner=st.none() | TEXTS,
    payload=PAYLOADS,
    digest=st.none() | st.binary(min_size=32, max_size=32),
)
USAGES = RECORDS.map(lambda record: _with(record, event=EventName.USAGE.value, payload=USAGE))
USAGE = '{"owner":"alice","changed":{"resources_used.cput":"00:00:01"},"columns":{"ji_savetm":"1"}}'


def _with(record: Record, **changes: object) -> Record:
    values = {name: getattr(record, name) for name in Record.__slots__}
    return Record(**values | changes)


@settings(max_examples=30, deadline=None)
@given(st.lists(RECORDS | USAGES.map(thin), max_size=20))
def test_rows_are_the_events(entries: list[Entry]) -> None:
    groups: Groups[Entry] = Groups(events_table)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events.parquet"
        with groups.written_to(path, EVENTS):
            for entry in entries:
                groups.add(entry, 1)
        found = list(entries_of(parquet.read_table(path), "sitea"))

    assert found == entries
    assert [one.encode() for one in found if isinstance(one, Record)] == [
        one.encode() for one in entries if isinstance(one, Record)
    ]
    assert all(
        one.time.tzinfo is UTC and one.logged.tzinfo is UTC for one in found
    )  # as the log's driver gives them


@settings(max_examples=30, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=10), st.integers(0, 9), st.data())
def test_the_proof_finds_any_change(
    records: list[Record], unchained: int, data: st.DataObject
) -> None:
    whole = _chained(records, unchained)
    proof = _proof(whole)
    assert proof.contents().count == len(whole)
    assert proof.contents().unchained == min(unchained, len(whole))
    index = data.draw(st.integers(0, len(whole) - 1))
    changed = [*whole]
    changed[index] = _with(whole[index], payload=whole[index].payload + " ")

    if index < unchained:
        assert _proof(changed).contents().leaves != proof.contents().leaves
    else:
        with pytest.raises(DecodeError, match=f"sitea:{index + 1} "):
            _proof(changed)
    if len(whole) > 1:
        with pytest.raises(DecodeError):
            _proof(whole[::-1])


@settings(max_examples=30, deadline=None)
@given(st.lists(USAGES | RECORDS, min_size=1, max_size=10), st.integers(0, 9))
def test_thinning_leaves_the_chain_as_it_was(records: list[Record], unchained: int) -> None:
    whole = _chained(records, unchained)
    thinned = [thin(record) for record in whole]

    proof = Proof("sitea", 0, chain.GENESIS, unchained=min(unchained, len(whole)))
    proof.add(thinned)

    assert proof.contents() == _proof(whole).contents()
    for before, after in zip(whole, thinned, strict=True):
        if isinstance(after, Thinned):
            assert before.payload == USAGE
            assert leaf_of(after) == leaf_of(before)
            assert leaf_of(replace(after, event="state")) != leaf_of(before)
        else:
            assert after is before


def _chained(records: list[Record], unchained: int) -> list[Record]:
    digest, whole = chain.GENESIS, []
    for position, record in enumerate(records, 1):
        placed = _with(record, position=position)
        if position > unchained:
            digest = chain.link(digest, leaf_of(placed))
        whole.append(_with(placed, digest=digest if position > unchained else None))
    return whole


def _proof(records: list[Record]) -> Proof:
    proof = Proof("sitea", 0, chain.GENESIS)
    proof.add(records)
    return proof
