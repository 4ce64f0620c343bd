r"""Events as PostgreSQL's COPY writes them: a line each, of which the canonical form is made.

COPY's text form separates columns by tabs, ends rows with newlines and writes a backslash and a
letter for each such character in a value, so the bytes of a line up to the payload are, but for
those, the canonical form of the event with tabs in place of NULs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from pbscast_store.archive.thinning import Thinned
from pbscast_store.chain import microseconds

if TYPE_CHECKING:
    from pbscast_store.archive.thinning import Entry

POSITION: Final = 0
TIME: Final = 1
LOGGED: Final = 2
KIND: Final = 3
ID: Final = 4
INCARNATION: Final = 5
REVISION: Final = 6
EVENT: Final = 7
PROVENANCE: Final = 8
OWNER: Final = 9
PAYLOAD: Final = 10
DIGEST: Final = 11
WIDTH: Final = 12
"""Columns of a line."""

UNCHAINED: Final = rb"\N"
"""The digest of an event that was logged before the chain began."""

THINNED: Final = b"#"
"""In an archive's line, before the hash that stands for a payload which was thinned out."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_MEANING: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def unescape(value: bytes) -> bytes:
    """A value as it is stored."""
    if value.count(b"\\") == 2 * value.count(b"\\\\"):
        return value.replace(b"\\\\", b"\\")
    return _ESCAPE.sub(lambda match: _MEANING.get(match[1], match[1]), value)


def columns(line: bytes) -> list[bytes]:
    """The values of a line as they are stored."""
    values = line.split(b"\t")
    return [unescape(value) for value in values] if b"\\" in line else values


def cells(block: bytes) -> list[bytes]:
    """The values of whole lines as they are stored, WIDTH of each line after those before."""
    values = block[:-1].replace(b"\n", b"\t").split(b"\t")
    if b"\\" in block:
        return [unescape(value) if b"\\" in value else value for value in values]
    return values


def describe(values: Sequence[bytes]) -> str:
    """An event in a few words, such as `job 9.sitea, state, 2026-11-22T09:36:57Z`."""
    kind, name, event = (values[index].decode(errors="replace") for index in (KIND, ID, EVENT))
    return f"{kind} {name}, {event}, {moment(values[TIME])}"


def moment(microseconds: bytes | int) -> str:
    """Microseconds since 1970-01-01 UTC as a date and a time."""
    try:
        time = _EPOCH + timedelta(microseconds=int(microseconds))
    except OverflowError:
        return f"{int(microseconds)} µs after 1970"
    return f"{time.replace(tzinfo=None).isoformat()}Z"


def prefix(site: str) -> bytes:
    """How the canonical form of each event of a site begins."""
    return f"pbscast-event-1\0{site}\0".encode()


def canonical(beginning: bytes, header: bytes, payload: bytes) -> bytes:
    """The canonical form of an event; `beginning` is its site's prefix.

    `header` is its line up to the payload, which both are as the line has them.
    """
    header = header.replace(b"\t", b"\0")
    if b"\\" in header:
        header = unescape(header)
    if b"\\" in payload:
        payload = unescape(payload)
    return b"%b%b\0%b" % (beginning, header, sha256(payload).hexdigest().encode())


def thinned_canonical(beginning: bytes, header: bytes, payload: bytes) -> bytes:
    """As `canonical`, of an archived event whose payload was thinned out."""
    header = unescape(header.replace(b"\t", b"\0"))
    return b"%b%b\0%b" % (beginning, header, payload[len(THINNED) :])


def digest_of(line: bytes) -> bytes:
    """The digest of a line in hexadecimal, or UNCHAINED."""
    return line.rpartition(b"\t")[2]


def archived_line(entry: Entry) -> bytes:
    """The line of an event that is no longer in PostgreSQL; of a thinned one without a digest."""
    if isinstance(entry, Thinned):
        payload, digest = f"#{entry.payload_sha256.hex()}", None
    else:
        payload, digest = entry.payload, entry.digest
    texts = (
        *(str(entry.position), str(microseconds(entry.time)), str(microseconds(entry.logged))),
        *(entry.kind, entry.id, str(entry.incarnation), str(entry.revision)),
        *(entry.event, entry.provenance),
        *("" if entry.owner is None else f"={entry.owner}", payload),
    )
    end = UNCHAINED if digest is None else digest.hex().encode()
    line = "\t".join(texts)
    if "\\" in line or "\n" in line or line.count("\t") >= len(texts):
        line = "\t".join(map(_escape, texts))
    return b"%b\t%b" % (line.encode(), end)


def _escape(text: str) -> str:
    for character, code in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n")):
        text = text.replace(character, code)
    return text
