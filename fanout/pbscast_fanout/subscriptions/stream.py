"""The stream that keeps what is delivered until it is acknowledged, and each site's marks on it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.settings import SubscriptionSettings


class Place(NamedTuple):
    """How far a site is told: all events up to `position`.

    Of the event at `position` only to subscriptions up to `key`, in the order of their ids; to all
    if that is None.
    """

    position: int
    key: str | None = None

    def reaches(self, other: Place) -> bool:
        """Whether `other` lies not beyond this."""
        raise NotImplementedError


class DeliveryMark(BaseModel):
    """The message of a site that says how far it is told."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    site: str
    position: int = Field(ge=0)
    key: str | None = None
    time: datetime


async def ensure_deliveries(connection: Connection, settings: SubscriptionSettings) -> None:
    """Create the stream, or give the existing one our settings. Raises as `ensure_stream`."""
    raise NotImplementedError


async def read_place(connection: Connection, site: str) -> Place | None:
    """Return how far a site is told, by its last message; None if it has none.

    Raises UnavailableError, DecodeError.
    """
    raise NotImplementedError
