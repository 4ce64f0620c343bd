"""What is answered to readers of the stream: their consumers are made, and given back, here.

A person has a few names for consumers, his slots, from which his account lets him pull, and nobody
else. Who has no such account, in a NATS open to all, is given a name of its own.
"""

from __future__ import annotations

import random
import re
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from pbscast.errors import AccessDeniedError, ConflictError, NotFoundError
from pbscast.openings import (
    INACTIVE_THRESHOLD,
    Begin,
    CloseRequest,
    CloseResponse,
    OpenRequest,
    OpenResponse,
    StreamRequest,
    StreamResponse,
)
from pbscast_fanout.askers import SLOTS, Asker
from pbscast_fanout.filters import check_filters, narrowed
from pbscast_fanout.jetstream import STREAM, call, call_briefly, delete_consumer
from pbscast_fanout.places import find_place
from pbscast_fanout.rights import check_sites

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast_fanout.connection import Connection

_NANO: Final = 1_000_000_000
_OPENING: Final = "pbscast_opening"
"""In a consumer's metadata: no two are made alike."""
_ANYBODYS: Final = "reader-"
_NAME: Final = re.compile(rf"{_ANYBODYS}[0-9a-f]{{32}}", re.ASCII)


class Openings:
    """Every method raises what JetStream refuses, UsageError, and UnavailableError.

    The asker is None where everybody may see everything.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def open(self, request: OpenRequest, asker: Asker | None) -> bytes:
        """Make a consumer of what the asker may see of what he asks for.

        Raises AccessDeniedError for a filter that holds nothing of that, ConflictError if all his
        slots are taken.
        """
        check_filters(request.subjects)
        subjects = narrowed(asker, request.subjects) if asker else request.subjects
        info = await self._make(asker, _config(request, subjects))
        after = info["delivered"]["stream_seq"]
        is_new = request.begin is Begin.NEW
        answer = OpenResponse(
            consumer=info["name"],
            subjects=subjects,
            created=info["created"],
            stored=info["num_pending"],
            after=after,
            stored_after=await self._stored(after) if is_new else None,
            opening=_opening(info),
        )
        return answer.model_dump_json().encode()

    async def close(self, request: CloseRequest, asker: Asker | None) -> bytes:
        """Give one back. Raises AccessDeniedError for one that is not the asker's."""
        if (
            request.consumer not in _slots(asker)
            if asker
            else not _NAME.fullmatch(request.consumer)
        ):
            raise AccessDeniedError(f"consumer {request.consumer!r} is not one that was opened")
        with suppress(NotFoundError):
            if await self._is_meant(request):
                await delete_consumer(self._connection, STREAM, request.consumer)
        return CloseResponse().model_dump_json().encode()

    async def stream(self, request: StreamRequest, asker: Asker | None) -> bytes:
        """Tell what the stream is, and where a position of a site lies on it.

        Raises NotFoundError if it is not there yet, AccessDeniedError for a site that the asker may
        not see.
        """
        if asker is not None and request.site is not None:
            check_sites(asker, (request.site,))
        info = await call(self._connection, f"STREAM.INFO.{STREAM}")
        answer = StreamResponse(created=info["created"], first=info["state"]["first_seq"])
        if request.site is not None and request.after is not None:
            place = await find_place(self._connection, request.site, request.after)
            found = {"sequence": place.sequence, "next": place.first}
            answer = answer.model_copy(update=found)
        if request.at is not None:
            answer = answer.model_copy(update={"stored": await self._stored(request.at)})
        return answer.model_dump_json().encode()

    async def _stored(self, sequence: int) -> str | None:
        """Return when the message there was stored, by the stream's leader; None: there is none."""
        if sequence == 0:
            return None
        try:
            answer = await call(self._connection, f"STREAM.MSG.GET.{STREAM}", {"seq": sequence})
        except NotFoundError:
            return None
        return str(answer["message"]["time"])

    async def _is_meant(self, request: CloseRequest) -> bool:
        """Whether it is not another's by now. Of one whose server has died nobody has anything."""
        if request.opening is None:
            return True
        verb = f"CONSUMER.INFO.{STREAM}.{request.consumer}"
        info = await call_briefly(self._connection, verb)
        return info is None or _opening(info) == request.opening

    async def _make(self, asker: Asker | None, config: dict[str, Any]) -> dict[str, Any]:
        """Make it under the first name that is free.

        JetStream itself says which one is: two workers cannot make the same, as no two requests are
        alike.
        """
        for name in _names(asker):
            request = {
                "stream_name": STREAM,
                "action": "create",
                "config": {**config, "name": name, "metadata": {_OPENING: token_hex(16)}},
            }
            try:
                return await call(self._connection, f"CONSUMER.CREATE.{STREAM}.{name}", request)
            except ConflictError:
                continue
        assert asker is not None  # noqa: S101 - chance does not repeat itself
        raise ConflictError(
            f"{asker.name} has {SLOTS} readers of the stream already, which is the most: close one"
            f" (one that is gone is forgotten after {INACTIVE_THRESHOLD:g} s)"
        )


def _names(asker: Asker | None) -> Iterable[str]:
    if asker is None:
        return [f"{_ANYBODYS}{token_hex(16)}"]
    slots = _slots(asker)
    random.shuffle(slots)  # or who has many would ask for each of them again
    return slots


def _slots(asker: Asker) -> list[str]:
    return [asker.slot(number) for number in range(1, SLOTS + 1)]


def _opening(info: dict[str, Any]) -> str:
    return str(info["config"].get("metadata", {}).get(_OPENING))


def _config(request: OpenRequest, subjects: tuple[str, ...]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": int(INACTIVE_THRESHOLD * _NANO),
        "filter_subjects": list(subjects),
        "deliver_policy": request.begin.value,
    }
    if request.sequence is not None:
        config["opt_start_seq"] = request.sequence
    if request.time is not None:
        config["opt_start_time"] = request.time.isoformat()
    return config
