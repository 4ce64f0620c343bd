"""Everything that is sent or asked, by the subject it travels on."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from pbscast import deliveries, openings, requests, subscriptions, wire
from pbscast.events import AnyEvent


class CloudEvent(BaseModel):
    """An event as it travels and as the log gives it: CloudEvents 1.0, structured mode, JSON."""

    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"]
    id: str
    """``<site>:<position>``: the same for every copy of the event."""
    source: str
    """``/pbs/<site>``, percent-encoded."""
    type: str
    """``pbscast.<kind>.<event>.v1``."""
    subject: str
    """The PBS id of the object."""
    time: datetime
    """When the change was made, by the clock of the PBS datastore."""
    datacontenttype: Literal["application/json"]
    data: AnyEvent


class Endpoint(NamedTuple):
    """A service: one request, one answer."""

    subject: str
    request: type[BaseModel]
    response: type[BaseModel]


class Channel(NamedTuple):
    """What is published on subjects of one form; ``{…}`` stands for one token."""

    name: str
    subject: str
    description: str
    messages: tuple[type[BaseModel], ...]


ENDPOINTS: Final = (
    Endpoint(requests.HISTORY, requests.HistoryRequest, requests.HistoryResponse),
    Endpoint(requests.JOBS, requests.JobsRequest, requests.JobsResponse),
    Endpoint(requests.SNAPSHOT, requests.SnapshotRequest, requests.SnapshotResponse),
    Endpoint(requests.AT, requests.AtRequest, requests.AtResponse),
    Endpoint(requests.DIFFERENCE, requests.DifferenceRequest, requests.DifferenceResponse),
    Endpoint(requests.EVENT, requests.EventRequest, requests.EventResponse),
    Endpoint(requests.STATUS, requests.StatusRequest, requests.StatusResponse),
    Endpoint(openings.OPEN, openings.OpenRequest, openings.OpenResponse),
    Endpoint(openings.CLOSE, openings.CloseRequest, openings.CloseResponse),
    Endpoint(openings.STREAM, openings.StreamRequest, openings.StreamResponse),
    Endpoint(
        subscriptions.SUBSCRIBE, subscriptions.SubscribeRequest, subscriptions.SubscribeResponse
    ),
    Endpoint(subscriptions.RENEW, subscriptions.RenewRequest, subscriptions.RenewResponse),
    Endpoint(subscriptions.MODIFY, subscriptions.ModifyRequest, subscriptions.ModifyResponse),
    Endpoint(
        subscriptions.UNSUBSCRIBE,
        subscriptions.UnsubscribeRequest,
        subscriptions.UnsubscribeResponse,
    ),
    Endpoint(subscriptions.LIST, subscriptions.ListRequest, subscriptions.ListResponse),
)

_OF_A_SITE: Final = (
    deliveries.BeginMessage,
    deliveries.ObjectMessage,
    deliveries.BoundaryMessage,
    deliveries.EventMessage,
)

CHANNELS: Final = (
    Channel(
        "jobEvents",
        "pbs.v1.{site}.job.{owner}.{id}.{index}.{event}",
        "Every event of every job. The id of a subjob is its array's; index is the subjob's or -.",
        (CloudEvent,),
    ),
    Channel(
        "objectEvents",
        "pbs.v1.{site}.{kind}.{id}.{event}",
        "Every event of queues, nodes, reservations, server and schedulers, and (kind site) of"
        " capture itself.",
        (CloudEvent,),
    ),
    Channel(
        "marks",
        "pbs.v1.{site}.mark",
        "How far a site is on the stream: everything up to the position has been published.",
        (wire.Mark,),
    ),
    Channel(
        "deliveries",
        deliveries.KEPT + ".{site}.{subscription}",
        f"What a registered subscription is sent, kept on the stream {deliveries.DELIVERIES} until"
        " it is acknowledged. Read it with the pull consumer that the answer to subscribe names.",
        _OF_A_SITE,
    ),
    Channel(
        "completions",
        deliveries.complete_subject("{subscription}"),
        "The last message of a registered subscription, over the same consumer.",
        (deliveries.CompleteMessage,),
    ),
    Channel(
        "liveDeliveries",
        deliveries.LIVE + ".{site}.{subscription}",
        "What a subscription with delivery at most once is sent; nothing keeps it.",
        _OF_A_SITE,
    ),
    Channel(
        "liveCompletions",
        deliveries.complete_subject("{subscription}", deliveries.LIVE),
        "The last message of such a subscription.",
        (deliveries.CompleteMessage,),
    ),
)

PARAMETERS: Final = {
    "site": "Short name of a PBS server and its datastore.",
    "owner": "The user of Job_Owner, without the host; - where there is none.",
    "id": "The PBS id, its dots written as slashes.",
    "index": "Index of a subjob; - for every other job.",
    "kind": "queue, node, resv, server, scheduler or site.",
    "event": "The event's name.",
    "subscription": "Id of a registered subscription.",
}
