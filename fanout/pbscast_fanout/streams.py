"""The stream that holds what is published, and where each site's part of it ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from pbscast import wire
from pbscast.errors import ConflictError, NotFoundError, UnsupportedError
from pbscast.events import HEADER_FIELDS, Event
from pbscast.subjects import ALL, ROOT, encode_token, mark_subject
from pbscast.wire import Mark
from pbscast_fanout import fences, metrics
from pbscast_fanout.fences import Part
from pbscast_fanout.jetstream import STREAM, call

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.fences import Stored
    from pbscast_fanout.settings import StreamSettings
    from pbscast_store.records import Record

_FIXED: Final = {"storage": "file", "retention": "limits"}
"""With its subjects what a stream of our name must have to be ours."""

MOST_CONSUMERS: Final = 100_000
"""Readers of a stream. One without a limit takes 1000 since nats-server 2.15, one with a limit can
be given another since then."""

_CHOSEN: Final = frozenset(
    {"max_age", "max_bytes", "max_msgs_per_subject", "num_replicas", "duplicate_window"}
)
"""Settings that an operator chooses, so that daemons may differ in them."""

_LIMITS: Final = ("max_age", "max_bytes", "max_msgs_per_subject")

_LIMITING: Final = (2, 15)

_log = structlog.get_logger(__name__)


class Plan(NamedTuple):
    """A stream as we want it."""

    name: str
    subjects: str
    """What it holds. Neither this nor its storage is changed under its readers."""
    settings: dict[str, Any]
    """Ours, in JetStream's words; others are left alone."""

    @property
    def fixed(self) -> dict[str, Any]:
        """What it has to have already if it exists."""
        return {"subjects": [self.subjects], **_FIXED}

    def changes(self, current: dict[str, Any]) -> dict[str, Any]:
        """Return those of our settings that the stream has not."""
        wanted = self.settings
        return {key: value for key, value in wanted.items() if current.get(key) != value}


async def ensure_stream(connection: Connection, settings: StreamSettings) -> None:
    """Create the stream of events, or give the existing one our settings. Raises as ``uphold``."""
    await uphold(connection, Plan(STREAM, ALL, limits(settings)))


async def uphold(connection: Connection, plan: Plan) -> None:
    """Create a stream, or give the existing one our settings and leave its others alone.

    Any number may do so at once. What an operator chooses is set once by each worker, when it
    starts: if another one was started later with other limits, these hold, and a warning says so;
    were both to insist, messages would go at every turn. Raises ConflictError if the stream is
    somebody else's, UnsupportedError if JetStream is off or too old, UnavailableError.
    """
    try:
        answer = await call(connection, f"STREAM.INFO.{plan.name}")
    except NotFoundError:
        answer = await _create(connection, plan)
    current = answer["config"]
    check_ours(plan, current)
    _measure(plan.name, answer)
    wanted = _to_change(connection, plan, current)
    if _limits_readers(connection) and current.get("max_consumers", -1) <= 0:
        wanted["max_consumers"] = MOST_CONSUMERS
    if wanted:
        _tell(plan.name, current, wanted)
        answer = await call(connection, f"STREAM.UPDATE.{plan.name}", {**current, **wanted})
        current = answer["config"]
    if not current.get("allow_atomic"):
        msg = f"stream {plan.name} cannot take atomic batches: all of NATS has to be 2.12 or newer"
        raise UnsupportedError(msg)


def _to_change(connection: Connection, plan: Plan, current: dict[str, Any]) -> dict[str, Any]:
    """Return the settings to write."""
    changes = plan.changes(current)
    known = connection.upheld.get(plan.name)
    others = {key: current.get(key) for key in changes if key in _CHOSEN}
    connection.upheld[plan.name] = {} if known is None else others
    if known is None or not others:
        return changes
    if others != known:
        _log.warning(
            "stream_has_other_settings",
            stream=plan.name,
            stream_has=others,
            ours={key: changes[key] for key in others},
            advice="another daemon was started with these: give all the same configuration",
        )
    return {key: value for key, value in changes.items() if key not in _CHOSEN}


