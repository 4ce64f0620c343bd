"""Following a site's chain along its positions. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from pbscast.errors import DecodeError
from pbscast.events import EventName
from pbscast_store import chain
from pbscast_store.archive.manifest import Contents
from pbscast_store.archive.thinning import Entry, Marks, Thinned, is_thinnable, leaf_of
from pbscast_store.records import Record


class Proof:
    """Checks events as they pass: no position missing, every digest right."""

    def __init__(self, site: str, after: int, previous: bytes, unchained: int = 0) -> None:
        """`unchained`: how many events from here on have no digest, where some may be thinned."""
        self.position = after
        self.digest = previous
        self._site, self._after, self._previous = site, after, previous
        self._leaves = hashlib.sha256()
        self._thinnable = Marks()
        self._unchained = 0
        self._expected = unchained
        self._times: list[datetime] = []
        self._logged: list[datetime] = []

    def add(self, entries: Iterable[Entry]) -> None:
        """Goes on along the chain. Raises DecodeError at the first event that does not fit."""
        for entry in entries:
            self._add(entry)

    def contents(self) -> Contents:
        """What has passed. Raises DecodeError if that was nothing."""
        if not self._times:
            raise DecodeError(f"{self._site}: no event after position {self._after}")
        return Contents(
            site=self._site,
            first_position=self._after + 1,
            last_position=self.position,
            previous=self._previous.hex(),
            digest=self.digest.hex(),
            leaves=self._leaves.hexdigest(),
            earliest=self._times[0],
            latest=self._times[1],
            first_logged=self._logged[0],
            last_logged=self._logged[1],
            thinnable=self._thinnable.hexdigest(),
            unchained=self._unchained,
        )

    def _add(self, entry: Entry) -> None:
        if entry.site != self._site or entry.position != self.position + 1:
            raise DecodeError(
                f"after {self._site}:{self.position} comes {entry.site}:{entry.position}"
            )
        if isinstance(entry, Thinned) and entry.event != EventName.USAGE:
            raise DecodeError(
                f"{entry.site}:{entry.position}: an event {entry.event} has no payload:"
                " only usage events are thinned"
            )
        if isinstance(entry, Thinned) or is_thinnable(entry):
            self._thinnable.add(entry.position)
        leaf = leaf_of(entry)
        self._leaves.update(leaf)
        if self._is_unchained(entry):
            self._unchained += 1
        else:
            self.digest = chain.link(self.digest, leaf)
            if isinstance(entry, Record) and entry.digest != self.digest:
                raise DecodeError(
                    f"{entry.site}:{entry.position} does not fit its digest: it was changed"
                )
        self.position = entry.position
        self._span(entry)

    def _is_unchained(self, entry: Entry) -> bool:
        if isinstance(entry, Record):
            return entry.digest is None and self.digest == chain.GENESIS
        return self._unchained < self._expected

    def _span(self, entry: Entry) -> None:
        if not self._times:
            self._times, self._logged = [entry.time] * 2, [entry.logged] * 2
        elif entry.time < self._times[0]:
            self._times[0] = entry.time
        elif entry.time > self._times[1]:
            self._times[1] = entry.time
        self._logged[1] = entry.logged
