"""What a scraper sees of the sites."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

LAG_ROWS: Final = Gauge("pbscast_ingest_lag_rows", "Journal rows not yet logged", ["site"])
LAG_SECONDS: Final = Gauge(
    "pbscast_ingest_lag_seconds", "Age of the oldest journal row not yet logged", ["site"]
)
CAUGHT_UP: Final = Gauge(
    "pbscast_ingest_caught_up_timestamp_seconds",
    "When the log last had all that the journal held; kept while datastore or log are away",
    ["site"],
)
POSITION: Final = Gauge("pbscast_ingest_position", "Position of the last event logged", ["site"])
JOURNAL_BYTES: Final = Gauge(
    "pbscast_ingest_journal_bytes", "Size of the journal in the PBS datastore", ["site"]
)
LEASE: Final = Gauge("pbscast_ingest_lease_held", "1 while this process holds the site", ["site"])
UP: Final = Gauge("pbscast_ingest_up", "1 while the datastore answers and capture works", ["site"])
SILENT: Final = Gauge(
    "pbscast_ingest_silent",
    "1 while the datastore answers and no heartbeat comes through its journal",
    ["site"],
)
HEARTBEAT: Final = Gauge(
    "pbscast_ingest_heartbeat_timestamp_seconds",
    "Datastore clock of the last heartbeat that came through the journal",
    ["site"],
)
ROWS: Final = Counter("pbscast_ingest_rows", "Journal rows read", ["site"])
EVENTS: Final = Counter("pbscast_ingest_events", "Events logged", ["site"])
DROPPED: Final = Counter(
    "pbscast_ingest_repeated_finalizes", "Second finalizes of an incarnation, not logged", ["site"]
)
GAPS: Final = Counter("pbscast_ingest_gaps", "Gap events logged", ["site"])
RESYNCS: Final = Counter("pbscast_ingest_resyncs", "Resyncs finished", ["site"])
ERRORS: Final = Counter("pbscast_ingest_errors", "Faults met and retried", ["site", "fault"])
UNTRANSLATED: Final = Counter(
    "pbscast_ingest_untranslated_rows",
    "Rows that were not understood; each led to a resync",
    ["site"],
)
UNREAD: Final = Counter(
    "pbscast_ingest_unread_rows",
    "Rows that were too large to be read as they are, and were told in part or by their key",
    ["site"],
)
REFUSED: Final = Counter(
    "pbscast_ingest_refused_events",
    "Events that the log refused as they were, and has in part",
    ["site"],
)
TRIMMED: Final = Counter(
    "pbscast_ingest_trimmed_rows", "Read rows removed from the journal", ["site"]
)
