"""What the subscriptions that cover a site are told: decisions alone, no I/O. Pure.

Fed with definitions, with the site's events in their order, and with what the log says of a
position; gives the messages, each but for its number, in the order in which they are to be stored.
Any failure outside means that all of it is dropped, and made anew from what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from pbscast.errors import PbscastError
from pbscast.events import Finalize, Kind
from pbscast_fanout.matching import Matcher, Objects, past_of
from pbscast_fanout.matching.objects import Key
from pbscast_fanout.matching.sights import FIELDS
from pbscast_fanout.subscriptions.composing import (
    Delivery,
    Telling,
    begin_tail,
    boundary_tail,
    object_tail,
)
from pbscast_fanout.subscriptions.joined import Joined
from pbscast_fanout.subscriptions.joining import Join, Learn, Member, Stage, Wish, size_of
from pbscast_fanout.subscriptions.outboxes import MOST, MOST_BYTES, Outboxes, Turn
from pbscast_fanout.subscriptions.room import Room
from pbscast_fanout.subscriptions.stream import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pbscast.events import Site
    from pbscast.lives import Standing
    from pbscast_fanout.matching import Life, Match
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_store.records import Record

_log = structlog.get_logger(__name__)


def covers(definition: Definition, site: Site) -> bool:
    """Whether a site is told to a subscription."""
    sites, owner = definition.request.sites, definition.owner
    is_visible = owner is None or owner.covers(site)
    return not definition.ended and is_visible and (not sites or site in sites)


def only_at(definition: Definition, site: Site) -> str | None:
    """Return whose jobs alone a site may tell to a subscription that it covers; None: all."""
    return None if definition.owner is None else definition.owner.only_at(site)


class SiteDeliveries:
    """The subscriptions of one site between two of its events.

    At first it is made as it was at a place: `resume` those that had joined, `define` the others,
    `load`, `restore` and `replay`; then `begin`. After that events are taken, each once, in order.
    """

    def __init__(self, site: Site, limit: int, room: Room | None = None) -> None:
        """What waits to be told takes of the `room`: ``close`` gives it back."""
        self.position = 0
        """Of the last event that was taken."""
        self.digest: bytes | None = None
        """Of the log's chain there; None: unknown."""
        self.limit = limit
        """Bytes that a message may have, envelope not counted."""
        self._site = site
        self._matcher = Matcher()
        self._objects = Objects(self._matcher.names)
        self._room = Room() if room is None else room
        self._members: dict[str, Member] = {}
        self._begun: dict[int, list[str]] = {}
        """Who begins where, of those that go on."""
        self._joining: set[str] = set()
        self._has_begun = False
        self._tickets = 0
        self._learning: Learn | None = None
        self._learnt: set[str] = set()
        """Attributes that are known of all objects."""
        self._coming: set[str] = set()
        """Those that are being learnt, and have been spoken of all the time since."""
        self._errands: list[Wish | Join | Learn] = []
        self._outboxes = Outboxes()
        self._turn = Turn()
        self._told_bytes = self._held = self._held_bytes = 0
        """Of this turn: messages that are told at once, and those that are not yet."""

    def __len__(self) -> int:
        """How many subscriptions cover the site."""
        return len(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def keys(self) -> Collection[str]:
        """Those that do."""
        return self._members.keys()

    @property
    def joining(self) -> int:
        """How many are not told of events as they happen yet."""
        return len(self._joining)

    @property
    def attributes(self) -> frozenset[str]:
        """Attributes that expressions speak of: what `load` needs beside where objects stand."""
        return frozenset(self._matcher.names) - FIELDS

    @property
    def is_telling(self) -> bool:
        """Whether something waits to be drawn."""
        return bool(self._outboxes)

    @property
    def place(self) -> Place:
        """All events that were taken are told."""
        digest = None if self.digest is None else self.digest.hex()
        return Place(self.position, digest=digest)

    @property
    def burden(self) -> int:
        """How many messages the events of this turn have made."""
        return len(self._turn.deliveries) + self._held

    @property
    def is_burdened(self) -> bool:
        """Whether what was taken should be told before more is."""
        return self.burden >= MOST or self._told_bytes + self._held_bytes >= MOST_BYTES

    def close(self) -> None:
        """Give back all room."""
        for member in self._members.values():
            member.leave()

    # Making it as it was.

    def resume(self, definition: Definition, joined: Joined) -> None:
        """Go on telling one that has joined."""
        if self._register(definition):
            member = self._members[definition.id]
            member.stage, member.begun = Stage.LIVE, joined.position
            self._joining.discard(definition.id)
            self._begun.setdefault(joined.position, []).append(definition.id)

    def load(self, standings: Iterable[Standing]) -> None:
        """All that live at the position."""
        self._objects.load(map(past_of, standings))

    def restore(self, departures: Iterable[tuple[Life, str]]) -> None:
        """What `departures` said at the position."""
        members = self._members
        self._matcher.restore(
            (life, key)
            for life, key in departures
            if key in members and members[key].begun < self.position
        )

    def replay(self, record: Record) -> None:
        """Take an event that has been told."""
        event = record.decode()
        self._matcher.match(event, self._objects.take(event))
        self.position, self.digest = record.position, record.digest
        for key in self._begun.pop(record.position, ()):
            self._matcher.readmit(key)

    def begin(self) -> None:
        """Everything that was told is taken in: from now on events are told."""
        self._has_begun = True
        self._begun.clear()
        self._learnt = set(self.attributes)
        for member in self._members.values():
            if member.stage is not Stage.LIVE:
                self._enlist(member)

    # Definitions.

    def define(self, definition: Definition) -> None:
        """Take in a subscription, or what it was changed to."""
        member = self._members.get(definition.id)
        if not covers(definition, self._site):
            self.remove(definition.id)
        elif member is None:
            self._enrol(definition)
        elif self._only(definition) != self._only(member.definition):
            self.remove(definition.id)
            self._enrol(definition)
        elif definition.revision != member.definition.revision:
            if member.stage is Stage.LIVE:
                self._change(member, definition)
            else:
                member.later = definition

    def remove(self, key: str) -> None:
        """Tell it nothing more; nothing if it is not there."""
        if key in self._members:
            self._members.pop(key).leave()
            self._joining.discard(key)
            self._outboxes.drop(key)
            self._matcher.remove(key)
            self._learnt &= self._matcher.names
            self._coming &= self._matcher.names

    def rejoin(self, key: str) -> None:
        """Tell it everything anew; what was to be told before is not needed."""
        if (member := self._members.get(key)) is not None:
            self._enlist(member)

    def put_off(self, errand: Wish | Join | Learn) -> Wish | Learn | None:
        """Return what to do instead, later, of an errand that failed; None: nothing.

        Who had begun begins anew then, and is told nothing until it does.
        """
        if not self.is_wanted(errand):
            return None
        if not isinstance(errand, Join):
            return errand
        return self._recall(self._members[errand.key])

    def lives(self, job_id: str) -> bool:
        """Whether a job lives at the site after the last event that was taken."""
        return Key(self._site, Kind.JOB, job_id) in self._objects

    def _only(self, definition: Definition) -> str | None:
        return only_at(definition, self._site)

    def _enrol(self, definition: Definition) -> None:
        if not definition.more and self._register(definition) and self._has_begun:
            self._admit(self._members[definition.id])

    def _register(self, definition: Definition) -> bool:
        try:
            only = self._only(definition)
            self._matcher.add(definition.id, definition.request, only=only)
        except PbscastError as error:
            # It was checked when it was registered, maybe by a release that knows more.
            _log.warning("subscription_refused", subscription=definition.id, error=str(error))
            return False
        self._members[definition.id] = Member(definition, self._room)
        self._joining.add(definition.id)
        return True

    def _admit(self, member: Member) -> None:
        """Let it join as soon as all that its expression speaks of is known."""
        names = self._matcher.names_of(member.definition.id) - FIELDS
        if names <= self._learnt:
            self._enlist(member)
        elif self._learning is None:
            self._learn()

    def _change(self, member: Member, definition: Definition) -> None:
        """Change one that is told of events; what is added joins from here on."""
        old, new = member.definition.request, definition.request
        key, member.definition = definition.id, definition
        if new.attributes != old.attributes:
            self._matcher.change_attributes(key, new.attributes)
        if new.ids == old.ids:
            self._settle(member)
            return
        had, has = set(old.ids), set(new.ids)
        added = tuple(job_id for job_id in new.ids if job_id not in had)
        self._matcher.change_ids(key, add=added, remove=had - has)
        if not added:
            self._settle(member)
            return
        member.stage = Stage.JOINING
        self._errands.append(self._send_for(member, added))

    # Joining.

    def errands(self) -> list[Wish | Join | Learn]:
        """What has to be read from the log, each once."""
        errands, self._errands = self._errands, []
        return errands

    def is_wanted(self, errand: Wish | Join | Learn) -> bool:
        """Whether it has not become vain."""
        if isinstance(errand, Learn):
            return errand is self._learning
        member = self._members.get(errand.key)
        return member is not None and member.errand is errand

    def backlog(self, errand: Join) -> int:
        """How many messages of it wait to be drawn."""
        return len(self._members[errand.key].outbox) if self.is_wanted(errand) else 0

    def embark(self, wish: Wish) -> Join | None:
        """Let a subscription begin here; None if it is not wanted any more."""
        if not self.is_wanted(wish):
            return None
        member = self._members[wish.key]
        if member.later is not None:
            self._catch_up(member, member.later)
        self._matcher.readmit(wish.key)
        member.stage, member.begun = Stage.JOINING, self.position
        tail = begin_tail(self.position)
        member.put(Delivery(wish.key, member.kept, tail))
        self._outboxes.note(member)
        return self._send_for(member, member.definition.request.ids)

    def offer(self, join: Join, standings: Iterable[Standing]) -> None:
        """How some objects stood at the errand's position."""
        if not self.is_wanted(join):
            return
        member, key = self._members[join.key], join.key
        interest = self._matcher.interest(key)
        for standing in standings:
            if self._matcher.contains(key, standing):
                tail = object_tail(standing, interest, self.limit)
                member.put(Delivery(key, member.kept, tail))
        self._outboxes.note(member)

    def bound(self, join: Join) -> None:
        """All that stood at the errand's position has been offered."""
        if self.is_wanted(join):
            member = self._members[join.key]
            member.release(Delivery(join.key, member.kept, boundary_tail(join.position)))
            self._outboxes.note(member)

    def supply(self, learn: Learn, standings: Iterable[Standing]) -> None:
        """How some objects stood, with attributes, at the errand's position."""
        if self.is_wanted(learn):
            self._objects.supply(map(past_of, standings))

    def supplied(self, learn: Learn) -> None:
        """All objects have been."""
        if not self.is_wanted(learn):
            return
        self._learnt |= self._coming
        self._learning, self._coming = None, set()
        self._objects.expect(())
        waiting = [item for item in self._members.values() if item.stage is Stage.LEARNING]
        for member in waiting:
            self._admit(member)

    def _learn(self) -> None:
        names = self.attributes - self._learnt
        self._learning = Learn(self._ticket(), self.position, names)
        self._coming = set(names)
        self._objects.expect(names)
        self._errands.append(self._learning)

    def _enlist(self, member: Member) -> None:
        """Let it begin (anew) when it is its turn."""
        self._errands.append(self._recall(member))

    def _recall(self, member: Member) -> Wish:
        """Tell it nothing until it begins (anew)."""
        definition = member.definition
        member.wait()
        self._joining.add(definition.id)
        self._outboxes.drop(definition.id)
        wish = Wish(definition.id, self._ticket(), definition.request)
        member.errand = wish
        return wish

    def _catch_up(self, member: Member, definition: Definition) -> None:
        """What it was changed to holds from its beginning."""
        self._matcher.change_attributes(definition.id, definition.request.attributes)
        had, has = set(member.definition.request.ids), set(definition.request.ids)
        if had != has:
            self._matcher.change_ids(definition.id, add=has - had, remove=had - has)
        member.definition, member.later = definition, None

    def _send_for(self, member: Member, ids: tuple[str, ...]) -> Join:
        definition = member.definition
        self._joining.add(definition.id)
        join = Join(
            definition.id,
            self._ticket(),
            self.position,
            definition.request,
            ids,
            self._only(definition),
        )
        member.errand = join
        return join

    def _ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    # Telling.

    def take(self, record: Record, after: str | None = None) -> None:
        """Tell of the next event, those up to `after`, in the order of ids, excepted."""
        event = record.decode()
        self.position, self.digest = record.position, record.digest
        matches = self._matcher.match(event, self._objects.take(event))
        matches.sort(key=_key)
        told: list[str] = []
        here = self.place
        telling = Telling(record, event, self.limit) if matches else None
        for match in matches:
            member = self._members[match.key]
            if telling is None or not member.has_begun or member.begun >= self.position:
                continue
            if member.stage is not Stage.LIVE:
                self._hold(member, telling.delivery(match, None, kept=member.kept))
            elif after is None or match.key > after:
                place = Place(self.position, match.key, here.digest)
                delivery = telling.delivery(match, place, kept=member.kept)
                self._turn.deliveries.append(delivery)
                self._told_bytes += size_of(delivery)
                told.append(match.key)
        if isinstance(event, Finalize):
            self._turn.ends.append((event, told))

    def draw(self, limit: int) -> Turn:
        """Return what the events taken since the last call tell, and some of what waits.

        Of the latter twice as much as has come to it in the meantime, and `limit` more: so it comes
        to an end, however much happens.
        """
        size = MOST_BYTES + 2 * self._held_bytes
        drawn, emptied = self._outboxes.draw(limit + 2 * self._held, size)
        turn = self._turn
        turn.deliveries += drawn
        for member in emptied:
            if member.stage is Stage.DRAINING:
                member.stage = Stage.LIVE
                self._settle(member)
        self._turn = Turn()
        self._told_bytes = self._held = self._held_bytes = 0
        return turn

    def departures(self) -> Iterator[tuple[Life, str]]:
        """What `restore` needs."""
        return self._matcher.departures()

    def _settle(self, member: Member) -> None:
        """It is told of events as they happen, as its definition says."""
        definition = member.definition
        self._joining.discard(definition.id)
        self._turn.settled.append(
            (definition.id, Joined(position=member.begun, revision=definition.revision))
        )
        if (later := member.later) is not None:
            member.later = None
            self._change(member, later)

    def _hold(self, member: Member, delivery: Delivery) -> None:
        self._held += 1
        self._held_bytes += size_of(delivery)
        if not member.hold(delivery):
            _log.debug("subscription_joins_anew", subscription=delivery.key, position=self.position)
            self._enlist(member)
        elif member.stage is Stage.DRAINING:
            self._outboxes.note(member)


def _key(match: Match) -> str:
    return match.key
