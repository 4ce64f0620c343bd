"""PBS's accounting lines, its local time, and its files, broken ones too."""

from __future__ import annotations

import gzip
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbscast.errors import DecodeError, UsageError
from pbscast_deploy.accounting.clock import LocalClock
from pbscast_deploy.accounting.files import MAX_LINE, AccountingFiles
from pbscast_deploy.accounting.lines import AccountingRecord, BrokenLine, RecordType, parse

Q = (
    b"11/22/2026 09:36:57;Q;1.sitea;user=alice group=users jobname=ok queue=workq ctime=1 "
    b"qtime=1 etime=1 \n"
)
BERLIN = ZoneInfo("Europe/Berlin")


def test_the_parts_of_a_record() -> None:
    parts = parse(Q.rstrip(b"\n"))
    assert parts.local == datetime(2026, 11, 22, 9, 36, 57)  # noqa: DTZ001 - as it is written
    assert (parts.type, parts.id) == (RecordType.QUEUED, "1.sitea")
    assert parts.fields["user"] == "alice"
    assert parts.fields["ctime"] == "1"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b'account="a b" project="the \'x\'"', {"account": "a b", "project": "the 'x'"}),
        (b"""Resource_List.x='say "hi" now' y=1""", {"Resource_List.x": 'say "hi" now', "y": "1"}),
        (b"exec_vnode=(a:n=1)+(b:n=2) e=", {"exec_vnode": "(a:n=1)+(b:n=2)", "e": ""}),
        (b"name=tr\xe9s name2=\xc3\xa9 ", {"name": "tr\\xe9s", "name2": "é"}),
    ],
)
def test_values(text: bytes, fields: dict[str, str]) -> None:
    assert parse(b"11/22/2026 09:36:57;a;1.s;" + text).fields == fields


