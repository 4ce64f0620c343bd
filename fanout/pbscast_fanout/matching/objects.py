"""What has to be known of each object that lives: how it stood before its next event."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Final, NamedTuple

from pbscast.events import AnyEvent, Change, EventName, Finalize, Incarnation, Kind, ObjectPayload

_NOTHING: Final[Mapping[str, str]] = {}


class Key(NamedTuple):
    """An object."""

    site: str
    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Past:
    """An object just before an event."""

    incarnation: Incarnation
    owner: str | None = None
    queue: str | None = None
    project: str | None = None
    name: str | None = None
    state: str | None = None
    substate: int | None = None
    attributes: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Those that an expression speaks of, if not all."""


class Objects:
    """Every object of some sites that lives, folded event by event.

    `names` says, at any time, which attributes expressions speak of: no other is kept. Before the
    first event of a site all that live there have to be loaded, as they stood after the event
    before; when an expression speaks of an attribute that none spoke of before, once more.
    """

    def __init__(self, names: Container[str]) -> None:
        self._names = names
        self._pasts: dict[Key, Past] = {}

    def __len__(self) -> int:
        return len(self._pasts)

    def load(self, objects: Iterable[tuple[Key, Past]]) -> None:
        """Objects that have not ended."""
        for key, past in objects:
            self._keep(key, past.incarnation, past, self._chosen(past.attributes))

    def forget(self, site: str) -> None:
        """Another worker has the site now."""
        self._pasts = {key: past for key, past in self._pasts.items() if key.site != site}

    def take(self, event: AnyEvent) -> Past | None:
        """Return how the event's object stood before it, and take the event in.

        None: it was not there before, or a job has ended before (its revision is not 1 then).
        """
        if not isinstance(event, Change | Finalize):
            return None
        key = Key(event.site, event.kind, event.id)
        past = self._pasts.get(key)
        if past is not None and past.incarnation != event.incarnation:
            past = None
        if isinstance(event, Finalize) or event.event in (EventName.DELETE, EventName.PURGE):
            self._pasts.pop(key, None)
        elif past is not None or event.revision == 1 or event.kind is not Kind.JOB:
            attributes = _NOTHING if past is None else past.attributes
            self._keep(key, event.incarnation, event, self._folded(attributes, event))
        return past

    def _keep(
        self,
        key: Key,
        incarnation: Incarnation,
        standing: ObjectPayload | Past,
        attributes: Mapping[str, str],
    ) -> None:
        # Owners, queues and states are few; each event brings texts of its own.
        self._pasts[key] = Past(
            incarnation,
            _shared(standing.owner),
            _shared(standing.queue),
            _shared(standing.project),
            standing.name,
            _shared(standing.state),
            standing.substate,
            attributes,
        )

    def _chosen(self, attributes: Mapping[str, str]) -> Mapping[str, str]:
        names = self._names
        return {name: text for name, text in attributes.items() if name in names} or _NOTHING

    def _folded(self, attributes: Mapping[str, str], change: Change) -> Mapping[str, str]:
        new = self._chosen(change.changed)
        if not new and attributes.keys().isdisjoint(change.removed):
            return attributes
        # A dict of its own: who was given the Past before may still read it.
        kept = {name: text for name, text in attributes.items() if name not in change.removed}
        return {**kept, **new} or _NOTHING


def _shared(text: str | None) -> str | None:
    return None if text is None else intern(text)
