"""What requests to the services have in common, and what their answers have."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """An unknown field is refused, so that a misspelt filter cannot widen a request."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Response(BaseModel):
    """Fields that this release does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
