r"""Events as PostgreSQL's COPY writes them: a line each, of which the canonical form is made.

COPY's text form separates columns by tabs, ends rows with newlines and writes a backslash and a
letter for each such character in a value, so the bytes of a line are, but for those, the canonical
form of the event with tabs in place of NULs.
"""

from __future__ import annotations

import re
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

UNCHAINED: Final = rb"\N"
"""The digest of an event that was logged before the chain began."""

THINNED: Final = b"#"
"""In an archive's line, before the leaf that stands for a payload which was thinned out."""

_END: Final = 65
"""A tab and the digest."""
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_MEANING: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def unescape(value: bytes) -> bytes:
    """A value as it is stored."""
    if value.count(b"\\") == 2 * value.count(b"\\\\"):
        return value.replace(b"\\\\", b"\\")
    return _ESCAPE.sub(lambda match: _MEANING.get(match[1], match[1]), value)


def prefix(site: str) -> bytes:
    """How the canonical form of each event of a site begins."""
    return f"pbscast-event-1\0{site}\0".encode()


def canonical(beginning: bytes, line: bytes) -> bytes:
    """The canonical form of a line's event that is chained; `beginning` is its site's prefix."""
    body = line[:-_END].replace(b"\t", b"\0")
    return beginning + (unescape(body) if b"\\" in body else body)


def digest_of(line: bytes) -> bytes:
    """The digest of a line in hexadecimal, or UNCHAINED."""
    return line.rpartition(b"\t")[2]


def archived_line(entry: Entry) -> bytes:
    """The line of an event that is no longer in PostgreSQL; of a thinned one without a digest."""
    if isinstance(entry, Thinned):
        payload, digest = f"#{entry.leaf.hex()}", None
    else:
        payload, digest = entry.payload, entry.digest
    texts = (
        *(str(entry.position), str(microseconds(entry.time)), str(microseconds(entry.logged))),
        *(entry.kind, entry.id, str(entry.incarnation), str(entry.revision)),
        *(entry.event, entry.provenance),
        *("" if entry.owner is None else f"={entry.owner}", payload),
    )
    end = UNCHAINED if digest is None else digest.hex().encode()
    return b"\t".join((*(_escape(text) for text in texts), end))


def thinned_leaf(line: bytes) -> bytes | None:
    """The leaf of an archived line whose payload was thinned out."""
    payload = line.split(b"\t", PAYLOAD + 1)[PAYLOAD]
    return bytes.fromhex(payload[1:].decode()) if payload.startswith(THINNED) else None


def _escape(text: str) -> bytes:
    for character, code in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n")):
        text = text.replace(character, code)
    return text.encode()
