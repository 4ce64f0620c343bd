"""The form of an event on the wire: one CloudEvents 1.0 JSON object (structured mode).

    {"specversion":"1.0","id":"sitea:7","source":"/pbs/sitea","type":"pbscast.job.state.v1","subject":"19.sitea",
    "time":"2026-11-22T09:36:57.263000Z","datacontenttype":"application/json","data":{…}}

``data`` holds the event's header and, after it, its payload; fields at their default are left out.
The log keeps a payload's text as it was first written, so every copy of an event is the same to the
byte.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from pbscast.errors import DecodeError
from pbscast.events import HEADER_FIELDS, AnyEvent, Change, Finalize, Gap, Liveness, Resync

if TYPE_CHECKING:
    from pbscast.events import Event, Payload


class Mark(BaseModel):
    """The message that ends each published batch of a site."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    site: str
    position: int
    """The last position that is published, 0 before the first."""
    time: datetime
    digest: str | None = None
    """SHA-256 of the event at that position as the log has it, in hexadecimal: tells a log that was
    restored."""


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"]
    data: AnyEvent


def encode_payload(payload: Payload) -> str:
    """Return a payload as canonical JSON text: declared order, defaults left out."""
    # What model_dump_json calls: its own part takes as long again where payloads are small.
    return payload.__pydantic_serializer__.to_json(payload, exclude_defaults=True).decode()


def format_time(time: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def encode(  # noqa: PLR0913 - the header's fields, by name
    *,
    site: str,
    position: int,
    time: datetime,
    kind: str,
    object_id: str,
    incarnation: int,
    revision: int,
    event: str,
    provenance: str,
    payload: str,
) -> bytes:
    """Return the CloudEvents JSON of an event whose payload text comes from encode_payload."""
    stamp, name, json_id = format_time(time), _json(site), _json(object_id)
    rest = payload[1:] if payload == "{}" else f",{payload[1:]}"
    return (
        f'{{"specversion":"1.0","id":{_json(f"{site}:{position}")},'
        f'"source":"{_source(site)}",'
        f'"type":"pbscast.{kind}.{event}.v1","subject":{json_id},"time":"{stamp}",'
        f'"datacontenttype":"application/json",'
        f'"data":{{"site":{name},"position":{position},"time":"{stamp}",'
        f'"kind":"{kind}","id":{json_id},"incarnation":{incarnation},"revision":{revision},'
        f'"event":"{event}","provenance":"{provenance}"{rest}}}'
    ).encode()


# json.dumps would make an encoder at every call.
_json = json.JSONEncoder(ensure_ascii=False).encode


@lru_cache(1024)
def _source(site: str) -> str:
    return f"/pbs/{quote(site, safe='')}"


def encode_event(event: Event) -> bytes:
    """Return the CloudEvents JSON of an event; decode gives the event back."""
    payload = event.model_dump_json(exclude=set(HEADER_FIELDS), exclude_defaults=True)
    return encode(
        site=event.site,
        position=event.position,
        time=event.time,
        kind=event.kind,
        object_id=event.id,
        incarnation=event.incarnation,
        revision=event.revision,
        event=event.event,
        provenance=event.provenance,
        payload=payload,
    )


def decode(message: bytes | str) -> Change | Finalize | Gap | Resync | Liveness:
    """Return the event of a CloudEvents JSON object; fields this release does not know are ignored.

    Raises DecodeError if it is no such object.
    """
    try:
        return _Envelope.model_validate_json(message).data
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        msg = f"not an event of pbscast: {where}: {first['msg']}"
        raise DecodeError(msg) from error


def encode_mark(mark: Mark) -> bytes:
    """Return a mark's JSON."""
    return mark.model_dump_json().encode()


def decode_mark(message: bytes) -> Mark:
    """Undo encode_mark. Raises DecodeError."""
    try:
        return Mark.model_validate_json(message)
    except ValidationError as error:
        msg = "not a mark of pbscast: the stream holds a foreign message on a mark subject"
        raise DecodeError(msg) from error
