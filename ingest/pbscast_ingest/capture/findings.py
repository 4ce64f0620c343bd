"""From what a datastore answers to findings: pure judgement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pbscast_ingest.capture.report import Finding, fail, ok, warn
from pbscast_ingest.capture.script import JOURNAL_VERSION, digest
from pbscast_ingest.schema import is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVERS: Final = range(10, 19)
"""PostgreSQL major versions that a datastore may run on."""

_UPGRADE: Final = "run `pbscastd source upgrade`"
_TABLES: Final = ("job", "queue", "node", "resv", "server", "scheduler")
_BACKLOG: Final = 600.0
"""Seconds after which changes that are still there are a fault of the reader."""
_UNTRIMMED: Final = 64
"""Rows that may well be left over from the last trimming."""
_QUEUE: Final = 0.1
"""The fill of the notification queue above which the triggers do not ring."""


class Surroundings(NamedTuple):
    """Answer of ``check/surroundings.sql``."""

    server_version_num: int
    server_version: str
    has_pbs: bool
    hstore_schema: str | None
    has_installation: bool
    queue_usage: float
    idle_in_transaction: str | None


class Installed(NamedTuple):
    """Answer of ``check/installation.sql``."""

    version: int
    script: str
    site: str
    reader: str
    upgraded_at: str
    identity: str
    defects: Sequence[str]


class Journal(NamedTuple):
    """Answer of ``check/journal.sql``."""

    rows: int
    bytes: int
    cap_bytes: int | None
    """None if the triggers cannot read it."""
    database_bytes: int
    oldest_seconds: float | None
    newest_seconds: float | None
    sessions: int
    """Of the reader."""
    beat_seconds: float | None
    """Age of the last heartbeat still in the journal."""
    mode: int
    lost: int
    """As the sequence says it: `count_losses`."""
    last_gap: str | None = None
    """The last marker still in the journal, in words."""
    is_full: bool = False
    """As the triggers see it."""


class Reader(NamedTuple):
    """Answer of ``check/reader.sql``."""

    can_log_in: bool
    lacks: Sequence[str]
    exceeds: bool


def server(seen: Surroundings) -> Finding:
    """Whether we serve this PostgreSQL."""
    text = f"PostgreSQL {seen.server_version}"
    if seen.server_version_num // 10000 in SERVERS:
        return ok("server", text)
    advice = f"pbscast serves {SERVERS.start} to {SERVERS.stop - 1}"
    return fail("server", f"{text} is not supported", advice)


def schema(seen: Surroundings, version: str | None) -> Finding:
    """Whether this is a PBS datastore of a known form."""
    if not seen.has_pbs:
        advice = "is this the database pbs_datastore, and did pbs_server ever start?"
        return fail("PBS schema", "there is none in this database", advice)
    if not is_known(version):
        advice = "this release knows 1.5.x: look for a newer release of pbscast"
        return fail("PBS schema", f"version {version or '(none)'} is not known", advice)
    return ok("PBS schema", f"version {version}")


def no_installation(seen: Surroundings) -> Finding:
    """What to do where capture is not."""
    advice = "run `pbscastd source install`"
    if not seen.has_pbs:
        advice = "name PBS's own database in --dsn: it is called pbs_datastore"
    return fail("installation", "capture is not installed", advice)


def hstore(seen: Surroundings, astray: str | None, creator: str | None) -> Finding:
    """Whether hstore is where the triggers look for it, and nobody may put functions beside it."""
    if seen.hstore_schema is None:
        return fail("hstore", "the extension is missing", "PBS cannot work without it either")
    if astray:
        text = f"was moved to schema {seen.hstore_schema} after the installation"
        return fail("hstore", text, _UPGRADE)
    if creator:
        text = f"in schema {seen.hstore_schema}, where {creator} may make functions of its own"
        return warn("hstore", text, f"REVOKE CREATE ON SCHEMA {seen.hstore_schema} FROM {creator}")
    return ok("hstore", f"in schema {seen.hstore_schema}")


def installation(found: Installed) -> Finding:
    """Whether what is installed is of this release."""
    text = f"site {found.site}, of {found.upgraded_at}, journal {found.identity}"
    if found.version > JOURNAL_VERSION:
        return fail("installation", f"{text}: made by a newer release", "use that release")
    if found.version < JOURNAL_VERSION or found.script != digest():
        return warn("installation", f"{text}: made by another release", _UPGRADE)
    return ok("installation", text)


def triggers(found: Installed) -> list[Finding]:
    """A finding for each table of PBS."""
    bad = dict(line.split(": ", 1) for line in found.defects if line.startswith("pbs."))
    advice = f"a PBS upgrade, a re-created datastore or a person removed it: {_UPGRADE}"
    return [
        fail(f"triggers on pbs.{kind}", bad[f"pbs.{kind}"], advice)
        if f"pbs.{kind}" in bad
        else ok(f"triggers on pbs.{kind}", "present and enabled")
        for kind in _TABLES
    ]


def has_strange_functions(found: Installed) -> bool:
    """Whether functions of capture are missing or others than were installed."""
    return any(line.startswith("pbscast.") for line in found.defects)


def functions(found: Installed) -> Finding:
    """Whether the functions are those that were installed."""
    bad = [line for line in found.defects if line.startswith("pbscast.")]
    if bad:
        return fail("functions", "; ".join(bad), f"changes may be lost without a sign: {_UPGRADE}")
    return ok("functions", "as they were installed")


def rights(lacking: Sequence[str]) -> Finding:
    """Whether the triggers and the reader may do what they have to."""
    if lacking:
        return fail("rights", "; ".join(lacking), _UPGRADE)
    return ok("rights", "all that triggers and reader need")


def switch(journal: Journal) -> Finding:
    """Whether capture is on."""
    if journal.mode & 1:
        text = "paused: changes are not captured, the gap is marked"
        return warn("switch", text, "run `pbscastd source resume` when the reason is gone")
    return ok("switch", "on, without doorbell" if journal.mode & 2 else "on")


def size(journal: Journal) -> Finding:
    """Whether the journal is far from its cap."""
    text = f"{journal.rows} rows, {_mib(journal.bytes)} MiB"
    if journal.cap_bytes is not None:
        text = text.removesuffix(" MiB") + f" of {_mib(journal.cap_bytes)} MiB"
    text += f" in a database of {_mib(journal.database_bytes)} MiB"
    if journal.oldest_seconds is not None:
        text += f", oldest row {ago(journal.oldest_seconds)}"
    advice = "is pbscastd running, and does it reach this datastore and the log?"
    if journal.cap_bytes is None:
        text += ": the triggers cannot read its cap (pbscast.control), capture has paused itself"
        return fail("journal", text, _UPGRADE)
    if journal.is_full or journal.bytes > journal.cap_bytes:
        return fail("journal", f"{text}: full, capture has paused itself", advice)
    if 2 * journal.bytes > journal.cap_bytes:
        return warn("journal", text, advice)
    return ok("journal", text)


def reading(reader: str, journal: Journal, *, may_read: bool = True) -> Finding:
    """Whether somebody reads, as far as the journal alone tells."""
    beat = "" if journal.beat_seconds is None else f", last heartbeat {ago(journal.beat_seconds)}"
    if not journal.sessions:
        text = f"{reader} is not connected{beat}"
        advice = "is pbscastd running, and does it reach this datastore?"
        refused = "pbscastd is refused as long as rights are missing: see rights"
        return warn("reading", text, advice if may_read else refused)
    text = f"{reader} is connected{beat}"
    oldest = journal.oldest_seconds or 0.0
    if journal.rows > _UNTRIMMED and oldest > _BACKLOG:
        text += f", but {journal.rows} rows are not trimmed, the oldest {ago(oldest)}"
        return warn("reading", text, "does pbscastd reach the log?")
    return ok("reading", text)


def last_row(journal: Journal) -> Finding:
    """When the journal was last written; a running reader's heartbeat does so as well."""
    if journal.newest_seconds is None:
        return ok("last row", "none yet")
    return ok("last row", ago(journal.newest_seconds))


