"""Auditing a log: site by site, in one snapshot, streaming in bounded memory.

Of each site two things go on at once over the same lines of COPY: its chain is followed, from the
first event to the one that the site's row names, and its story is told, folded and compared with
the projection. Appends go on meanwhile; they are not in the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbscast.errors import DecodeError, NotFoundError, UnsupportedError
from pbscast_store.archive.archives import Archives
from pbscast_store.archive.thinning import Thinned
from pbscast_store.audit import checkpoints
from pbscast_store.audit.chaining import Chaining, SiteEnd
from pbscast_store.audit.checkpoints import check_signature, examine
from pbscast_store.audit.findings import Broken, Finding, Tale, Verdict
from pbscast_store.audit.lines import archived_line
from pbscast_store.audit.narrator import PATIENCE, Narrator, narrating
from pbscast_store.connection import check_schema, check_server, close, connect, place
from pbscast_store.errors import translated
from pbscast_store.statements import query

if TYPE_CHECKING:
    import asyncpg

    from pbscast_store.archive.catalog import ArchiveRow
    from pbscast_store.archive.thinning import Entry
    from pbscast_store.audit.checkpoints import Checkpoint
    from pbscast_store.audit.keys import PublicKeys

Progress = Callable[[str, int, int], None]
"""Called with a site, how many of its events were read, and how many there are."""

_PAGE: Final = 50_000
"""Positions of one COPY."""
_BLOCK: Final = 512 * 1024
"""Bytes that are handed on at once."""


async def verify(
    dsn: str,
    *,
    site: str | None = None,
    keys: PublicKeys | None = None,
    exported: Collection[Checkpoint] = (),
    archives: Path | None = None,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Audits all sites, or one, and goes on to the next where one fails; by name.

    Signatures are checked if `keys` are given. `exported` checkpoints count like those in the log,
    and have to be there. `archives` is the directory of what is no longer in PostgreSQL. Raises
    NotFoundError for a site that neither the log nor a checkpoint knows; ConfigError where archives
    are needed and no directory is given; and what `Log.open` raises.
    """
    connection = await connect(dsn, command_timeout=PATIENCE)
    try:
        with translated(place(dsn)):
            check_server(connection, dsn)
            await check_schema(connection, dsn)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(query("audit_lock"))
                await connection.execute(query("plan_for_order"))
                reader = Archives(connection, archives)
                audit = Audit(dsn, connection, keys, exported, reader, progress or _say_nothing)
                return await audit.run(site)
    finally:
        await close(connection)


class Audit:
    """The audit of a log, in a transaction that sees it as it was when it began."""

    def __init__(
        self,
        dsn: str,
        connection: asyncpg.Connection,
        keys: PublicKeys | None,
        exported: Collection[Checkpoint],
        archives: Archives,
        progress: Progress,
    ) -> None:
        self._dsn = dsn
        self._connection = connection
        self._archives = archives
        self._keys = keys
        self._exported = exported
        self._progress = progress

    async def run(self, only: str | None) -> list[Verdict]:
        snapshot = await self._connection.fetchval(query("export_snapshot"))
        await self._archives.look()
        rows = {row["site"]: row for row in await self._connection.fetch(query("audit_sites"))}
        names = rows.keys() | {signed.site for signed in self._exported}
        if only is not None and only not in names:
            raise NotFoundError(f"{place(self._dsn)}: no such site: {only}")
        verdicts = []
        for name in sorted(names if only is None else [only]):
            row = rows.get(name)
            head = SiteEnd(**row) if row is not None and row["position"] is not None else None
            verdicts.append(await self._audit(name, head, snapshot))
        return verdicts

    async def _audit(self, site: str, head: SiteEnd | None, snapshot: str) -> Verdict:
        exported = [made for made in self._exported if made.site == site]
        stored = await checkpoints.stored(self._connection, site)
        findings = [*examine(site, stored, exported)]
        signed: list[Checkpoint] = []
        for made in dict.fromkeys([*stored, *exported]):
            wrong = None if self._keys is None else check_signature(made, self._keys)
            if wrong is None:
                signed.append(made)
            else:
                findings.append(wrong)
        tale = Tale()
        if head is None:
            text = "the site's row is missing, though the log or a checkpoint tells of the site"
            findings.append(Finding(site, 0, text))
        else:
            chaining = Chaining(head, signed)
            async with narrating(self._dsn, snapshot, head) as narrator:
                broken = await self._follow(head, chaining, narrator)
                tale = await narrator.finish(is_complete=broken is None)
            findings += [found for found in (broken, tale.finding) if found is not None]
        return _verdict(site, head, tale, findings, signed, is_checked=self._keys is not None)

    async def _follow(
        self, head: SiteEnd, chaining: Chaining, narrator: Narrator
    ) -> Finding | None:
        """What is wrong with the chain; nothing either if the narrator has had enough before."""
        sink = _Sink(chaining, narrator)
        try:
            for row in self._archives.rows(head.site):
                if sink.is_going_on:
                    await self._read_archive(row, head, sink)
            await self._read_table(head, sink)
            if sink.is_going_on:
                chaining.finish()
                await self._refuse_stray(head)
        except Broken as broken:
            return broken.finding
        return sink.finding

    async def _read_archive(self, row: ArchiveRow, head: SiteEnd, sink: _Sink) -> None:
        before = sink.digest
        try:
            async with aclosing(self._archives.scan(row)) as pages:
                async for page in pages:
                    await sink.write_archived(page)
                    if not sink.is_going_on:
                        return
                    self._progress(head.site, page[-1].position, head.position)
        except (DecodeError, NotFoundError, UnsupportedError) as error:
            # All of its events may be right, and what is said of them not.
            is_read = sink.position == row.last_position
            position = row.first_position if is_read else sink.position + 1
            text = f"the archive from here on cannot be read as it was written: {error}"
            raise Broken(Finding(head.site, position, text)) from error
        if (before, sink.digest) != (row.previous, row.digest):
            text = (
                "the row of the archive from here on was changed: the chain goes from"
                f" {before.hex()} to {sink.digest.hex()} in it, by the row from"
                f" {row.previous.hex()} to {row.digest.hex()}"
            )
            raise Broken(Finding(head.site, row.first_position, text))

    async def _read_table(self, head: SiteEnd, sink: _Sink) -> None:
        for after in range(self._archives.last(head.site), head.position, _PAGE):
            # A page that falls short is the last: a head may claim more than could ever be read.
            if not sink.is_going_on or sink.position < after:
                return
            until = min(after + _PAGE, head.position)
            await self._connection.copy_from_query(
                query("audit_events"), head.site, after, until, output=sink.write
            )
            await sink.end_page()
            self._progress(head.site, until, head.position)

    async def _refuse_stray(self, head: SiteEnd) -> None:
        after = self._archives.last(head.site)
        stray = await self._connection.fetchval(
            query("audit_stray"), head.site, after, head.position
        )
        if stray is not None:
            text = (
                "the row was inserted, or the site's row changed: by that and the archives, the"
                f" table holds events {after + 1} to {head.position}"
            )
            raise Broken(Finding(head.site, stray, text))


