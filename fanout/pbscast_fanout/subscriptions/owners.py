"""Whose a subscription is, and what he may see. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Self

from pydantic import BaseModel, ConfigDict

from pbscast.errors import AccessDeniedError
from pbscast_fanout.askers import Asker, Role


class Owner(BaseModel):
    """A person, with the rights that he had when he asked last about the subscription."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Role
    name: str
    sites: tuple[str, ...] = ()
    """None: every site."""
    open_sites: tuple[str, ...] = ()
    """Where a user may see everybody's jobs."""

    @classmethod
    def of(cls, asker: Asker) -> Self:
        """Return him as he asks."""
        return cls(
            role=asker.role,
            name=asker.name,
            sites=tuple(sorted(asker.sites)),
            open_sites=tuple(sorted(asker.open_sites)),
        )

    @property
    def token(self) -> str:
        """``Asker.owner``: what tells him from anybody else."""
        return self._asker.owner

    @cached_property
    def pass_name(self) -> str:
        """``Asker.pass_name``: what is for him with these rights."""
        return self._asker.pass_name

    def slot(self, number: int) -> str:
        """``Asker.slot``."""
        return self._asker.slot(number)

    @cached_property
    def _asker(self) -> Asker:
        return Asker(self.role, self.name, frozenset(self.sites), frozenset(self.open_sites))

    def covers(self, site: str) -> bool:
        """Whether he may see anything of a site."""
        return not self.sites or site in self.sites

    def only_at(self, site: str) -> str | None:
        """Return whose jobs alone he may see at a site that he may see; None: everybody's."""
        sees_all = self.role is not Role.USER or site in self.open_sites
        return None if sees_all else self.name

    def check_sites(self, sites: Iterable[str]) -> None:
        """Raise AccessDeniedError for the first that he may not see, be there one or not."""
        if others := [site for site in sites if not self.covers(site)]:
            msg = f"sites: {others[0]}: {self.name} may see {', '.join(self.sites)} alone"
            raise AccessDeniedError(msg)

    def is_within(self, other: Owner, sites: Collection[str]) -> bool:
        """Whether who has the rights of `other` may see all that he may, at these sites.

        `sites` is what a subscription is confined to; empty: to none.
        """
        if sites:
            mine = [site for site in sites if self.covers(site)]
            return all(
                other.covers(site) and other.only_at(site) in (None, self.only_at(site))
                for site in mine
            )
        named = set(self.sites)
        is_covered = not other.sites or (bool(named) and named.issubset(other.sites))
        return is_covered and set(self.open_sites) <= set(other.open_sites)