def _tell(name: str, current: dict[str, Any], wanted: dict[str, Any]) -> None:
    lowered = [
        key for key in _LIMITS if key in wanted and _bound(wanted[key]) < _bound(current.get(key))
    ]
    if lowered:
        effect = f"the oldest messages beyond the lower {', '.join(lowered)} are gone, read or not"
        _log.warning("stream_updated", stream=name, changes=wanted, effect=effect)
    else:
        _log.info("stream_updated", stream=name, changes=wanted)


def _bound(limit: int | None) -> float:
    return limit if limit is not None and limit > 0 else inf


def _measure(name: str, answer: dict[str, Any]) -> None:
    metrics.STREAM_BYTES.labels(name).set(answer["state"]["bytes"])
    metrics.STREAM_MOST_BYTES.labels(name).set(max(0, answer["config"].get("max_bytes", 0)))


async def _create(connection: Connection, plan: Plan) -> dict[str, Any]:
    """Create the stream; if another worker does so at the same moment, both ask for the same."""
    body = {
        "name": plan.name,
        "max_consumers": MOST_CONSUMERS,
        **plan.fixed,
        **plan.settings,
    }
    answer = await call(connection, f"STREAM.CREATE.{plan.name}", body)
    _log.info("stream_created", stream=plan.name)
    return answer


def _limits_readers(connection: Connection) -> bool:
    version = connection.client.connected_server_version
    return (version.major, version.minor) >= _LIMITING


def limits(settings: StreamSettings) -> dict[str, Any]:
    """Return the settings in JetStream's words: durations in nanoseconds, 0 and -1 for no limit."""
    window = settings.duplicate_window
    return {
        "allow_atomic": True,
        "allow_direct": True,
        "discard": "old",
        "max_msg_size": -1,
        "max_age": nanoseconds(settings.max_age or timedelta()),
        "max_bytes": settings.max_bytes or -1,
        "num_replicas": settings.replicas,
        "duplicate_window": nanoseconds(min(window, settings.max_age or window)),
    }


def check_ours(plan: Plan, current: dict[str, Any]) -> None:
    """Raise ConflictError if the stream of our name does not hold what ours holds."""
    for key, value in plan.fixed.items():
        if current.get(key) != value:
            msg = (
                f"NATS has a stream {plan.name} that is not ours: its {key} is"
                f" {current.get(key)!r}, not {value!r}; remove it (nats stream rm {plan.name})"
                " or use another account"
            )
            raise ConflictError(msg)


def nanoseconds(duration: timedelta) -> int:
    """Return a duration as JetStream counts it."""
    return duration // timedelta(microseconds=1) * 1000


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


def part_of(site: str) -> Part:
    """Return where a site's events and marks are."""
    return Part(STREAM, f"{ROOT}.{encode_token(site)}.>", mark_subject(site))


def _events_filter(site: str) -> str:
    """Return the filter for a site's events alone: their subjects are longer than the mark's."""
    return f"{ROOT}.{encode_token(site)}.*.>"


async def read_tail(connection: Connection, site: str) -> Tail | None:
    """Return a site's last message.

    Raises UnavailableError, or DecodeError if the message is not ours.
    """
    return _tail(site, await fences.read_last(connection, STREAM, part_of(site).all))


async def read_last_event(connection: Connection, site: str) -> Tail | None:
    """Return a site's last event. Raises as ``read_tail`` does."""
    return _tail(site, await fences.read_last(connection, STREAM, _events_filter(site)))


async def read_between(connection: Connection, site: str, after: int, before: int) -> Tail | None:
    """Return a site's last message between two sequences. Raises as ``read_tail`` does."""
    return _tail(site, await fences.read_between(connection, part_of(site), after, before))


def _tail(site: str, stored: Stored | None) -> Tail | None:
    if stored is None:
        return None
    is_mark = stored.subject == mark_subject(site)
    content = wire.decode_mark(stored.body) if is_mark else wire.decode(stored.body)
    return Tail(stored.sequence, stored.body, content)