class _Sink:
    """Cuts what COPY sends into blocks of whole lines, follows the chain and hands them on."""

    def __init__(self, chaining: Chaining, narrator: Narrator) -> None:
        self.finding: Finding | None = None
        self.is_going_on = True
        self._chaining = chaining
        self._narrator = narrator
        self._data = bytearray()

    @property
    def position(self) -> int:
        """Of the last event that is as it should be."""
        return self._chaining.position

    @property
    def digest(self) -> bytes:
        """The chain's after that event."""
        return self._chaining.digest

    async def write(self, data: bytes) -> None:
        if self.is_going_on:
            self._data += data
            if len(self._data) >= _BLOCK:
                await self._pass_on(self._data.rfind(b"\n") + 1)

    async def end_page(self) -> None:
        """All lines of the page were written."""
        if self.is_going_on and self._data:
            await self._pass_on(len(self._data))

    async def write_archived(self, page: Sequence[Entry]) -> None:
        lines = [archived_line(entry) for entry in page]
        thinned = {entry.position for entry in page if isinstance(entry, Thinned)}
        await self._check(lines, b"".join(line + b"\n" for line in lines), thinned)

    async def _pass_on(self, end: int) -> None:
        block = bytes(self._data[:end])
        del self._data[:end]
        await self._check(block[:-1].split(b"\n"), block)

    async def _check(
        self, lines: Sequence[bytes], block: bytes, thinned: Collection[int] = ()
    ) -> None:
        before = self.position
        try:
            self._chaining.take(lines, thinned)
        except Broken as broken:
            # The story may break earlier: the projection is compared with what is behind.
            self.finding, self.is_going_on = broken.finding, False
            block = b"".join(line + b"\n" for line in lines[: self.position - before])
        if block and not await self._narrator.take(block):
            self.is_going_on = False


def _verdict(
    site: str,
    head: SiteEnd | None,
    tale: Tale,
    findings: Sequence[Finding],
    signed: Sequence[Checkpoint],
    *,
    is_checked: bool,
) -> Verdict:
    return Verdict(
        site=site,
        position=head.position if head else 0,
        chained_after=head.chained_after if head else 0,
        checkpoints=len(signed),
        signed_up_to=max((made.position for made in signed), default=0),
        signed=max((made.signed for made in signed), default=0),
        is_signature_checked=is_checked,
        tale=tale,
        finding=min(findings, key=lambda finding: finding.position, default=None),
    )


def _say_nothing(_site: str, _done: int, _total: int) -> None:
    pass
