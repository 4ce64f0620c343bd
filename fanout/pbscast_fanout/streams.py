"""The stream that holds what is published, and where each site's part of it ends."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from pbscast import wire
from pbscast.errors import ConflictError, NotFoundError, UnsupportedError
from pbscast.events import HEADER_FIELDS, Event
from pbscast.subjects import ALL, ROOT, encode_token, mark_subject
from pbscast.wire import Mark
from pbscast_fanout.jetstream import STREAM, call

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.settings import StreamSettings
    from pbscast_store.records import Record

_FIXED: Final = {"subjects": [ALL], "storage": "file", "retention": "limits"}
"""What a stream of our name must have to be ours; none of it can be changed under its readers."""

_log = structlog.get_logger(__name__)


async def ensure_stream(connection: Connection, settings: StreamSettings) -> None:
    """Create the stream, or give the existing one our settings and leave its others alone.

    Any number may do so at once. Raises ConflictError if the stream is somebody else's,
    UnsupportedError if JetStream is off or too old, UnavailableError.
    """
    try:
        current = (await call(connection, f"STREAM.INFO.{STREAM}"))["config"]
    except NotFoundError:
        current = await _create(connection, settings)
    check_ours(current)
    wanted = changes(current, settings)
    if wanted:
        _log.info("stream_updated", stream=STREAM, changes=wanted)
        answer = await call(connection, f"STREAM.UPDATE.{STREAM}", {**current, **wanted})
        current = answer["config"]
    if not current.get("allow_atomic"):
        msg = f"stream {STREAM} cannot take atomic batches: all of NATS has to be 2.12 or newer"
        raise UnsupportedError(msg)


async def _create(connection: Connection, settings: StreamSettings) -> dict[str, Any]:
    """Create the stream; if another worker does so at the same moment, both ask for the same."""
    body = {"name": STREAM, **_FIXED, **limits(settings)}
    config: dict[str, Any] = (await call(connection, f"STREAM.CREATE.{STREAM}", body))["config"]
    _log.info("stream_created", stream=STREAM)
    return config


def limits(settings: StreamSettings) -> dict[str, Any]:
    """Return the settings in JetStream's words: durations in nanoseconds, 0 and -1 for no limit."""
    window = settings.duplicate_window
    return {
        "allow_atomic": True,
        "allow_direct": True,
        "discard": "old",
        "max_msg_size": -1,
        "max_age": _nanoseconds(settings.max_age or timedelta()),
        "max_bytes": settings.max_bytes or -1,
        "num_replicas": settings.replicas,
        "duplicate_window": _nanoseconds(min(window, settings.max_age or window)),
    }


def changes(current: dict[str, Any], settings: StreamSettings) -> dict[str, Any]:
    """Return those of our settings that the stream has not."""
    return {key: value for key, value in limits(settings).items() if current.get(key) != value}


def check_ours(current: dict[str, Any]) -> None:
    """Raise ConflictError if the stream of our name does not hold what ours holds."""
    for key, value in _FIXED.items():
        if current.get(key) != value:
            msg = (
                f"NATS has a stream {STREAM} that is not ours: its {key} is {current.get(key)!r},"
                f" not {value!r}; remove it (nats stream rm {STREAM}) or use another account"
            )
            raise ConflictError(msg)


def _nanoseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1000


class Fence(NamedTuple):
    """What the stream has to hold last for a message to be taken."""

    subject: str
    """Where: on the site's mark subject, or with a wildcard anything of the site."""
    sequence: int
    """0 if nothing."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A message of a site on the stream, mostly its last: a mark or an event."""

    sequence: int
    body: bytes
    content: Mark | Event

    @property
    def position(self) -> int:
        """The site's last position on the stream."""
        return self.content.position

    def agrees(self, record: Record) -> bool:
        """Whether the log's event at this position is the one that was published."""
        if isinstance(self.content, Mark):
            return self.content.digest in (None, digest_of(record))
        return self.body == record.encode() or _is_cut(self.content, record.decode())


def _is_cut(published: Event, logged: Event) -> bool:
    header = set(HEADER_FIELDS)
    same = published.model_dump(include=header) == logged.model_dump(include=header)
    return same and bool(published.model_dump(include={"omitted"})["omitted"])


def digest_of(record: Record) -> str:
    """Return SHA-256 of the event as the log has it."""
    return sha256(record.encode()).hexdigest()


def site_filter(site: str) -> str:
    """Return the filter for a site's events and marks."""
    return f"{ROOT}.{encode_token(site)}.>"


def _events_filter(site: str) -> str:
    """Return the filter for a site's events alone: their subjects are longer than the mark's."""
    return f"{ROOT}.{encode_token(site)}.*.>"


async def read_tail(connection: Connection, site: str) -> Tail | None:
    """Return a site's last message, from the stream's leader: a follower may be behind.

    Raises UnavailableError, or DecodeError if the message is not ours.
    """
    return await _read(connection, site, {"last_by_subj": site_filter(site)})


async def read_last_event(connection: Connection, site: str) -> Tail | None:
    """Return a site's last event. Raises as ``read_tail`` does."""
    return await _read(connection, site, {"last_by_subj": _events_filter(site)})


async def read_between(connection: Connection, site: str, after: int, before: int) -> Tail | None:
    """Return a site's last message between two sequences. Raises as ``read_tail`` does."""
    last = None
    while after + 1 < before:
        request = {"seq": after + 1, "next_by_subj": site_filter(site)}
        found = await _read(connection, site, request)
        if found is None or found.sequence >= before:
            break
        last, after = found, found.sequence
    return last


async def _read(connection: Connection, site: str, request: dict[str, Any]) -> Tail | None:
    try:
        answer = await call(connection, f"STREAM.MSG.GET.{STREAM}", request)
    except NotFoundError:
        return None
    message = answer["message"]
    body = base64.b64decode(message["data"])
    is_mark = message["subject"] == mark_subject(site)
    content = wire.decode_mark(body) if is_mark else wire.decode(body)
    return Tail(message["seq"], body, content)
