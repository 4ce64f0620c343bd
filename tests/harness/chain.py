"""The hash chain, told in the simplest way: the canonical form written out from its description."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from pbscast_store.records import Record


def leaf_of(record: Record) -> bytes:
    """The hash of an event alone."""
    texts = [
        "pbscast-event-1",
        record.site,
        str(record.position),
        _microseconds(record.time),
        _microseconds(record.logged),
        record.kind,
        record.id,
        str(record.incarnation),
        str(record.revision),
        record.event,
        record.provenance,
        "" if record.owner is None else "=" + record.owner,
        hashlib.sha256(record.payload.encode()).hexdigest(),
    ]
    return hashlib.sha256("\0".join(texts).encode()).digest()


def _microseconds(moment: datetime) -> str:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return str((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)
