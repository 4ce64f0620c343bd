"""Comparing what the events told of incarnations with what the projection says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Never

from pydantic_core import from_json

from pbscast_store.audit.findings import UNREADABLE, Broken, Finding
from pbscast_store.statements import query

if TYPE_CHECKING:
    import asyncpg

    from pbscast_store.audit.chaining import SiteEnd
    from pbscast_store.audit.lives import ToldLife
    from pbscast_store.audit.story import Story

_PAGE: Final = 1000
_ENOUGH: Final = 200

_SHARED: Final = (
    *("first_position", "began", "ended", "reason", "exit_status"),
    *("owner", "queue", "project", "name", "state", "reached"),
)
"""What both rows of an incarnation say."""
_OBJECT: Final = (
    *("incarnation", "revision", "position", "finalized", "gone", "substate", "gone_at"),
    *_SHARED,
)
_LIFE: Final = ("last_position", "gone", *_SHARED)
_OF_OBJECT: Final = itemgetter(*(f"o_{name}" for name in _OBJECT))
_OF_LIFE: Final = itemgetter(*(f"l_{name}" for name in _LIFE))


class Settler:
    """Takes the incarnations of a story when there is nothing more to tell, or no room for them.

    What a row says that the events do not raises Broken, at the last event that it should tell of.
    """

    def __init__(self, connection: asyncpg.Connection, story: Story, head: SiteEnd) -> None:
        self._connection = connection
        self._story = story
        self._site = head.site
        self._chained_after = head.chained_after
        self._waiting: list[ToldLife] = []
        self._asked: Sequence[ToldLife] = ()
        self._rows: asyncio.Task[list[asyncpg.Record]] | None = None

    async def settle(self) -> None:
        """Compares what is due, if it is worth a query, as soon as its answer is there.

        PostgreSQL answers while more is told. The rows are those of the snapshot, whenever they
        come; an incarnation is compared as it is told by then.
        """
        self._waiting += self._story.due()
        while len(self._waiting) >= _ENOUGH:
            await self._compare_asked(is_all_told=False)
            page, self._waiting = self._waiting[:_PAGE], self._waiting[_PAGE:]
            await self._ask(page)

    async def close(self) -> None:
        """Nothing more is compared. No answer is on its way any more: the connection can end."""
        if self._rows is not None:
            await asyncio.gather(self._rows, return_exceptions=True)

    async def finish(self) -> None:
        """Compares all that is left, and looks for rows that no event explains."""
        await self._compare_asked(is_all_told=False)
        self._waiting += self._story.rest()
        for begin in range(0, len(self._waiting), _PAGE):
            await self._ask(self._waiting[begin : begin + _PAGE])
            await self._compare_asked(is_all_told=True)
        told = (self._story.known, self._story.ended)
        for what, expected in zip(("object", "life"), told, strict=True):
            found = await self._connection.fetchval(query(f"audit_count_{what}"), self._site)
            if found != expected:
                await self._refuse_unknown(what, expected, found)

    async def _ask(self, lives: Sequence[ToldLife]) -> None:
        kinds, names = [life.kind for life in lives], [life.id for life in lives]
        incarnations = [life.incarnation for life in lives]
        asking = self._connection.fetch(
            query("audit_projection"), self._site, kinds, names, incarnations
        )
        self._asked, self._rows = lives, asyncio.create_task(asking)
        await asyncio.sleep(0)  # it is sent

    async def _compare_asked(self, *, is_all_told: bool) -> None:
        if self._rows is None:
            return
        rows = await self._rows
        self._rows = None
        for life, row in zip(self._asked, rows, strict=True):
            try:
                self._compare(life, row, is_all_told=is_all_told)
            except UNREADABLE as error:
                text = f"pbscast cannot have written its row in object: {error}"
                raise self._broken(life, text) from error

    def _compare(self, life: ToldLife, row: asyncpg.Record, *, is_all_told: bool) -> None:
        latest = row["o_incarnation"]
        if not self._story.is_last(life):
            self._compare_past(life, row, is_all_told=is_all_told)
        elif latest is None:
            raise self._broken(life, "its row in object was removed: events tell of it")
        elif latest < life.incarnation or (is_all_told and latest > life.incarnation):
            raise self._unlike(life, "object", f"incarnation is {latest}, not {life.incarnation}")
        elif latest == life.incarnation:
            self._compare_latest(life, row, is_all_told=is_all_told)
        elif life.is_gone:
            self._compare_past(life, row, is_all_told=is_all_told)

    def _compare_latest(self, life: ToldLife, row: asyncpg.Record, *, is_all_told: bool) -> None:
        attributes = from_json(row["o_base"]) | from_json(row["o_recent"])
        if None in attributes.values():
            attributes = {name: value for name, value in attributes.items() if value is not None}
        differing = life.attributes.settle(attributes) | life.columns.settle(
            from_json(row["o_columns"])
        )
        if row["o_position"] > life.position and not is_all_told:
            life.shrink()
            return
        shared = _shared(life)
        self._compare_object(life, row, shared)
        if wrong := [name for name in differing if not life.may_differ(name)]:
            names = ", ".join(sorted(wrong))
            raise self._unlike(life, "object", f"attributes differ: {names}")
        self._compare_life(life, row, shared)
        self._story.forget(life)

    def _compare_past(self, life: ToldLife, row: asyncpg.Record, *, is_all_told: bool) -> None:
        last = row["l_last_position"]
        if last is None or last <= life.position or is_all_told:
            self._compare_life(life, row, _shared(life))

    def _compare_life(self, life: ToldLife, row: asyncpg.Record, shared: tuple[Any, ...]) -> None:
        ended, found = life.ended is not None, row["l_first_position"] is not None
        if ended != found:
            change = "removed, though it has" if ended else "inserted, though it has not"
            raise self._broken(life, f"its row in life was {change} ended by its events")
        if ended:
            told = (life.position, self._gone(life, row["l_gone"]), *shared)
            if (found := _OF_LIFE(row)) != told:
                raise self._unlike(life, "life", _difference(_LIFE, found, told))

    def _compare_object(self, life: ToldLife, row: asyncpg.Record, shared: tuple[Any, ...]) -> None:
        told = (
            *(life.incarnation, life.revision, life.position, life.finalized, life.is_gone),
            *(life.substate, self._gone(life, row["o_gone_at"])),
            *shared,
        )
        if (found := _OF_OBJECT(row)) != told:
            raise self._unlike(life, "object", _difference(_OBJECT, found, told))

    def _gone(self, life: ToldLife, found: int | None) -> int | None:
        """Of what began before the chain a migration knew only roughly when it was gone."""
        return found if life.first_position <= self._chained_after else life.gone

    async def _refuse_unknown(self, what: str, expected: int, found: int) -> Never:
        row = await self._connection.fetchrow(query(f"audit_unknown_{what}"), self._site)
        if row is None:
            text = f"the table {what} has {found} rows of this site; its events tell of {expected}"
            raise Broken(Finding(self._site, 0, text))
        text = f"its row in {what} was inserted: no event tells of it"
        raise Broken(Finding(self._site, row["position"], text, f"{row['kind']} {row['id']}"))

    def _unlike(self, life: ToldLife, what: str, difference: str) -> Broken:
        return self._broken(life, f"its row in {what} is not what its events tell: {difference}")

    def _broken(self, life: ToldLife, text: str) -> Broken:
        about = f"{life}, incarnation {life.incarnation}"
        return Broken(Finding(self._site, life.position, text, about))


def _shared(life: ToldLife) -> tuple[Any, ...]:
    stands = life.standing.get
    return (
        *(life.first_position, life.began, life.ended, life.reason, life.exit_status),
        *(stands("owner"), stands("queue"), stands("project"), stands("name")),
        *(life.state, life.reached),
    )


def _difference(names: Sequence[str], found: Sequence[Any], told: Sequence[Any]) -> str:
    triples = zip(names, found, told, strict=True)
    return next(f"{name} is {was}, not {value}" for name, was, value in triples if was != value)
