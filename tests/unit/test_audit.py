"""The pure parts of an audit: lines of COPY, steps of jobs, folds, keys."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from harness.chain import leaf_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pbscast import newfile
from pbscast.errors import ConfigError, ConflictError, DecodeError
from pbscast_store.archive.thinning import thin
from pbscast_store.audit import keys
from pbscast_store.audit.checkpoints import Checkpoint, read_file, write_file
from pbscast_store.audit.findings import Broken, Finding
from pbscast_store.audit.lines import (
    ID,
    WIDTH,
    archived_line,
    canonical,
    cells,
    columns,
    describe,
    prefix,
    thinned_canonical,
)
from pbscast_store.audit.lives import Values
from pbscast_store.audit.story import Story
from pbscast_store.audit.transitions import Step, judge
from pbscast_store.records import Record

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
) | st.sampled_from(["a\tb", "a\nb", "a\\b", "\\N"])
TIMES = st.datetimes(timezones=st.just(UTC))
RECORDS = st.builds(
    Record,
    **dict.fromkeys(["site", "kind", "id", "event", "provenance", "payload"], TEXTS),
    **dict.fromkeys(["time", "logged"], TIMES),
    **dict.fromkeys(["position", "incarnation", "revision"], st.integers(1, 2**31)),
    owner=st.none() | TEXTS,
    digest=st.binary(min_size=32, max_size=32),
)


@settings(max_examples=30)
@given(RECORDS)
def test_a_line_gives_the_canonical_form(record: Record) -> None:
    line = archived_line(record)
    assert b"\n" not in line
    assert line.count(b"\t") == 11
    form = canonical(prefix(record.site), *line.rsplit(b"\t", 2)[:2])
    assert hashlib.sha256(form).digest() == leaf_of(record)


@settings(max_examples=30)
@given(RECORDS)
def test_a_thinned_line_gives_the_same_form(record: Record) -> None:
    usage = '{"changed":{"resources_used.cput":"1"}}'
    whole = replace(record, event="usage", payload=usage)
    beginning, line = prefix(record.site), archived_line(thin(whole))
    thinned = thinned_canonical(beginning, *line.rsplit(b"\t", 2)[:2])
    assert thinned == canonical(beginning, *archived_line(whole).rsplit(b"\t", 2)[:2])


@settings(max_examples=30)
@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_a_block_has_the_values_of_its_lines(records: list[Record]) -> None:
    lines = [archived_line(record) for record in records]
    values = cells(b"".join(line + b"\n" for line in lines))
    assert values == [value for line in lines for value in columns(line)]
    assert values[ID::WIDTH] == [record.id.encode() for record in records]


@pytest.mark.parametrize(
    ("job", "before", "after", "step"),
    [
        ("1.s", None, "Q", Step.USUAL),
        ("1.s", "E", "F", Step.USUAL),
        ("1.s", "F", "R", Step.IMPOSSIBLE),
        ("1.s", "M", "Q", Step.IMPOSSIBLE),
        ("1[2].s", "X", "F", Step.USUAL),
        ("1[2].s", "X", "Q", Step.IMPOSSIBLE),
        ("1[].s", "E", "X", Step.IMPOSSIBLE),
        ("1.s", "Q", "B", Step.IMPOSSIBLE),
        ("1.s", "Q", "S", Step.ODD),
        ("1.s", "Q", "?", Step.ODD),
    ],
)
def test_steps_of_jobs(job: str, before: str | None, after: str, step: Step) -> None:
    assert judge(job, before, after) is step


@pytest.mark.parametrize(
    "payload",
    [
        *("5", "[]", '"x"', "{", '{"changed":5}', '{"changed":[5]}', '{"removed":5}'),
        *('{"removed":[[]]}', '{"columns":5}', '{"state":["Q"]}'),
    ],
)
def test_a_payload_that_pbscast_cannot_have_written_is_found(payload: str) -> None:
    """Where no digest tells of it: before the chain, or in a log that was rewritten as a whole."""
    good = ("1", "job", "1.s", "1", "1", "modify", "journal", "=alice")
    lines = [
        "\t".join((str(number), "5", *good[:4], str(number), *good[5:], text, "\\N\n")).encode()
        for number, text in enumerate(['{"state":"Q"}', payload], 1)
    ]
    with pytest.raises(Broken) as raised:
        Story("sitea").take(b"".join(lines))
    assert raised.value.finding.position == 2


_SUBMIT = ("submit", 1, 1, {"state": "Q"})
_FINALIZE = ("finalize", 1, 2, {"state": "F", "old_state": "Q", "reason": "finished"})


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([("state", 1, 3, {})], "rows of this object are missing, or this one was inserted: it is"),
        ([_SUBMIT, ("state", 1, 3, {})], "rows of this object are missing, or this one was"),
        ([_SUBMIT, ("submit", 1, 2, {})], "a second beginning of the same incarnation"),
        ([_SUBMIT, ("submit", 2, 1, {})], "a new incarnation begins, though the last was not"),
        ([("submit", 2, 1, {})], "rows of this object are missing, or this one was inserted: its"),
        ([_SUBMIT, _FINALIZE, ("finalize", 1, 3, {"state": "F"})], "a second finalize of the same"),
        ([_SUBMIT, ("purge", 1, 2, {"state": "Q"})], "the job's row left PBS, though no finalize"),
        (
            [_SUBMIT, ("state", 1, 2, {"state": "R", "old_state": "H"})],
            "it says that the state before was H/None, but the log told of Q/None: a row is",
        ),
        (
            [("submit", 1, 1, {"state": "F"}), ("state", 1, 2, {"state": "R"})],
            "a change of state that PBS cannot make: from F to R",
        ),
        (
            [("submit", 1, 1, {"state": "B"})],
            "a change of state that PBS cannot make: to B at first",
        ),
    ],
)
def test_what_cannot_have_happened_is_said(
    events: list[tuple[str, int, int, dict[str, str]]], text: str
) -> None:
    lines = [
        f"{number}\t5\t5\tjob\t1.s\t{incarnation}\t{revision}\t{event}\tjournal\t=alice\t"
        f"{json.dumps(payload)}\t\\N\n".encode()
        for number, (event, incarnation, revision, payload) in enumerate(events, 1)
    ]
    with pytest.raises(Broken) as raised:
        Story("sitea").take(b"".join(lines))
    about = f"job 1.s, {events[-1][0]}, 1970-01-01T00:00:00.000005Z"
    assert str(raised.value.finding).startswith(f"sitea:{len(events)} ({about}): {text}")


def test_a_finding_is_one_line_whatever_the_row_says() -> None:
    values = [b"1", b"9223372036854775807", b"5", b"job", b"1\n\x1b[2J\xff", b"", b"", b"state"]
    assert str(Finding("sitea", 1, "owner is x\ny", describe(values))) == (
        "sitea:1 (job 1??[2J\ufffd, state, 9223372036854775807 µs after 1970): owner is x?y"
    )


CHANGES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from("abc"), st.sampled_from("12")),
        st.sets(st.sampled_from("abc")),
    )
)


@settings(max_examples=40)
@given(CHANGES, st.sets(st.integers(0, 10)))
def test_a_fold_that_was_let_go_of_still_tells_what_differs(
    changes: list[tuple[dict[str, str], set[str]]], settled: set[int]
) -> None:
    """Compared early or not, in the end the same names differ."""
    final = {"a": "1", "b": "2"}
    values, plain = Values(), dict[str, str]()
    for number, (changed, removed) in enumerate(changes):
        values.remove(removed)
        values.latest.update(changed)
        plain = {name: plain[name] for name in plain.keys() - removed} | changed
        if number in settled:
            values.settle(final)
    wanted = {name for name in "abc" if plain.get(name) != final.get(name)}
    assert values.settle(final) == wanted


def test_openssl_agrees_with_a_signature(tmp_path: Path) -> None:
    public = keys.make_key(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    key = keys.load_private_key(tmp_path / "key")
    made = Checkpoint("sitea", 1, 7, b"d" * 32, 5, 0, 6, key.key_id)
    (tmp_path / "form").write_bytes(made.canonical)
    (tmp_path / "signature").write_bytes(key.sign(made.canonical))
    subprocess.run(
        [
            *("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"),
            *("-in", str(tmp_path / "form"), "-sigfile", str(tmp_path / "signature")),
        ],
        check=True,
        capture_output=True,
    )
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"],
        check=True,
        capture_output=True,
    ).stdout
    assert hashlib.sha256(der).hexdigest()[:16] == key.key_id


def test_keys_that_will_not_do(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        keys.load_private_key(path)
    public = keys.make_key(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists"):
        keys.make_key(path)
    public.rename(tmp_path / "elsewhere.pub")
    with pytest.raises(ConfigError, match="never overwritten"):
        keys.make_key(path)
    assert path.read_bytes() == before
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read it: chmod 600"):
        keys.load_private_key(path)
    with pytest.raises(ConfigError, match="not an Ed25519 public key"):
        keys.load_public_keys(path)
    path.write_text("nonsense")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not a private key"):
        keys.load_private_key(path)


def test_a_key_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: for both files, and for the public one alone."""
    real, path = newfile.create, tmp_path / "key"
    for last in ("key", "key.pub"):

        def create(path: Path, content: bytes, permissions: int, last: str = last) -> None:
            if path.name == last:
                raise OSError(28, "No space left on device")
            real(path, content, permissions)

        monkeypatch.setattr(keys, "create", create)
        with pytest.raises(ConfigError, match=f"{last}: cannot be written: No space"):
            keys.make_key(path)
        assert list(tmp_path.iterdir()) == []


