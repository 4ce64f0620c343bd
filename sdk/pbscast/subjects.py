"""NATS subjects of events and marks, and the filters a reader may use.

Grammar::

    pbs.v1.<site>.job.<owner>.<id>.<index>.<event>
    pbs.v1.<site>.<kind>.<id>.<event>
    pbs.v1.<site>.mark

``<id>`` is the PBS id with ``.`` written ``/`` (``6[]/sitea``); for a subjob it is its array's id
and ``<index>`` is the subjob's index, else ``-``. Bytes that may not stand in a token, and the
characters that carry a meaning here, are percent-encoded as UTF-8. Encoding is reversible:
different names never share a token. A token of more than 255 characters is cut to 200 and ends in
``%%`` and a digest: filters find it still, but it cannot be decoded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from pbscast.ids import split_subjob

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = "pbs.v1"
ALL: Final = f"{ROOT}.>"
NONE: Final = "-"
"""The token for an absent owner or subjob index; a name that is just ``-`` is written ``%2D``."""

LONGEST_TOKEN: Final = 255
"""NATS servers close the connection of a client that sends a subject of some 4000 characters."""

_CUT: Final = 200

# Printable ASCII less what NATS reserves (. * > and space) and what means something here (% /).
_ILLEGAL: Final = re.compile(r"[^!-~]|[.*>%/]")


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


@lru_cache(4096)
def encode_token(text: str) -> str:
    """Return text as one legal subject token; the empty text becomes ``-``."""
    if not text:
        return NONE
    if text == NONE:
        return "%2D"
    return _bounded(_ILLEGAL.sub(_escape, text))


def decode_token(token: str) -> str:
    """Return the text that ``encode_token`` made this token of. Raises ValueError if of none."""
    text = "" if token == NONE else unquote(token, errors="surrogatepass")
    if encode_token(text) != token:
        raise ValueError(f"{token!r} is no encoded text")
    return text


def _bounded(token: str) -> str:
    if len(token) <= LONGEST_TOKEN:
        return token
    return f"{token[:_CUT]}%%{sha256(token.encode()).hexdigest()[:32]}"


@lru_cache(4096)
def encode_id(object_id: str) -> str:
    """Return a PBS id as one token, its dots written as slashes; the empty id becomes ``-``."""
    if object_id == NONE:
        return "%2D"
    token = "/".join(_ILLEGAL.sub(_escape, part) for part in object_id.split("."))
    return _bounded(token) or NONE


def event_subject(
    *, site: str, kind: str, object_id: str, event: str, owner: str | None = None
) -> str:
    """Return the subject an event is published on; owner counts for jobs alone."""
    if kind != "job":
        return f"{ROOT}.{encode_token(site)}.{kind}.{encode_id(object_id)}.{event}"
    parent, index = split_subjob(object_id)
    head = f"{ROOT}.{encode_token(site)}.job.{encode_token(owner or '')}"
    return f"{head}.{encode_id(parent)}.{index or NONE}.{event}"


def mark_subject(site: str) -> str:
    """Return the fixed subject of a site's marks."""
    return f"{ROOT}.{encode_token(site)}.mark"


def job_filter(
    *,
    site: str | None = None,
    owner: str | None = None,
    job_id: str | None = None,
    event: str = "*",
) -> str:
    """Return the filter for the jobs that match all that is given.

    An array's id covers its subjobs, a subjob's id itself alone.
    """
    parent, index = ("*", "*") if job_id is None else _id_tokens(job_id)
    site_token = "*" if site is None else encode_token(site)
    owner_token = "*" if owner is None else encode_token(owner)
    return f"{ROOT}.{site_token}.job.{owner_token}.{parent}.{index}.{event}"


def _id_tokens(job_id: str) -> tuple[str, str]:
    parent, index = split_subjob(job_id)
    if index is None and "[]" in parent:
        index = "*"
    return encode_id(parent), index or NONE


def object_filter(
    kind: str, *, site: str | None = None, object_id: str | None = None, event: str = "*"
) -> str:
    """Return the filter for objects of a kind other than ``job``."""
    site_token = "*" if site is None else encode_token(site)
    id_token = "*" if object_id is None else encode_id(object_id)
    return f"{ROOT}.{site_token}.{kind}.{id_token}.{event}"


def covers(filters: Iterable[str], subject: str) -> bool:
    """Whether any of the filters matches (``*`` one token, a last ``>`` one or more)."""
    tokens = subject.split(".")
    return any(_matches(item.split("."), tokens) for item in filters)


def is_covered(inner: str, outer: str) -> bool:
    """Whether one filter matches every subject that another matches."""
    if inner.endswith(">") and not outer.endswith(">"):
        return False
    return inner == outer or _matches(outer.split("."), inner.split("."))


def intersection(one: str, other: str) -> str | None:
    """Return the filter for what both filters match; None if that is nothing."""
    ours, theirs = one.split("."), other.split(".")
    tokens: list[str] = []
    for number, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our == ">":
            return ".".join([*tokens, *theirs[number:]])
        if their == ">":
            return ".".join([*tokens, *ours[number:]])
        if our != their and "*" not in (our, their):
            return None
        tokens.append(their if our == "*" else our)
    return ".".join(tokens) if len(ours) == len(theirs) else None


def _matches(pattern: list[str], tokens: list[str]) -> bool:
    if pattern[-1] == ">":
        pattern = pattern[:-1]
        if len(tokens) <= len(pattern):
            return False
    elif len(tokens) != len(pattern):
        return False
    return all(want in ("*", token) for want, token in zip(pattern, tokens, strict=False))
