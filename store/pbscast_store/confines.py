"""What one who asks may see, whatever he asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from pbscast.events import Kind
from pbscast.selection import Selection


@dataclass(frozen=True, slots=True)
class Confines:
    """Certain sites, and of jobs one owner's; what lies beyond is as if the log did not have it."""

    sites: frozenset[str] | None = None
    """None: every site."""
    owner: str | None = None
    """None: everybody's jobs."""
    open_sites: frozenset[str] = frozenset()
    """Where everybody's jobs may be seen."""

    def has_site(self, site: str) -> bool:
        """Whether anything of the site may be seen."""
        return self.sites is None or site in self.sites

    def owner_of(self, kind: str, site: str) -> str | None:
        """Return whose objects alone may be seen; None: everybody's."""
        return None if kind != Kind.JOB or site in self.open_sites else self.owner

    def includes(self, site: str, kind: str, owner: str | None) -> bool:
        """Whether an object of this owner may be seen."""
        return self.has_site(site) and self.owner_of(kind, site) in (None, owner)


EVERYTHING: Final = Confines()


class Confined(NamedTuple):
    """A selection of what may be seen."""

    selection: Selection
    confines: Confines
