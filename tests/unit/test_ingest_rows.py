from __future__ import annotations

import pytest
from harness.journal import journal_row
from hypothesis import given
from hypothesis import strategies as st

from pbscast.events import unescape
from pbscast_ingest.rows import ID_BYTES, shortened, strip_flags


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("11.R", "R"),
        ("3.24.5.1", "24.5.1"),
        ("255.x", "x"),
        ("0.8", "8"),
        ("11.", ""),
        ("11", ""),
        ("", ""),
        ("plain", "plain"),
        ("host.example", "host.example"),
    ],
)
def test_flags_end_at_the_first_dot(stored: str, shown: str) -> None:
    row = journal_row(1, "I", "job", "1.s", changed={"name": stored})
    assert strip_flags(stored) == shown
    assert row.changed == {"name": shown}


def test_keys_of_schema_1_3_lose_their_dot() -> None:
    row = journal_row(
        1,
        "U",
        "job",
        "1.s",
        changed={"queue.": "11.a"},
        before={"queue.": "11.b"},
        removed=["x.", "y.", "z"],
    )
    assert (row.changed, row.before, row.removed) == (
        {"queue": "a"},
        {"queue": "b"},
        ("x", "y", "z"),
    )


def test_a_missing_value_is_empty() -> None:
    row = journal_row(
        1, "I", "job", "1.s", changed={"a": None, "b": "11.x"}, columns={"ji_q": None}
    )
    assert row.changed == {"a": "", "b": "x"}
    assert row.columns == {"ji_q": ""}


def test_columns_keep_what_looks_like_flags() -> None:
    row = journal_row(
        1,
        "U",
        "node",
        "n",
        columns={"nd_hostname": "10.0.0.1"},
        before={"nd_hostname": "11.0.0.1", "comment": "11.x"},
        context={"nd_state": "11.5"},
    )
    assert row.columns == {"nd_hostname": "10.0.0.1"}
    assert row.before == {"nd_hostname": "11.0.0.1", "comment": "x"}
    assert row.context == {"nd_state": "11.5"}


def test_attributes_named_like_columns_lose_their_flags() -> None:
    row = journal_row(
        1,
        "U",
        "server",
        "",
        changed={"scheduling": "15.True"},
        before={"scheduling": "11.True"},
    )
    assert row.changed == row.before == {"scheduling": "True"}


def test_what_is_no_utf8_is_escaped_and_named() -> None:
    row = journal_row(
        1, "I", "job", "1.s", changed={"Variable_List": "11.A=\udce9\\,B=ü", "x": "11.a\\b"}
    )
    assert row.escaped == ("Variable_List",)
    assert unescape(row.changed["Variable_List"]) == b"A=\xe9\\,B=\xc3\xbc"
    assert row.changed["x"] == "a\\b" or unescape(row.changed["x"]) == b"a\\b"


@given(st.binary().filter(lambda raw: b"\0" not in raw))
def test_every_value_comes_back_to_the_byte(raw: bytes) -> None:
    text = "11." + raw.decode("utf-8", "surrogateescape")
    row = journal_row(1, "I", "job", "1.s", changed={"value": text})
    value = row.changed["value"]
    assert (unescape(value) if "value" in row.escaped else value.encode()) == raw


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_an_id_is_cut_where_it_is_too_long_for_an_index_and_nowhere_else(character: str) -> None:
    fits = ID_BYTES // len(character.encode())
    assert shortened(character * fits) == character * fits
    long, other = shortened(character * 3000), shortened(character * 3001)
    assert long != other
    assert long == shortened(character * 3000)
    assert max(len(text.encode()) for text in (long, other)) <= ID_BYTES
