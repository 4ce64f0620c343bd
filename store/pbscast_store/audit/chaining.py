"""Following the hash chain of a site, event by event: pure."""

from __future__ import annotations

from binascii import hexlify, unhexlify
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Never

from pbscast_store.audit.findings import Broken, Finding
from pbscast_store.audit.lines import (
    THINNED,
    UNCHAINED,
    canonical,
    columns,
    describe,
    digest_of,
    moment,
    prefix,
    thinned_canonical,
)
from pbscast_store.chain import GENESIS

if TYPE_CHECKING:
    from pbscast_store.audit.checkpoints import Checkpoint


@dataclass(frozen=True, slots=True)
class SiteEnd:
    """Where the log of a site ends, as the site's row says."""

    site: str
    position: int
    logged: int
    """Microseconds since 1970-01-01 UTC."""
    digest: bytes
    chained_after: int


class Chaining:
    """Takes all events of a site in the order of their positions.

    Every event has to be the next one, logged no earlier than the one before, and its digest the
    one that follows from it and from the digest before; the last has to be the one that the site's
    row names, and those that were signed have to be what was signed. What does not raises Broken.
    """

    def __init__(self, head: SiteEnd, checkpoints: Iterable[Checkpoint]) -> None:
        self.position = 0
        self._head = head
        self._chained_after = head.chained_after
        self._prefix = prefix(head.site)
        self._digest = GENESIS
        self._logged = b""
        self._unwritten: dict[int, bytes] = {}
        """The digests of thinned events, which no line says."""
        self._signed = sorted(checkpoints, key=lambda signed: signed.position, reverse=True)

    @property
    def digest(self) -> bytes:
        """The chain's after the last event."""
        return self._digest

    def take(self, lines: Sequence[bytes], thinned: Collection[int] = ()) -> None:
        """The next events. If one fails, `position` is that of the last before it.

        Of those at the positions `thinned` the hash of the payload was kept. That an event is one
        of them its line alone cannot say: somebody may have written it so.
        """
        first = self.position + 1
        try:
            self._follow(lines, thinned)
        finally:
            self._compare_signed(first, lines)

    def _follow(self, lines: Sequence[bytes], thinned: Collection[int]) -> None:
        # One turn of this loop for each event of the log: written for speed.
        beginning, limit, chained_after = self._prefix, self._head.position, self._chained_after
        last, digest, now = self.position, self._digest, self._logged
        try:
            for line in lines:
                header, payload, stored = line.rsplit(b"\t", 2)
                position, _, logged, _ = header.split(b"\t", 3)
                number = last + 1
                if position != b"%d" % number or number > limit:
                    self._misplaced(number, int(position), line)
                if logged != now:
                    self._pass_time(number, now, logged, line)
                    now = logged
                is_thinned = number in thinned
                if is_thinned is not payload.startswith(THINNED):
                    self._marked(number, line)
                if number > chained_after:
                    form = thinned_canonical if is_thinned else canonical
                    leaf = sha256(form(beginning, header, payload)).digest()
                    digest = sha256(digest + leaf).digest()
                    if is_thinned:
                        self._unwritten[number] = digest
                    elif stored != hexlify(digest):
                        self._forged(number, digest, lines)
                elif stored != UNCHAINED:
                    self._chained_early(number, line)
                last = number
        finally:
            self.position, self._logged = last, now
            self._digest = digest

    def finish(self) -> None:
        """All events were taken."""
        head = self._head
        if self.position < head.position:
            text = f"the log is cut: events from here to {head.position} are missing"
            raise self._broken(self.position + 1, text)
        if self._digest != head.digest:
            text = (
                "the site's row does not fit the last event: one of them was changed (digest"
                f" {head.digest.hex()} in the row, {self._digest.hex()} by the events)"
            )
            raise self._broken(head.position, text)
        if self._logged and int(self._logged) != head.logged:
            text = (
                f"the site's row was changed: the last event was logged at {moment(self._logged)},"
                f" not at {moment(head.logged)}"
            )
            raise self._broken(head.position, text)
        if self._signed:
            made = self._signed[-1]
            text = f"the log is cut: checkpoint {made.number} was signed up to {made.position}"
            raise self._broken(self.position + 1, text)

    def _misplaced(self, expected: int, found: int, line: bytes) -> Never:
        if found == expected:
            text = f"the row was inserted: by the site's row the log ends at {self._head.position}"
            raise self._broken(found, text, line)
        if found < expected:
            text = "a row was inserted: there are two with this position"
            raise self._broken(found, text, line)
        following = describe(columns(line))
        raise self._broken(expected, f"the row is missing; the next is {found} ({following})")

    def _pass_time(self, position: int, before: bytes, now: bytes, line: bytes) -> None:
        if before and int(now) < int(before):
            text = (
                f"the row was changed after it was logged, or swapped: logged at {moment(now)},"
                f" earlier than the one before it at {moment(before)}"
            )
            raise self._broken(position, text, line)

    def _marked(self, position: int, line: bytes) -> Never:
        text = (
            "the row was changed after it was logged: its payload is the mark of a thinned event,"
            " and this event was not thinned"
        )
        raise self._broken(position, text, line)

    def _chained_early(self, position: int, line: bytes) -> Never:
        text = (
            "the row was changed after it was logged, or the site's row: it has a digest, though"
            f" the chain began only after {self._chained_after}"
        )
        raise self._broken(position, text, line)

    def _forged(self, position: int, digest: bytes, lines: Sequence[bytes]) -> Never:
        index = position - self.position - 1
        line, before = lines[index], self._digest
        if index and (stored := digest_of(lines[index - 1])) != UNCHAINED:
            before = unhexlify(stored)
        if (other := self._rightful(before, lines[index:])) is not None:
            text = f"the row that was logged here is at {other} now: rows were swapped or inserted"
            raise self._broken(position, text, line)
        text = (
            f"the row was changed after it was logged (digest {digest_of(line).decode()} in the"
            f" row, {digest.hex()} by what it says)"
        )
        raise self._broken(position, text, line)

    def _rightful(self, before: bytes, lines: Sequence[bytes]) -> int | None:
        """Where the row is that belongs in the place of the first of these lines, if among them."""
        place, _ = lines[0].split(b"\t", 1)
        for line in lines[1:]:
            position, rest = line.split(b"\t", 1)
            header, payload, stored = b"\t".join((place, rest)).rsplit(b"\t", 2)
            leaf = sha256(canonical(self._prefix, header, payload)).digest()
            if hexlify(sha256(before + leaf).digest()) in {stored, digest_of(lines[0])}:
                return int(position)
        return None

    def _compare_signed(self, first: int, lines: Sequence[bytes]) -> None:
        while self._signed and self._signed[-1].position <= self.position:
            signed = self._signed.pop()
            if signed.position < first:
                text = f"checkpoint {signed.number} was changed: its position is {signed.position}"
                raise self._broken(1, text)
            self._compare(signed, lines[signed.position - first])
        self._unwritten.clear()

    def _compare(self, signed: Checkpoint, line: bytes) -> None:
        digest = digest_of(line)
        stored = GENESIS if digest == UNCHAINED else unhexlify(digest)
        stored = self._unwritten.get(signed.position, stored)
        logged = int(line.split(b"\t", 3)[2])
        began = self._head.chained_after
        for what, wanted, found in (
            ("digest", signed.digest.hex(), stored.hex()),
            ("time of logging", moment(signed.logged), moment(logged)),
            ("beginning of the chain", str(signed.chained_after), str(began)),
        ):
            if wanted != found:
                text = (
                    f"the log up to here is not the one that checkpoint {signed.number} was signed"
                    f" for: it was rewritten, or the checkpoint was ({what} {found} in the log,"
                    f" {wanted} in the checkpoint)"
                )
                raise self._broken(signed.position, text, line)

    def _broken(self, position: int, text: str, line: bytes | None = None) -> Broken:
        about = "" if line is None else describe(columns(line))
        return Broken(Finding(self._head.site, position, text, about))
