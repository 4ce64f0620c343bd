"""How long events are kept where. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pbscast_store.archive.catalog import Partition


@dataclass(frozen=True, slots=True)
class Retention:
    """Of one site, counted from when an event was logged."""

    live: timedelta
    """How long events stay in PostgreSQL, at least: a partition leaves as a whole."""
    usage: timedelta | None
    """How long `usage` events are kept in full; None: for ever."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The retention of every site."""

    default: Retention
    sites: Mapping[str, Retention] = field(default_factory=dict)

    def of(self, site: str) -> Retention:
        """What holds for a site."""
        return self.sites.get(site, self.default)

    def may_leave(self, partition: Partition, sites: Iterable[str]) -> bool:
        """Whether a partition with events of these sites need not stay in PostgreSQL."""
        live = max((self.of(site).live for site in sites), default=self.default.live)
        return partition.upper + live <= partition.now

    def thins(self, site: str, last_logged: datetime, now: datetime) -> bool:
        """Whether usage events up to this time need not be kept in full."""
        usage = self.of(site).usage
        return usage is not None and last_logged + usage <= now