def count_losses(value: int) -> int:
    """Return how many losses the sequence has counted, as capture's count_loss() does."""
    return value >> 24 if value >= 1 << 24 else value


def losses(journal: Journal, told: int | None = None, before: int | None = None) -> Finding:
    """How many saves went by unjournaled, for reasons other than a pause.

    What the log was told (the value that it knows, now and before the journal was looked at) is no
    fault any more; None: nobody knows.
    """
    last = f"; last marker: {journal.last_gap}" if journal.last_gap else ""
    number = count_losses(journal.lost)
    if not number:
        return ok("losses", f"none counted{last}")
    text = f"{number} saves were not journalled since the installation"
    if told is None:
        return ok("losses", f"{text}; --config says whether the log knows{last}")
    went_on = before not in (None, told) and count_losses(told) >= number
    if told != journal.lost and not went_on:
        untold = max(1, number - count_losses(told))
        text += f", {untold} of them not told in the log yet{last}"
        return warn("losses", text, "pbscastd answers with a gap and a resync: is it running?")
    return ok("losses", f"{text}, all of them told in the log as gaps, with their times{last}")


def queue(seen: Surroundings) -> Finding:
    """Whether the doorbell can ring."""
    text = f"{seen.queue_usage:.1%} of the notification queue in use"
    if seen.queue_usage < _QUEUE:
        return ok("doorbell", text)
    culprit = seen.idle_in_transaction or "a session that LISTENs and never ends its transaction"
    return warn("doorbell", f"{text}: it stays silent, the reader polls", f"look at {culprit}")


def reader(name: str, found: Reader | None) -> Finding:
    """Whether the reader has exactly the rights that it needs."""
    subject = f"reader {name}"
    if found is None:
        return fail(subject, "there is no such role", _UPGRADE)
    if found.lacks:
        return fail(subject, "may not read " + ", ".join(found.lacks), _UPGRADE)
    if not found.can_log_in:
        return fail(subject, "may not log in", f"ALTER ROLE {name} LOGIN")
    if found.exceeds:
        text = "may do more than read what is captured"
        return warn(subject, text, "take from it what pbscast did not grant")
    return ok(subject, "has the rights it needs and no others")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}" if size < 10 * 2**20 else f"{size // 2**20}"


def ago(seconds: float) -> str:
    """How long ago that was, in words."""
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s ago"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago"
