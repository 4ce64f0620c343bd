"""One row is tampered with, whichever it is and however: the audit says so, and where."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest
from harness.archiving import KEEP_NOTHING, THIN_ALL, Archived, archive, write_months
from harness.histories import History
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbscast_store.audit.checkpoints import sign
from pbscast_store.audit.findings import Finding, Verdict
from pbscast_store.audit.keys import SigningKey, load_private_key, make_key
from pbscast_store.audit.verify import verify
from pbscast_store.log import Log

patient = settings(
    deadline=None,
    max_examples=5,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

_NUMBERS = itertools.count()
_TABLES = ("event", "object", "life", "site", "checkpoint")
_KEY = {
    "event": "position",
    "object": "position",
    "life": "last_position",
    "site": "position",
    "checkpoint": "position",
}
"""The column that says where a row's failure is to be found."""
_UNPROVED = {
    "object": {"born"},  # in no event
    "site": {"name", "cursor", "epoch", "holder", "lease_expires"},  # work in progress, no record
}
_OTHER = {
    "integer": "coalesce({0}, 0) + 1000",
    "bigint": "coalesce({0}, 0) + 1000",
    "boolean": "NOT {0}",
    "timestamp with time zone": "coalesce({0}, 'epoch') + interval '1 microsecond'",
    "text": "coalesce({0}, '') || 'x'",
    "ARRAY": "{0} || ARRAY['x']",
    "jsonb": """{0} || '{{"Priority": "another"}}'""",
    "json": """(({0})::jsonb || '{{"never": "told"}}')::json""",
    "bytea": "sha256(coalesce({0}, ''))",
}
"""Another value of each type."""


