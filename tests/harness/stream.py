"""A publisher of the SDK's tests: encoded events and marks on the stream, by plain nats-py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext

from pbscast import wire
from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    GapPayload,
    Kind,
    LivenessPayload,
    Payload,
    Reason,
    ResyncPayload,
)
from pbscast.requests import HISTORY, HistoryRequest
from pbscast.subjects import ALL, event_subject, mark_subject

STREAM = "PBS"
BEGIN = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Message:
    """What goes on the stream for one event."""

    subject: str
    body: bytes
    position: int


@dataclass
class SiteLog:
    """Makes the messages of one site, with the log's numbering. Times are a second apart."""

    site: str
    position: int = 0
    begin: datetime = BEGIN
    heads: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def job(self, job_id: str, event: str = "state", **payload: Any) -> Message:
        """A change of a job; ``submit`` begins a new incarnation."""
        payload = {"owner": "alice", "queue": "workq", "state": "R", **payload}
        model: Payload
        if event == "finalize":
            payload = {"reason": Reason.FINISHED, **payload, "state": "F"}
            model = FinalizePayload(**payload)
        else:
            model = ChangePayload(**payload)
        return self.event(Kind.JOB, job_id, EventName(event), model, owner=payload["owner"])

    def node(self, name: str, event: str = "modify", **payload: Any) -> Message:
        """A change of a node."""
        return self.event(Kind.NODE, name, EventName(event), ChangePayload(**payload))

    def capture(self, event: str) -> Message:
        """An event of capture itself: gap, resync, up or down."""
        model: Payload = {
            "gap": GapPayload(cause="disk full"),
            "resync": ResyncPayload(cause="gap"),
        }.get(event, LivenessPayload())
        return self.event(Kind.SITE, self.site, EventName(event), model)

    def event(
        self, kind: Kind, name: str, event: EventName, payload: Payload, owner: str | None = None
    ) -> Message:
        """The next event of the site."""
        self.position += 1
        incarnation, revision = self.heads.get((kind, name), (1, 0))
        if event in (EventName.SUBMIT, EventName.CREATE) and revision:
            incarnation, revision = incarnation + 1, 0
        self.heads[kind, name] = incarnation, revision + 1
        body = wire.encode(
            site=self.site,
            position=self.position,
            time=self.begin + timedelta(seconds=self.position),
            kind=kind,
            object_id=name,
            incarnation=incarnation,
            revision=revision + 1,
            event=event,
            provenance="journal",
            payload=wire.encode_payload(payload),
        )
        subject = event_subject(site=self.site, kind=kind, object_id=name, event=event, owner=owner)
        return Message(subject, body, self.position)

    def mark(self) -> Message:
        """The mark that closes what has been made so far."""
        mark = wire.Mark(site=self.site, position=self.position, time=datetime.now(UTC))
        return Message(mark_subject(self.site), wire.encode_mark(mark), self.position)

    def life(self, job_id: str, **payload: Any) -> Iterator[Message]:
        """Queued, running, exiting, finished, finalized: five events."""
        yield self.job(job_id, "submit", **{**payload, "state": "Q"})
        for old, new in (("Q", "R"), ("R", "E"), ("E", "F")):
            yield self.job(job_id, **{**payload, "state": new, "old_state": old})
        yield self.job(job_id, "finalize", **payload)


class Publisher:
    """Puts messages on the stream and waits until it has stored them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream()

    async def create(self, **options: Any) -> None:
        """Make the stream."""
        await self.jetstream.add_stream(
            name=STREAM, subjects=[ALL], allow_direct=True, num_replicas=1, **options
        )

    async def publish(self, *messages: Message) -> None:
        """Store messages, in order."""
        futures = [
            await self.jetstream.publish_async(message.subject, message.body)
            for message in messages
        ]
        for future in futures:
            await future

    async def consumers(self) -> list[str]:
        """The names of the stream's consumers."""
        return [info.name for info in await self.jetstream.consumers_info(STREAM)]


@asynccontextmanager
async def publishing(url: str, **options: Any) -> AsyncIterator[Publisher]:
    """A publisher with a fresh stream."""
    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    publisher = Publisher(client)
    await publisher.create(**options)
    try:
        yield publisher
    finally:
        await client.close()


async def serve_history(publisher: Publisher, messages: list[Message], page: int = 100) -> None:
    """Answer as the history service does."""

    async def answer(message: Any) -> None:
        request = HistoryRequest.model_validate_json(message.data)
        [wanted] = request.ids
        known = [item for item in messages if wire.decode(item.body).id == wanted]
        if not known:
            headers = {
                "Nats-Service-Error": f"NotFoundError: no job {wanted}",
                "Nats-Service-Error-Code": "404",
            }
            await publisher.client.publish(message.reply, b"", headers=headers)
            return
        begin = int(request.after or 0)
        texts = [item.body.decode() for item in known[begin : begin + page]]
        rest = f',"next":"{begin + page}"' if begin + page < len(known) else ""
        await publisher.client.publish(
            message.reply, f'{{"events":[{",".join(texts)}]{rest}}}'.encode()
        )

    await publisher.client.subscribe(HISTORY, cb=answer)
    await publisher.client.flush()
