"""What the subscriptions that cover a site are told: decisions alone, no I/O. Pure.

Fed with definitions, with the site's events in their order, and with what the log says of a
position; gives the messages, each but for its number, in the order in which they are to be stored.
Any failure outside means that all of it is dropped, and made anew from what is stored.
"""

from __future__ import annotations

from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING

import structlog

from pbscast.errors import PbscastError
from pbscast.events import Finalize, Kind
from pbscast_fanout.matching import Matcher, Objects, past_of
from pbscast_fanout.matching.objects import Key
from pbscast_fanout.subscriptions.composing import (
    Delivery,
    Telling,
    begin_tail,
    boundary_tail,
    object_tail,
)
from pbscast_fanout.subscriptions.joined import Joined
from pbscast_fanout.subscriptions.joining import Join, Learn, Member, Stage, Wish
from pbscast_fanout.subscriptions.learning import Learning
from pbscast_fanout.subscriptions.outboxes import Outboxes
from pbscast_fanout.subscriptions.room import Room
from pbscast_fanout.subscriptions.stream import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pbscast.events import Site
    from pbscast.lives import Standing
    from pbscast_fanout.matching import Life
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.outboxes import Turn
    from pbscast_store.records import Record

_log = structlog.get_logger(__name__)


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
        self._tickets = count(1)
        self._learning = Learning(self._matcher, self._objects)
        self._errands: list[Wish | Join | Learn] = []
        self._outboxes = Outboxes()

    def __len__(self) -> int:
        """How many subscriptions cover the site."""
        return len(self._members)

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
        return self._learning.names

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
        return self._outboxes.burden

    @property
    def is_burdened(self) -> bool:
        """Whether what was taken should be told before more is."""
        return self._outboxes.is_burdened

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
        self._learning.begin()
        for member in self._members.values():
            if member.stage is not Stage.LIVE:
                self._enlist(member)

    # Definitions.

    def define(self, definition: Definition) -> None:
        """Take in a subscription, or what it was changed to."""
        member = self._members.get(definition.id)
        if not definition.covers(self._site):
            self.remove(definition.id)
        elif member is None:
            self._enrol(definition)
        elif definition.only_at(self._site) != member.definition.only_at(self._site):
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
            self._learning.forget()

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

    def _enrol(self, definition: Definition) -> None:
        if not definition.more and self._register(definition) and self._has_begun:
            self._admit(self._members[definition.id])

    def _register(self, definition: Definition) -> bool:
        try:
            only = definition.only_at(self._site)
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
        if self._learning.suffices(member.definition.id):
            self._enlist(member)
        elif self._learning.errand is None:
            self._errands.append(self._learning.start(next(self._tickets), self.position))

    def _change(self, member: Member, definition: Definition) -> None:
        """Change one that is told of events; what is added joins from here on."""
        old, new = member.definition.request, definition.request
        key, member.definition = definition.id, definition
        if new.attributes != old.attributes:
            self._matcher.change_attributes(key, new.attributes)
        if new.ids == old.ids:
            self._settle(member)
            return
        if not (added := self._change_ids(definition)):
            self._settle(member)
            return
        member.stage = Stage.JOINING
        self._errands.append(self._send_for(member, added))

    def _change_ids(self, definition: Definition) -> tuple[str, ...]:
        """Let it be about its ids as they are now; return those that are new."""
        had, ids = self._matcher.ids_of(definition.id), definition.request.ids
        added = tuple(job_id for job_id in ids if job_id not in had)
        removed = () if len(had) + len(added) == len(ids) else had.difference(ids)
        self._matcher.change_ids(definition.id, add=added, remove=removed)
        return added

    # Joining.

    def errands(self) -> list[Wish | Join | Learn]:
        """What has to be read from the log, each once."""
        errands, self._errands = self._errands, []
        return errands

    def is_wanted(self, errand: Wish | Join | Learn) -> bool:
        """Whether it has not become vain."""
        if isinstance(errand, Learn):
            return errand is self._learning.errand
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
            self._learning.supply(standings)

    def supplied(self, learn: Learn) -> None:
        """All objects have been."""
        if not self.is_wanted(learn):
            return
        self._learning.finish()
        waiting = [item for item in self._members.values() if item.stage is Stage.LEARNING]
        for member in waiting:
            self._admit(member)

    def _enlist(self, member: Member) -> None:
        """Let it begin (anew) when it is its turn."""
        self._errands.append(self._recall(member))

    def _recall(self, member: Member) -> Wish:
        """Tell it nothing until it begins (anew)."""
        definition = member.definition
        member.wait()
        self._joining.add(definition.id)
        self._outboxes.drop(definition.id)
        wish = Wish(definition.id, next(self._tickets), definition.request)
        member.errand = wish
        return wish

    def _catch_up(self, member: Member, definition: Definition) -> None:
        """What it was changed to holds from its beginning."""
        self._matcher.change_attributes(definition.id, definition.request.attributes)
        if definition.request.ids != member.definition.request.ids:
            self._change_ids(definition)
        member.definition, member.later = definition, None

    def _send_for(self, member: Member, ids: tuple[str, ...]) -> Join:
        definition = member.definition
        self._joining.add(definition.id)
        only, ticket = definition.only_at(self._site), next(self._tickets)
        join = Join(definition.id, ticket, self.position, definition.request, ids, only)
        member.errand = join
        return join

    # Telling.

    def take(self, record: Record, after: str | None = None) -> None:
        """Tell of the next event, those up to `after`, in the order of ids, excepted."""
        event = record.decode()
        self.position, self.digest = record.position, record.digest
        matches = self._matcher.match(event, self._objects.take(event))
        matches.sort(key=attrgetter("key"))
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
                self._outboxes.tell(telling.delivery(match, place, kept=member.kept))
                told.append(match.key)
        if isinstance(event, Finalize):
            self._outboxes.turn.ends.append((event, told))

    def draw(self, limit: int) -> Turn:
        """Return what the events taken since the last call tell, and some of what waits.

        Of the latter twice as much as has come to it in the meantime, and `limit` more: so it comes
        to an end, however much happens.
        """
        for member in self._outboxes.draw(limit):
            if member.stage is Stage.DRAINING:
                member.stage = Stage.LIVE
                self._settle(member)
        return self._outboxes.take_turn()

    def departures(self) -> Iterator[tuple[Life, str]]:
        """What `restore` needs."""
        return self._matcher.departures()

    def _settle(self, member: Member) -> None:
        """It is told of events as they happen, as its definition says."""
        definition = member.definition
        self._joining.discard(definition.id)
        joined = Joined(position=member.begun, revision=definition.revision)
        self._outboxes.turn.settled.append((definition.id, joined))
        if (later := member.later) is not None:
            member.later = None
            self._change(member, later)

    def _hold(self, member: Member, delivery: Delivery) -> None:
        if not self._outboxes.hold(member, delivery):
            _log.debug("subscription_joins_anew", subscription=delivery.key, position=self.position)
            self._enlist(member)