def test_prose_is_no_field() -> None:
    line = b"11/22/2026 09:37:13;A;7.sitea;Job deleted as result of x=y; and more"
    assert parse(line).fields == {}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage", "cut short: 1 of 4 parts"),
        (b"11/22/2026 09:36:57;Q;1.sit", "cut short: 3 of 4 parts"),
        (Q[:50], "cut short: Q without"),
        (Q[:-10], "cut short: Q without etime"),
        (Q.replace(b";Q;", b";E;").rstrip() + b" end=1", "E without Exit_status"),
        (
            Q.rstrip() + b" Resource_List.place=pack Resourcgarbage line",
            "value: 'Resourcgarbage line'",
        ),
        (Q.replace(b"ctime", b"11/22/2026 09:36:57;D;2.s; ctime"), "not name=value: '11/22/2026"),
        (b'11/22/2026 09:36:57;a;1.s;cut="it off', "not name=value: 'off'"),
        (b"11/22/2026 09:36:57;M;1.s;", "M without destination"),
        (b"01/01/0001 00:00:00;D;1.s;", "no such year: '01/01/0001"),
        (b"12/31/9999 23:59:59;D;1.s;", "no such year"),
        (Q.rstrip() + b" end=" + b"9" * 5000, "no such time: end=999999999999…"),
        (Q.replace(b"etime=1", b"etime=1234567890123"), "no such time: etime=123456789012…"),
        (b"13/45/2026 09:36:57;D;1.s;", "no date: '13/45/2026 09:36:57'"),
        (b"02/29/2026 09:36:57;D;1.s;", "no date"),
        (b"2026-11-22 09:36:57;D;1.s;", "no date"),
        ("\u0661\u0661/\u0662\u0662/2026 09:36:57;D;1.s;".encode(), "no date"),
        (b"11/22/2026 09:36:57;X;1.s;", "no such type of record: 'X'"),
        (b"11/22/2026 09:36:57;;1.s;", "no such type of record"),
        (b"11/22/2026 09:36:57;\xff;1.s;", "no such type of record"),
        (b"11/22/2026 09:36:57;D;;", "no id"),
        (b"11/22/2026 09:36:57;D;1.s;\0\0\0", "NUL"),
    ],
)
def test_broken_lines_say_what_is_wrong(line: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        parse(line)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_broken(line: bytes) -> None:
    with suppress(DecodeError):
        assert parse(line).id


# ------------------------------------------------------------------ local time


def _local(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_local_time_of_a_zone() -> None:
    clock = LocalClock(BERLIN)
    assert clock.resolve(_local("2026-07-01T12:00:00")) == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert clock.resolve(_local("2026-12-01T12:00:00")) == datetime(2026, 12, 1, 11, tzinfo=UTC)


def test_the_hour_that_comes_twice_is_told_apart_by_what_came_before() -> None:
    clock = LocalClock(BERLIN)
    locals_ = ["02:00:00", "02:30:00", "02:59:59", "02:00:01", "02:30:00", "03:00:00"]
    moments = [clock.resolve(_local(f"2026-10-25T{text}")) for text in locals_]
    hours = [moment.strftime("%H:%M:%S") for moment in moments]
    assert hours == ["00:00:00", "00:30:00", "00:59:59", "01:00:01", "01:30:00", "02:00:00"]


def test_a_record_s_own_epoch_tells_the_hour_that_comes_twice() -> None:
    late = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    local = _local("2026-10-25T02:30:00")
    assert LocalClock(BERLIN).resolve(local, int(late.timestamp())) == late
    early = late - timedelta(hours=1)
    assert LocalClock(BERLIN).resolve(local, int(early.timestamp())) == early


@given(st.integers(0, 3600 * 24 * 400), st.integers(0, 40))
def test_moments_written_in_order_come_back(start: int, step: int) -> None:
    begin = datetime(2025, 10, 1, tzinfo=UTC) + timedelta(seconds=start)
    moments = [begin + timedelta(minutes=step * n) for n in range(8)]
    clock = LocalClock(BERLIN)
    # The first may be either where the hour comes twice: nothing was before it.
    clock.resolve(begin.astimezone(BERLIN).replace(tzinfo=None), int(begin.timestamp()))
    written = [moment.astimezone(BERLIN).replace(tzinfo=None, fold=0) for moment in moments]
    epochs = [int(moment.timestamp()) for moment in moments]
    found = [clock.resolve(w, e) for w, e in zip(written, epochs, strict=True)]
    assert found == moments


# ------------------------------------------------------------------ files


def _read(*paths: Path) -> list[AccountingRecord | BrokenLine]:
    return list(AccountingFiles(paths, UTC).read())


def test_a_broken_file_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "20261122"
    broken = [b"no semicolons\n", b"\0" * 10 + b"\n", b"x" * (MAX_LINE + 10) + b"\n", b";;;\n"]
    long = b"11/22/2026 09:36:57;D;2.s;r=" + b"r" * 500_000 + b' a="' * 100_000 + b"\n"
    path.write_bytes(Q + b"".join(line + Q for line in broken) + b"\n" + long + Q[:-1])
    items = _read(path)
    kinds = ["R" if isinstance(item, AccountingRecord) else "b" for item in items]
    assert "".join(kinds) == "RbRbRbRbRRb"
    reasons = [(item.place.line, item.reason) for item in items if isinstance(item, BrokenLine)]
    assert [line for line, _ in reasons] == [2, 4, 6, 8, 12]
    assert reasons[2][1] == f"longer than {MAX_LINE} bytes"
    assert reasons[-1][1] == "cut short: no line end"
    assert items[0].place.file == str(path)


@pytest.mark.parametrize("name", ["00010101", "99991231", "plain"])
def test_dates_beyond_all_calendars_end_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    times = [b"01/01/0001 00:00:00", b"12/31/9999 23:59:59", b"11/22/2026 09:36:57"]
    ends = [b"9" * digits for digits in (20, 400, 5000)]
    lines = [time + Q[19:] for time in times] + [
        Q.rstrip() + b" end=" + end + b"\n" for end in ends
    ]
    path.write_bytes(b"".join(lines))
    found = list(AccountingFiles([path], ZoneInfo("Asia/Tokyo")).read())
    assert [isinstance(item, BrokenLine) for item in found] == [1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "length", [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE + 2, 3_500_000]
)
def test_a_long_line_ends_where_it_ends(tmp_path: Path, length: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(Q + b"x" * length + b"\n" + Q)
    items = _read(path)
    assert [type(item) for item in items] == [AccountingRecord, BrokenLine, AccountingRecord]
    assert [item.place.line for item in items] == [1, 2, 3]


def test_compressed_files_and_truncated_ones(tmp_path: Path) -> None:
    path, whole = tmp_path / "20261122.gz", gzip.compress(Q * 5000)
    path.write_bytes(whole)
    assert len(_read(path)) == 5000
    path.write_bytes(whole[: len(whole) // 2])
    later = tmp_path / "20261123"
    later.write_bytes(Q.replace(b"11/22", b"11/23"))
    items = _read(later, path)
    broken = [item for item in items if isinstance(item, BrokenLine)]
    assert "breaks off" in broken[-1].reason
    assert isinstance(items[-1], AccountingRecord)
    assert items[-1].place.file == str(later)
    path.write_bytes(b"no gzip at all")
    assert "breaks off" in next(i.reason for i in _read(path) if isinstance(i, BrokenLine))


def test_what_a_file_covers(tmp_path: Path) -> None:
    day = tmp_path / "20261122"
    day.write_bytes(Q)
    os.utime(day, (0, datetime(2026, 11, 30, tzinfo=UTC).timestamp()))
    files = AccountingFiles([day], UTC)
    assert files.covers(datetime(2026, 11, 22, 0, 0, tzinfo=UTC))
    assert files.covers(datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC))
    assert not files.covers(datetime(2026, 11, 23, 0, 0, tzinfo=UTC))
    # Of the day that it was last written to it covers no more than was written.
    os.utime(day, (0, datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()))
    assert not AccountingFiles([day], UTC).covers(datetime(2026, 11, 22, 13, tzinfo=UTC))
    other = tmp_path / "99999999"
    other.write_bytes(Q + Q.replace(b"09:36", b"10:00"))
    files = AccountingFiles([other], UTC)
    list(files.read())
    assert files.covers(datetime(2026, 11, 22, 9, 50, tzinfo=UTC))
    assert not files.covers(datetime(2026, 11, 22, 10, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["missing"], "cannot be read: No such file"),
        ([""], "not a file"),
        (["a", "a"], "given twice"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, names: list[str], reason: str) -> None:
    (tmp_path / "a").write_bytes(Q)
    with pytest.raises(UsageError, match=reason):
        AccountingFiles([tmp_path / name for name in names], UTC)


def test_standard_input_stands_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="stands alone"):
        AccountingFiles([Path("-"), tmp_path / "a"], UTC)