def test_an_export_does_not_replace_what_the_log_no_longer_has(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    made = [Checkpoint("s", number, 2, b"", 3, 0, 4, "k", b"x") for number in (1, 2)]
    write_file(path, made[:1])
    write_file(path, made)
    for cut in ([], made[:1], [made[0], replace(made[1], digest=b"other")]):
        with pytest.raises(ConflictError, match=r"holds checkpoint \d of s, which the log has not"):
            write_file(path, cut)
        assert read_file(path) == made


def test_several_public_keys_in_one_file(tmp_path: Path) -> None:
    files = [keys.make_key(tmp_path / name) for name in ("old", "new")]
    (tmp_path / "both.pub").write_bytes(b"".join(file.read_bytes() for file in files))
    both = keys.load_public_keys(tmp_path / "both.pub")
    for name in ("old", "new"):
        assert keys.load_private_key(tmp_path / name).key_id in both


@pytest.mark.parametrize("line", ["{}", "[]", "nonsense", '{"site": 1}'])
def test_a_broken_export_names_its_line(tmp_path: Path, line: str) -> None:
    path, made = tmp_path / "kept.jsonl", Checkpoint("s", 1, 2, b"", 3, 0, 4, "k", b"x")
    write_file(path, [made])
    assert read_file(path) == [made]
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DecodeError, match=r"kept\.jsonl:2: not a checkpoint"):
        read_file(path)


def test_time_is_told_in_microseconds() -> None:
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    record = Record("s", 1, moment, "job", "1.s", 1, 1, "state", "journal", None, "{}", moment, b"")
    assert archived_line(record).split(b"\t")[1:3] == [b"-1", b"-1"]
