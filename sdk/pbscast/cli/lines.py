"""Events as lines on stdout, each written through at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pbscast.render import render
from pbscast.terminal.paper import Paper

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pbscast.events import AnyEvent


class EventLines:
    """For people, or as JSON to the byte as it is on NATS."""

    def __init__(self, *, as_json: bool, with_date: bool = False) -> None:
        self._as_json = as_json
        self._with_date = with_date
        self._paper = Paper()

    def put(self, event: AnyEvent, body: bytes) -> None:
        """Print one event."""
        if self._as_json:
            put_bytes(body)
        else:
            arrow = self._paper.glyphs.arrow
            self._paper.put(render(event, with_date=self._with_date, arrow=arrow))


def put_object(item: BaseModel) -> None:
    """Print one JSON object; what is not known is left out."""
    put_bytes(item.model_dump_json(exclude_none=True).encode())


def put_bytes(body: bytes) -> None:
    """Print one line of JSON."""
    sys.stdout.buffer.write(body + b"\n")
    sys.stdout.buffer.flush()