class Scene:
    """A log, and who may do anything to it."""

    def __init__(self, dsn: str, log: Log, connection: asyncpg.Connection, key: SigningKey) -> None:
        self.dsn, self.log, self.connection, self.key = dsn, log, connection, key

    async def write(self, site: str, random: Random, events: int) -> None:
        await self.log.register_site(site)
        writer = await self.log.acquire(site, "test", 600)
        assert writer is not None
        batches = History(site, random).grow(events)
        for number, batch in enumerate(batches):
            await writer.append(batch, {})
            if number in {len(batches) // 2, len(batches) - 1}:
                await sign(self.dsn, self.key)
        await writer.release()

    async def audit(self, site: str | None = None) -> list[Verdict]:
        return await verify(self.dsn, site=site, keys=self.key.public)

    async def keep(self) -> None:
        for table in _TABLES:
            await self.connection.execute(
                f"CREATE TEMPORARY TABLE kept_{table} AS TABLE pbscast_log.{table}"
            )

    @asynccontextmanager
    async def tampering(self, table: str) -> AsyncIterator[asyncpg.Connection]:
        """What is done to the table within is undone."""
        yield self.connection
        await self.connection.execute(
            f"DELETE FROM pbscast_log.{table};INSERT INTO pbscast_log.{table} TABLE kept_{table}"
        )

    async def columns(self, table: str) -> dict[str, str]:
        rows = await self.connection.fetch(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'pbscast_log' AND table_name = $1 ORDER BY 1",
            table,
        )
        return {row[0]: row[1] for row in rows if row[0] not in _UNPROVED.get(table, ())}


@pytest.fixture
async def scene(log_dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    make_key(tmp_path / "key")
    connection = await asyncpg.connect(log_dsn)
    await connection.execute("SET session_replication_role = replica")  # no trigger refuses
    async with Log.open(log_dsn) as log:
        yield Scene(log_dsn, log, connection, load_private_key(tmp_path / "key"))
    await connection.close()


@pytest.mark.parametrize("table", _TABLES)
async def test_any_changed_column_of_any_row_is_found(scene: Scene, table: str) -> None:
    random = Random(table)
    await scene.write("sitea", random, 30)
    await scene.keep()
    for column, kind in (await scene.columns(table)).items():
        async with scene.tampering(table) as superuser:
            rows = await superuser.fetch(f"SELECT ctid, * FROM pbscast_log.{table}")
            row = random.choice(rows)
            if table == "object" and row["kind"] == "site" and kind in {"json", "jsonb", "ARRAY"}:
                row = next(row for row in rows if row["kind"] == "job")
            await superuser.execute(
                f"UPDATE pbscast_log.{table} SET {column} = {_OTHER[kind].format(column)}"
                f" WHERE ctid = $1 AND {_KEY[table]} = $2",
                row["ctid"],
                row[_KEY[table]],
            )
            findings = {found.site: found for v in await scene.audit() if (found := v.finding)}
        assert findings, (table, column, row)
        expected = 1 if (table, column) == ("site", "chained_after") else row[_KEY[table]]
        # A checkpoint's or head's own place says where it fails: changed, it is another one.
        if table in {"event", "object", "life"} or column not in {"position", "number", "site"}:
            assert findings["sitea"].position == expected, (table, column, row, findings)


_NONSENSE = [
    ("event", "time", "'infinity'"),
    ("event", "time", "'-infinity'"),
    ("event", "digest", "'\\xaa' || digest"),
    ("object", "began", "'infinity'"),
    ("object", "ended", "'infinity'"),
    ("object", "base", "'[1]'"),
    ("object", "recent", "'[1]'"),
    ("object", "columns", "'5'"),
    ("life", "ended", "'infinity'"),
    ("site", "logged", "'infinity'"),
    ("site", "digest", "'x'"),
    ("checkpoint", "logged", "'infinity'"),
    ("checkpoint", "signed", "'-infinity'"),
]


async def test_what_pbscast_cannot_have_written_is_found(scene: Scene) -> None:
    await scene.write("sitea", Random(3), 12)
    await scene.write("siteb", Random(4), 5)
    await scene.keep()
    for table, column, value in _NONSENSE:
        async with scene.tampering(table) as superuser:
            key, site = _KEY[table], "name" if table == "site" else "site"
            position = await superuser.fetchval(
                f"SELECT max({key}) FROM pbscast_log.{table} WHERE {site} = 'sitea'"
            )
            await superuser.execute(
                f"UPDATE pbscast_log.{table} SET {column} = {value}"
                f" WHERE {site} = 'sitea' AND {key} = $1",
                position,
            )
            sitea, siteb = await scene.audit()
        assert sitea.finding is not None, (table, column, value)
        assert sitea.finding.position == position, (table, column, value, sitea.finding)
        assert siteb.finding is None


@pytest.mark.parametrize("table", ["event", "object", "life"])
async def test_any_removed_row_is_found(scene: Scene, table: str) -> None:
    await scene.write("sitea", Random(table), 15)
    await scene.keep()
    for (position,) in await scene.connection.fetch(
        f"SELECT {_KEY[table]} FROM pbscast_log.{table}"
    ):
        async with scene.tampering(table) as superuser:
            await superuser.execute(
                f"DELETE FROM pbscast_log.{table} WHERE {_KEY[table]} = $1", position
            )
            (verdict,) = await scene.audit()
        assert verdict.finding is not None
        assert verdict.finding.position == position
        assert re.search(_REMOVED[table], verdict.finding.text), verdict.finding


_REMOVED = {
    "event": r"^the row is missing; the next is \d+ \(\w+ \S+, |^the log is cut: events from here",
    "object": "^its row in object was removed",
    "life": "^its row in life was removed, though it has ended",
}


async def test_any_inserted_row_is_found(scene: Scene) -> None:
    """Twice the same position, in another partition; a row after the last; rows of nobody."""
    await scene.write("sitea", Random(1), 25)
    await scene.keep()
    last_life = "last_position = (SELECT max(last_position) FROM pbscast_log.life)"
    forged = (
        (
            "event",
            "position = 7",
            {"logged": "logged + interval '1 month'"},
            7,
            "a row was inserted: there are two",
        ),
        ("event", "position = 7", {"position": "26"}, 26, "the row was inserted, or the site's"),
        ("event", "position = 7", {"position": "0"}, 0, "the row was inserted, or the site's"),
        ("event", "position = 7", {"site": "'siteb'"}, 0, "the site's row is missing"),
        ("object", "position = 25", {"id": "'999.s'"}, 25, "its row in object was inserted"),
        ("life", last_life, {"incarnation": "99"}, None, "its row in life was inserted"),
    )
    for table, where, values, position, text in forged:
        async with scene.tampering(table) as superuser:
            names = await superuser.fetch(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = 'pbscast_log' AND table_name = $1",
                table,
            )
            columns = [name for (name,) in names]
            done = await superuser.execute(
                f"INSERT INTO pbscast_log.{table} ({', '.join(columns)})"
                f" SELECT {', '.join(values.get(name, name) for name in columns)}"
                f" FROM pbscast_log.{table} WHERE {where}"
            )
            assert done == "INSERT 0 1"
            findings = [found for v in await scene.audit() if (found := v.finding)]
        assert len(findings) == 1, (table, values)
        assert position in {None, findings[0].position}, (table, values, findings)
        assert findings[0].text.startswith(text)


async def test_two_swapped_rows_are_found(scene: Scene) -> None:
    random = Random(2)
    await scene.write("sitea", random, 25)
    await scene.keep()
    swap = (
        "UPDATE pbscast_log.event SET position = CASE position WHEN $1 THEN -$2 ELSE -$1 END"
        " WHERE position IN ($1, $2)"
    )
    for _ in range(10):
        one, two = sorted(random.sample(range(1, 26), 2))
        async with scene.tampering("event") as superuser:
            await superuser.execute(swap, one, two)
            await superuser.execute(
                "UPDATE pbscast_log.event SET position = -position WHERE position < 0"
            )
            (verdict,) = await scene.audit()
        assert verdict.finding is not None
        assert verdict.finding.position == one
        assert verdict.finding.text.startswith(f"the row that was logged here is at {two} now")


@patient
@given(seed=st.integers(0, 2**32), events=st.integers(0, 50), cut=st.integers(1, 10))
async def test_an_untouched_log_is_clean_and_a_cut_one_is_not(
    scene: Scene, seed: int, events: int, cut: int
) -> None:
    site = f"site{next(_NUMBERS)}"
    await scene.write(site, Random(seed), events)
    (verdict,) = await scene.audit(site)
    assert verdict.finding is None
    assert verdict.signed_up_to == verdict.position
    if verdict.position == 0:
        return

    kept = max(verdict.position - cut, 0)
    await scene.connection.execute(
        "DELETE FROM pbscast_log.event WHERE site = $1 AND position > $2", site, kept
    )
    (verdict,) = await scene.audit(site)
    assert verdict.finding is not None
    assert verdict.finding.position == kept + 1
    assert "cut: events from here to" in verdict.finding.text

    # The head made to fit: then it is the projection, or what was signed, that knows more.
    await scene.connection.execute(
        "UPDATE pbscast_log.site SET (position, digest, logged) ="
        " (SELECT position, digest, logged FROM pbscast_log.event"
        " WHERE site = $1 AND position = $2)"
        " WHERE name = $1",
        site,
        kept,
    ) if kept else None
    (verdict,) = await scene.audit(site)
    assert verdict.finding is not None


_USAGES = {"full": "thinned", "thinned": "full"}
_MOMENT = timedelta(microseconds=1)


@dataclass
class Vault:
    """A log whose past is archived, and who may do anything to both."""

    dsn: str
    directory: Path
    connection: asyncpg.Connection

    @property
    def archived(self) -> Archived:
        (path,) = (self.directory / "sitea").glob("*.json")
        return Archived(path)

    async def finding(self) -> Finding | None:
        (verdict,) = await verify(self.dsn, site="sitea", archives=self.directory)
        return verdict.finding

    @contextmanager
    def tampering(self) -> Iterator[Archived]:
        """What is done to the directory within is undone."""
        kept = self.directory.with_name("kept")
        shutil.copytree(self.directory, kept)
        yield self.archived
        shutil.rmtree(self.directory)
        kept.rename(self.directory)


@pytest.fixture
async def vault(
    log_dsn: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Vault]:
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=60, months=1)
    how = getattr(request, "param", "thinned")
    policy = THIN_ALL if how == "thinned" else KEEP_NOTHING
    await archive(log_dsn, tmp_path / "archive", policy)
    connection = await asyncpg.connect(log_dsn)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("ALTER TABLE pbscast_log.archive DROP CONSTRAINT archive_check")
    try:
        vault = Vault(log_dsn, tmp_path / "archive", connection)
        assert (vault.archived.said["thinned"] > 0) == (how == "thinned")
        assert await vault.finding() is None
        yield vault
    finally:
        await connection.close()


def _another(value: Any) -> Any:
    """Of the same type, and as like as can be."""
    if isinstance(value, str):
        return _another_text(value)
    if isinstance(value, datetime):
        return value - _MOMENT
    if isinstance(value, bytes):
        return sha256(value).digest()
    return value + 1 if isinstance(value, int) else "x"


def _another_text(text: str) -> str:
    if text in _USAGES:
        return _USAGES[text]
    if re.fullmatch("[0-9a-f]{64}", text):
        return sha256(text.encode()).hexdigest()
    if re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", text):
        return (datetime.fromisoformat(text) - _MOMENT).isoformat()
    return f"{text}x"


@pytest.mark.parametrize("vault", ["kept", "thinned"], indirect=True)
async def test_any_changed_cell_or_removed_row_of_an_archive_is_found(vault: Vault) -> None:
    """By who may write the directory, and makes sizes and hashes fit."""
    random = Random(5)
    for what in ("events", "objects"):
        rows = vault.archived.rows(what)
        for column in rows[0]:
            index = random.randrange(len(rows))
            value = rows[index][column]
            is_hash = column in {"digest", "payload_sha256"}
            another = sha256(b"x").digest() if is_hash and not value else _another(value)
            with vault.tampering() as archived:
                archived.change(what, index, {column: another})
                found = await vault.finding()
            assert found is not None, (what, column, index)
            assert found.position <= index + 2, (what, column, index, found)
        index = random.randrange(len(rows))
        with vault.tampering() as archived:
            archived.write(what, [*rows[:index], *rows[index + 1 :]])
            found = await vault.finding()
        assert found is not None, (what, index)


@pytest.mark.parametrize("vault", ["kept", "thinned"], indirect=True)
async def test_any_changed_word_of_a_manifest_is_found(vault: Vault) -> None:
    said = vault.archived.said
    parts = {None: said} | {part: said[part] for part in ("contents", "events", "objects")}
    for part, words in parts.items():
        for word, value in words.items():
            if isinstance(value, dict):
                continue
            with vault.tampering() as archived:
                archived.say(part, **{word: _another(value)})
                if word == "usage":
                    archived.rename()
                if word == "name":
                    old = archived.path.with_name(value)
                    old.rename(old.with_name(f"{value}x"))
                found = await vault.finding()
            assert found is not None, (part, word)
            assert found.position <= 1, (part, word, found)


async def test_any_changed_column_of_the_table_of_archives_is_found(vault: Vault) -> None:
    connection = vault.connection
    columns = await connection.fetch(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'pbscast_log' AND table_name = 'archive'"
    )
    await connection.execute("CREATE TEMPORARY TABLE kept AS TABLE pbscast_log.archive")
    changes = [(name, _OTHER[kind].format(name)) for name, kind in columns if name != "registered"]
    changes += [
        ("latest", "'-infinity'"),
        ("earliest", "'infinity'"),
        ("manifest", "''"),
        ("manifest", "'../other.json'"),
        ("site", "'nobody'"),
    ]
    for column, value in changes:
        await connection.execute(f"UPDATE pbscast_log.archive SET {column} = {value}")
        verdicts = await verify(vault.dsn, archives=vault.directory)
        await connection.execute(
            "DELETE FROM pbscast_log.archive; INSERT INTO pbscast_log.archive TABLE kept"
        )
        assert not all(verdict.is_clean for verdict in verdicts), (column, value)
        if column == "site":
            assert len(verdicts) == 2
    assert await vault.finding() is None


async def test_any_other_row_of_the_table_of_archives_is_found(vault: Vault) -> None:
    """None, one more behind the last, one more in between."""
    connection = vault.connection
    await connection.execute("CREATE TEMPORARY TABLE kept AS TABLE pbscast_log.archive")
    for change in (
        "DELETE FROM pbscast_log.archive",
        _COPY.format("last_position + 1", "last_position + 1"),
        _COPY.format("last_position + 1000", "last_position + 1001"),
        _COPY.format("2", "last_position"),
    ):
        await connection.execute(change)
        found = await vault.finding()
        await connection.execute(
            "DELETE FROM pbscast_log.archive; INSERT INTO pbscast_log.archive TABLE kept"
        )
        assert found is not None, change


_COPY = """
    INSERT INTO pbscast_log.archive
        (site, first_position, last_position, previous, digest, earliest, latest, first_logged,
         last_logged, partition, manifest, thinnable)
    SELECT site, {}, {}, digest, digest, earliest, latest, first_logged, last_logged, partition,
        manifest, thinnable
    FROM kept
"""
