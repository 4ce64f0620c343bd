"""Who asks: what nats-server itself puts into the subject of a request. Pure.

    pbscast.v1.as.<role>.<sites>.<name>.<service>

``<sites>`` are the sites that he may ask about, joined by commas (``-``: every site); of a site
with a ``+`` after it he may see everybody's jobs. ``<name>`` is a token of pbscast.subjects. Only a
person's own account imports the subjects that name him, so that they can be relied upon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple, Self

from pbscast.subjects import NONE, decode_token, encode_token

SERVICES: Final = "pbscast.v1"
AS: Final = f"{SERVICES}.as"
"""Before what nats-server says of who asks."""

SLOTS: Final = 16
"""How many consumers a person may have at a time on each stream."""

_OPEN: Final = "+"
_RIGHTS_DIGITS: Final = 8


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
        """What his subscriptions carry: ``<role>-<name>``, one token of a subject."""
        # No role has a dash in it: nobody else is called so.
        return f"{self.role}-{encode_token(self.name)}"

    @property
    def rights(self) -> str:
        """A digest of what he may see."""
        return sha256(f"{self.role}.{self._sites}".encode()).hexdigest()[:_RIGHTS_DIGITS]

    @property
    def pass_name(self) -> str:
        """``<owner>-<rights>``: what is made for him to read carries it, one token of a subject.

        His account imports nothing that carries other rights than he has: once they have changed
        nats-server lets him at nothing that was made for those before.
        """
        return f"{self.owner}-{self.rights}"

    def slot(self, number: int) -> str:
        """Return the name of one of his consumers, counted from 1."""
        return f"{self.pass_name}-{number}"

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


class Named(NamedTuple):
    """What the name of a person's consumer says."""

    owner: str
    """``Asker.owner``."""
    rights: str
    number: int


_PEOPLE: Final = "|".join(role for role in Role if role is not Role.SERVICE)
_SLOT: Final = re.compile(rf"((?:{_PEOPLE})-.+)-([0-9a-f]{{{_RIGHTS_DIGITS}}})-([0-9]+)", re.ASCII)


def named_in(consumer: str) -> Named | None:
    """Undo ``Asker.slot``; None for the name of any other consumer."""
    found = _SLOT.fullmatch(consumer)
    return None if found is None else Named(found[1], found[2], int(found[3]))
