"""Following the hash chain of a site, event by event: pure."""

from __future__ import annotations

from binascii import hexlify, unhexlify
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Never

from pbscast_store.audit.findings import Broken, Finding
from pbscast_store.audit.lines import UNCHAINED, canonical, digest_of, prefix, thinned_canonical
from pbscast_store.chain import GENESIS

if TYPE_CHECKING:
    from pbscast_store.audit.checkpoints import Checkpoint

_UNCHAINED_END: Final = b"\t" + UNCHAINED


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

    def take(self, lines: Sequence[bytes], *, are_archived: bool = False) -> None:
        """The next events. If one fails, `position` is that of the last before it.

        Archived ones may be thinned: then the hash of the payload was kept.
        """
        first = self.position + 1
        try:
            self._follow(lines, are_archived=are_archived)
        finally:
            self._compare_signed(first, lines)

    def _follow(self, lines: Sequence[bytes], *, are_archived: bool) -> None:
        # One turn of this loop for each event of the log: written for speed.
        beginning, limit, chained_after = self._prefix, self._head.position, self._chained_after
        last, digest, now = self.position, self._digest, self._logged
        try:
            for line in lines:
                position, _, logged, _ = line.split(b"\t", 3)
                number = last + 1
                if position != b"%d" % number or number > limit:
                    self._misplaced(number, int(position))
                if logged != now:
                    self._pass_time(number, now, logged)
                    now = logged
                if number > chained_after:
                    thinned = thinned_canonical(beginning, line) if are_archived else None
                    leaf = sha256(thinned or canonical(beginning, line)).digest()
                    digest = sha256(digest + leaf).digest()
                    if thinned:
                        self._unwritten[number] = digest
                    elif not line.endswith(b"\t" + hexlify(digest)):
                        self._forged(number, digest, line)
                elif not line.endswith(_UNCHAINED_END):
                    raise self._broken(number, "digest", "none before the chain began", "one")
                last = number
        finally:
            self.position, self._logged = last, now
            self._digest = digest

    def finish(self) -> None:
        """All events were taken."""
        head = self._head
        if self.position < head.position:
            raise self._broken(self.position + 1, "event", "one", "none: the log is cut")
        if self._digest != head.digest:
            raise self._broken(head.position, "head", self._digest.hex(), head.digest.hex())
        if self._logged and int(self._logged) != head.logged:
            found = str(head.logged)
            raise self._broken(head.position, "head's time", self._logged.decode(), found)
        if self._signed:
            lost = self._signed[-1].position
            raise self._broken(self.position + 1, f"events up to {lost}, as signed", "some", "none")

    def _misplaced(self, expected: int, found: int) -> Never:
        if found == expected:
            raise self._broken(expected, "event", "none after the head of the log", "one")
        if found < expected:
            raise self._broken(found, "position", "one event", "another with the same position")
        raise self._broken(expected, "position", f"event {expected}", f"event {found} next")

    def _pass_time(self, position: int, before: bytes, now: bytes) -> None:
        if before and int(now) < int(before):
            expected = f"{before.decode()} or later"
            raise self._broken(position, "time of logging", expected, now.decode())

    def _forged(self, position: int, digest: bytes, line: bytes) -> Never:
        raise self._broken(position, "digest", digest.hex(), digest_of(line).decode())

    def _compare_signed(self, first: int, lines: Sequence[bytes]) -> None:
        while self._signed and self._signed[-1].position <= self.position:
            signed = self._signed.pop()
            if signed.position < first:
                raise self._broken(1, "checkpoint", "a position", str(signed.position))
            self._compare(signed, lines[signed.position - first])
        self._unwritten.clear()

    def _compare(self, signed: Checkpoint, line: bytes) -> None:
        digest = digest_of(line)
        stored = GENESIS if digest == UNCHAINED else unhexlify(digest)
        stored = self._unwritten.get(signed.position, stored)
        logged = int(line.split(b"\t", 3)[2])
        for what, wanted, found in (
            ("digest", signed.digest.hex(), stored.hex()),
            ("time of logging", str(signed.logged), str(logged)),
            ("beginning of the chain", str(signed.chained_after), str(self._head.chained_after)),
        ):
            if wanted != found:
                text = f"{what} of the log up to here, as checkpoint {signed.number} was signed"
                raise self._broken(signed.position, text, wanted, found)

    def _broken(self, position: int, what: str, expected: str, found: str) -> Broken:
        return Broken(Finding(self._head.site, position, what, expected, found))
