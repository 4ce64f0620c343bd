"""Key-value buckets of JetStream: values by key, and to follow what becomes of them.

nats-py's own would do for reading and writing, but its watcher does not notice what it loses, and
it cannot give a rewritten key a time to live.
"""

from __future__ import annotations

import base64
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pbscast.errors import (
    ConflictError,
    FencedError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from pbscast_fanout.jetstream import ask, call
from pbscast_fanout.subscriptions.following import Anew, Stored, UpToDate, follow, read_once

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pbscast_fanout.connection import Connection

MARKER_TTL: Final = timedelta(minutes=10)
"""For so long a bucket tells that a key is gone."""

_DELETED: Final = "KV-Operation"
_EXPIRED: Final = "Nats-Marker-Reason"
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value."""

    key: str
    value: bytes
    revision: int
    """The bucket's sequence: each later write of any key has a higher one."""
    written: datetime
    """By the server's clock."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A key that has no value any more."""

    key: str
    expired: bool
    """By its time to live, not by somebody's hand."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a bucket holds, what tells that a key is gone too."""

    keys: int
    bytes: int


class Bucket:
    """A bucket; keys are subject tokens joined by dots, filters may hold ``*`` and a last ``>``.

    Everything raises UnavailableError; after it the outcome of a write is unknown. Writes go to
    the stream's leader, and so do ``get``, ``keys`` and ``extent``. In a cluster the values of
    ``load`` and ``follow`` may come from a server that lags behind it: ``load`` waits until that
    one has all that the leader had, ``follow`` so before UpToDate. What ``follow`` tells later may
    be late by any time: who decides by it writes with ``last``, or asks with ``get`` before.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        *,
        replicas: int,
        in_memory: bool = False,
    ) -> None:
        self._connection = connection
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        self._fixed: dict[str, Any] = {
            "subjects": [f"{self._prefix}>"],
            "storage": "memory" if in_memory else "file",
            "retention": "limits",
        }
        self._settings: dict[str, Any] = {
            "max_msgs_per_subject": 1,
            # At a limit a stream with replicas refuses what takes another's place, too.
            "max_msgs": -1,
            "max_bytes": -1,
            "discard": "new",
            "num_replicas": replicas,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "subject_delete_marker_ttl": _nanoseconds(MARKER_TTL),
        }

    async def ensure(self) -> None:
        """Make it, or give it our settings. Raises ConflictError if it is somebody else's."""
        try:
            current = (await call(self._connection, f"STREAM.INFO.{self._stream}"))["config"]
        except NotFoundError:
            body = {"name": self._stream, **self._fixed, **self._settings}
            await call(self._connection, f"STREAM.CREATE.{self._stream}", body)
            return
        self._check_ours(current)
        if any(current.get(key) != value for key, value in self._settings.items()):
            body = {**current, **self._settings}
            await call(self._connection, f"STREAM.UPDATE.{self._stream}", body)

    def _check_ours(self, current: dict[str, Any]) -> None:
        for key, value in self._fixed.items():
            if current.get(key) != value:
                msg = (
                    f"NATS has a stream {self._stream} that is not ours: its {key} is"
                    f" {current.get(key)!r}, not {value!r}; remove it or use another account"
                )
                raise ConflictError(msg)

    async def get(self, key: str) -> Entry | None:
        """Return a key's value, None if it has none."""
        request = {"last_by_subj": self._prefix + key}
        try:
            answer = await call(self._connection, f"STREAM.MSG.GET.{self._stream}", request)
            message = answer["message"]
        except NotFoundError:
            return None
        headers = base64.b64decode(message.get("hdrs", "")).decode()
        if f"\n{_DELETED}:" in headers or f"\n{_EXPIRED}:" in headers:
            return None
        value = base64.b64decode(message.get("data", ""))
        return Entry(key, value, message["seq"], datetime.fromisoformat(message["time"]))

    async def put(
        self, key: str, value: bytes, *, ttl: int | None = None, last: int | None = None
    ) -> int:
        """Write a value, which lives for `ttl` seconds if given, and return its revision.

        `last` is the key's revision that must not have changed meanwhile, 0: there must be none.
        Raises ConflictError if it has, or if it is gone.
        """
        headers = {} if ttl is None else {"Nats-TTL": f"{ttl}s"}
        return await self._write(key, value, headers, last)

    async def delete(self, key: str, *, last: int | None = None) -> None:
        """Take a key's value away, and tell who follows. `last` as with `put`."""
        marker = {_DELETED: "PURGE", "Nats-Rollup": "sub", "Nats-TTL": f"{MARKER_TTL.seconds}s"}
        await self._write(key, b"", marker, last)

    async def _write(
        self, key: str, value: bytes, headers: dict[str, str], last: int | None
    ) -> int:
        if last is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(last)
        try:
            answer = await ask(self._connection, self._prefix + key, value, headers)
        except FencedError as error:
            raise ConflictError(f"{key} in {self._stream} was written meanwhile") from error
        except UnsupportedError as error:
            raise self._missing() from error
        return int(answer["seq"])

    async def forget(self, keys: str) -> None:
        """Take away the values of all keys that fit the filter; nobody is told."""
        await self._call("STREAM.PURGE", {"filter": self._prefix + keys})

    async def extent(self) -> Extent:
        """Return how much there is."""
        state = (await self._call("STREAM.INFO"))["state"]
        return Extent(state["messages"], state["bytes"])

    async def keys(self, keys: str = ">") -> list[str]:
        """Return the keys that fit; some may have lost their value of late."""
        found: list[str] = []
        while True:
            request = {"subjects_filter": self._prefix + keys, "offset": len(found)}
            answer = await self._call("STREAM.INFO", request)
            page = (answer["state"].get("subjects") or {}).keys()
            found += (subject.removeprefix(self._prefix) for subject in page)
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def load(self, keys: str = ">") -> list[Entry]:
        """Return all values that there are now, of keys that fit."""
        try:
            return await self._load(keys)
        except NotFoundError as error:
            raise self._missing() from error

    async def _load(self, keys: str) -> list[Entry]:
        found: dict[str, Entry] = {}
        stored = read_once(self._connection, self._stream, self._prefix + keys)
        async with aclosing(stored) as messages:
            async for message in messages:
                if isinstance(message, UpToDate):
                    break
                change = self._change(message)
                found.pop(change.key, None)  # what comes later holds
                if isinstance(change, Entry):
                    found[change.key] = change
        return list(found.values())

    async def follow(self, keys: str = ">") -> AsyncGenerator[Entry | Gone | Anew | UpToDate, None]:
        """Tell every value that there is, UpToDate, then what happens; for ever.

        Of a key's values the last one is told for certain. Lives through anything: after a cut or
        a restart comes Anew, then every value again, then UpToDate. Makes the bucket if it is not
        there. Close it (``aclosing``).
        """
        stored = follow(self._connection, self._stream, self._prefix + keys, self.ensure)
        async with aclosing(stored) as messages:
            async for message in messages:
                yield self._change(message) if isinstance(message, Stored) else message

    def _change(self, message: Stored) -> Entry | Gone:
        key = message.subject.removeprefix(self._prefix)
        if message.headers.keys() & {_DELETED, _EXPIRED}:
            return Gone(key, expired=message.headers.get(_EXPIRED) == "MaxAge")
        written = datetime.fromtimestamp(message.time / _SECOND, UTC)
        return Entry(key, message.data, message.sequence, written)

    async def _call(self, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            return await call(self._connection, f"{verb}.{self._stream}", body)
        except NotFoundError as error:
            raise self._missing() from error

    def _missing(self) -> UnavailableError:
        """Somebody is just making it."""
        return UnavailableError(f"stream {self._stream} is not there: try again")


def _nanoseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1000
