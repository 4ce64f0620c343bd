from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pbscast.errors import DecodeError
from pbscast_deploy.simulator.trace import bundled_traces, read_trace


def line(**changes: Any) -> dict[str, Any]:
    queue = {
        "qu_name": "q",
        "qu_type": 1,
        "qu_savetm": "2026-11-22T09:37:32.778775",
        "qu_creattm": "2026-11-22T09:37:32.778775",
        "attributes": {"enabled": "11.True"},
    }
    fields = {
        "site": "sitea",
        "seq": 1,
        "at": "2026-11-22T09:37:32.778775Z",
        "table": "queue",
        "op": "INSERT",
        "key": "q",
        "row": queue,
    }
    return fields | changes


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{json.dumps(item)}\n" for item in lines))
    return path


def test_the_bundled_traces_are_complete() -> None:
    sizes = {site: len(read_trace(path)) for site, path in bundled_traces().items()}
    assert sizes == {"sitea": 280, "siteb": 116}


def test_bytes_that_are_not_utf_8_are_kept() -> None:
    changes = read_trace(bundled_traces()["sitea"])
    values = [
        change.row.attributes["Variable_List"]
        for change in changes
        if change.key == "15.sitea" and change.row is not None
    ]
    assert values
    assert all(b"\xe9" in value.encode("utf-8", "surrogateescape") for value in values)


def test_numbers_become_text(tmp_path: Path) -> None:
    (change,) = read_trace(write(tmp_path / "t", line()))
    assert change.row is not None
    assert change.row.columns["qu_type"] == "1"
    assert change.at.utcoffset() is not None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("text", "not a JSON object"),
        (line(table="job_scr"), "unknown table or operation: job_scr INSERT"),
        (line(op="UPSERT"), "unknown table or operation: queue UPSERT"),
        (line(at="yesterday"), "Invalid isoformat string: 'yesterday'"),
        (line(key=7), "key is not a string"),
        ({"site": "sitea"}, "no 'table'"),
        (line(row={"attributes": {}}), "no 'qu_name'"),
        (line(row=line()["row"] | {"qu_new": 1}), "unknown columns of queue: qu_new"),
        (line(row=line()["row"] | {"qu_type": 1.5}), "not the value of a column: 1.5"),
        (line(row=line()["row"] | {"attributes": {"a": 1}}), "a is not a string"),
        (line(seq=0), "seq 0 after 1"),
        (line(seq=2), "INSERT of queue q, which is there already"),
        (line(seq=2, op="UPDATE", key="q2") | {"row": None}, "'NoneType' object"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, bad: object, reason: str) -> None:
    path = write(tmp_path / "bad.jsonl", line(), bad)
    with pytest.raises(DecodeError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}:2: not a trace line: {reason}")
    assert "\n" not in str(caught.value)


def test_an_update_after_the_delete_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t", line(), line(seq=2, op="DELETE"), line(seq=3, op="UPDATE"))
    with pytest.raises(DecodeError, match=r":3: .*UPDATE of queue q, which is gone"):
        read_trace(path)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="No such file or directory"):
        read_trace(tmp_path / "none.jsonl")
