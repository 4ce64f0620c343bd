"""Which subjects the server has refused us: it says so on its own, a call just gets no answer."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from nats.aio.client import DEFAULT_INBOX_PREFIX

_VIOLATION: Final = "permissions violation"
_SUBJECT: Final = re.compile(r'violation for \w+ to "([^"]*)"')
_MOST: Final = 1000
_INBOX: Final = DEFAULT_INBOX_PREFIX.decode().lower()


class Denials:
    """Remembers the last of them."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()
        self.count = 0
        """How many there were."""

    def note(self, text: str) -> None:
        """Take an error of the server, which the driver has in lower case."""
        if _VIOLATION not in text.lower():
            return
        self.count += 1
        found = _SUBJECT.search(text.lower())
        subject = found[1] if found else ""
        self._latest[subject] = self.count
        self._latest.move_to_end(subject)
        if len(self._latest) > _MOST:
            self._latest.popitem(last=False)

    def has(self, subject: str, since: int) -> bool:
        """Whether it is among those after the first so many, or an inbox for its answers is.

        Of inboxes all are allowed or none.
        """
        return any(
            number > since and (not name or name == subject.lower() or name.startswith(_INBOX))
            for name, number in self._latest.items()
        )
