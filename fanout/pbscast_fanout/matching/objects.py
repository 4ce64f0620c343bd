"""What has to be known of each object that lives: how it stood before its next event."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from sys import intern
from typing import TYPE_CHECKING, Final, NamedTuple

from pbscast.events import AnyEvent, Change, EventName, Finalize, Incarnation, Kind, ObjectPayload

if TYPE_CHECKING:
    from pbscast.lives import Standing

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


def past_of(standing: Standing) -> tuple[Key, Past]:
    """What Objects keep of an object that stands so."""
    key = Key(standing.site, standing.kind, standing.id)
    past = Past(
        standing.incarnation,
        standing.owner,
        standing.queue,
        standing.project,
        standing.name,
        standing.state,
        standing.substate,
        standing.attributes or _NOTHING,
    )
    return key, past


class Objects:
    """Every object of some sites that lives, folded event by event.

    `names` says, at any time, which attributes expressions speak of: no other is kept. Before the
    first event of a site all that live there have to be loaded, as they stood after the event
    before. When an expression speaks of an attribute that none spoke of before, `expect` it between
    two events, and `supply` it, as it was then, whenever that has been read.
    """

    def __init__(self, names: Container[str]) -> None:
        self._names = names
        self._pasts: dict[Key, Past] = {}
        self._expected: frozenset[str] = frozenset()
        self._removed: dict[Key, set[str]] = {}
        """Expected attributes that were taken away since they are expected."""

    def __len__(self) -> int:
        return len(self._pasts)

    def __contains__(self, key: object) -> bool:
        """Whether an object, a `Key`, lives."""
        return key in self._pasts

    def load(self, objects: Iterable[tuple[Key, Past]]) -> None:
        """Objects that have not ended."""
        for key, past in objects:
            self._keep(key, past.incarnation, past, self._chosen(past.attributes))

    def expect(self, names: Iterable[str]) -> None:
        """These attributes are unknown as yet; what was expected before is so no longer."""
        self._expected = frozenset(names)
        self._removed = {}
        for key, past in self._pasts.items():
            if not self._expected.isdisjoint(past.attributes):
                self._pasts[key] = replace(past, attributes=self._without_expected(past))

    def supply(self, objects: Iterable[tuple[Key, Past]]) -> None:
        """How the expected attributes were when they were expected; what events said since holds.

        Can be given in parts; `expect` nothing once all is there.
        """
        for key, found in objects:
            past = self._pasts.get(key)
            if past is not None and past.incarnation == found.incarnation:
                gone = self._removed.get(key, ())
                new = {
                    name: text
                    for name, text in found.attributes.items()
                    if name in self._expected and name not in gone
                }
                attributes = {**new, **past.attributes} or _NOTHING
                self._pasts[key] = replace(past, attributes=attributes)

    def _without_expected(self, past: Past) -> Mapping[str, str]:
        return {
            name: text for name, text in past.attributes.items() if name not in self._expected
        } or _NOTHING

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
            self._removed.pop(key, None)
        elif past is not None or event.revision == 1 or event.kind is not Kind.JOB:
            attributes = _NOTHING if past is None else past.attributes
            self._note_removed(key, event)
            self._keep(key, event.incarnation, event, self._folded(attributes, event))
        return past

    def _note_removed(self, key: Key, change: Change) -> None:
        if self._expected and not self._expected.isdisjoint(change.removed):
            self._removed.setdefault(key, set()).update(self._expected.intersection(change.removed))

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
