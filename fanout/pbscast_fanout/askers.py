"""Who asks: what nats-server itself puts into the subject of a request. Pure.

    pbscast.v1.as.<role>.<sites>.<name>.<service>

``<sites>`` are the sites that he may ask about, joined by commas (``-``: every site); of a site
with a ``+`` after it he may see everybody's jobs. ``<name>`` is a token of pbscast.subjects. Only a
person's own account imports the subjects that name him, so that they can be relied upon.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from pbscast.subjects import NONE, decode_token, encode_token

SERVICES: Final = "pbscast.v1"
AS: Final = f"{SERVICES}.as"
"""Before what nats-server says of who asks."""

SLOTS: Final = 16
"""How many consumers a person may have at a time on each stream."""

_OPEN: Final = "+"


class Role(StrEnum):
    """What somebody may see."""

    USER = "user"
    """His own jobs, and all but the jobs of others."""
    OPERATOR = "operator"
    """Everything of certain sites."""
    AUDITOR = "auditor"
    """Everything, of certain sites if any are named; changes nothing."""
    SERVICE = "service"
    """Daemons: everything, and to write it."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A person who asks."""

    role: Role
    name: str
    sites: frozenset[str] = frozenset()
    """None: every site."""
    open_sites: frozenset[str] = frozenset()
    """Where a user may see everybody's jobs."""

    @property
    def subject(self) -> str:
        """Where his requests arrive, without the service."""
        return f"{AS}.{self.role}.{self._sites}.{encode_token(self.name)}"

    @property
    def owner(self) -> str:
        """What his consumers and subscriptions carry: ``<role>-<name>``, one token of a subject."""
        # No role has a dash in it: nobody else is called so.
        return f"{self.role}-{encode_token(self.name)}"

    def slot(self, number: int) -> str:
        """Return the name of one of his consumers, counted from 1."""
        return f"{self.owner}-{number}"

    @property
    def _sites(self) -> str:
        """``-`` alone means every site; beside others with a ``+`` it means the same."""
        restricted = {NONE} if not self.sites else self.sites
        named = [site for site in sorted(restricted) if site not in self.open_sites]
        return ",".join([*named, *(f"{site}{_OPEN}" for site in sorted(self.open_sites))]) or NONE

    @classmethod
    def parse(cls, subject: str) -> Self | None:
        """Return who asks on a subject of AS; None if nats-server has not made it so."""
        tokens = subject.removeprefix(f"{AS}.").split(".")
        if len(tokens) != 4 or tokens[0] not in set(Role) - {Role.SERVICE}:
            return None
        role, listed, name, _ = tokens
        items = listed.split(",")
        is_open = frozenset(item.removesuffix(_OPEN) for item in items if item.endswith(_OPEN))
        restricted = frozenset(item.removesuffix(_OPEN) for item in items)
        try:
            decoded = decode_token(name)
        except ValueError:
            return None
        if not decoded or "" in restricted:
            return None  # without a name one would have the jobs of nobody
        sites = frozenset() if NONE in restricted else restricted
        return cls(Role(role), decoded, sites, is_open)
