"""To which site of the log a job was moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final

from pbscast.events import Kind, Site
from pbscast.selection import Selection

if TYPE_CHECKING:
    from pbscast_store.log import Log

_FRESH_SECONDS: Final = 60.0
_MISS_SECONDS: Final = 5.0
"""After so long a server that was not known is looked for once more: its site may be new."""


class Destinations:
    """Which PBS server is which site, by the servers that the log has seen.

    A site is called by its name, and by its server's `server_host`; a host with its domain or
    without, where that is one site's alone.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._sites: dict[str, Site] = {}
        self._read_at = -_FRESH_SECONDS

    async def site_of(self, destination: str | None) -> Site | None:
        """Return the site of a `destination` (`queue@server`) of a finalize; None: not in the log.

        Raises UnavailableError.
        """
        server = server_in(destination)
        if server is None:
            return None
        age = monotonic() - self._read_at
        site = None if age >= _FRESH_SECONDS else find(server, self._sites)
        if site is None and age >= _MISS_SECONDS:
            await self._read()
            site = find(server, self._sites)
        return site

    async def _read(self) -> None:
        rows = (await self._log.snapshot(Selection(kind=Kind.SERVER), attributes=True)).rows
        names = {Site(row.name): [row.name] for row in await self._log.sites()}
        for _, server in rows:
            names[server.site].append((server.attributes or {}).get("server_host", ""))
        self._sites = called(names.items())
        self._read_at = monotonic()


def server_in(destination: str | None) -> str | None:
    """Return the server of `queue@server:port`, in small letters; None if it names none."""
    host = (destination or "").rpartition("@")[2] if "@" in (destination or "") else ""
    return host.partition(":")[0].strip().rstrip(".").lower() or None


def called(sites: Iterable[tuple[Site, Iterable[str]]]) -> dict[str, Site]:
    """Return sites by what `find` looks for; what two are called is left out."""
    whole: dict[str, set[Site]] = defaultdict(set)
    short: dict[str, set[Site]] = defaultdict(set)
    for site, names in sites:
        for name in filter(None, map(str.lower, names)):
            whole[name].add(site)
            # What has no domain goes by any.
            short[_short(name) if "." in name else f"{name}."].add(site)
    found = {**short, **whole}
    return {name: next(iter(those)) for name, those in found.items() if len(those) == 1}


def find(server: str, sites: Mapping[str, Site]) -> Site | None:
    """Return the site of a server by its name, with its domain or without."""
    site = sites.get(server)
    return sites.get(f"{_short(server)}.") if site is None and "." in server else site


def _short(host: str) -> str:
    return host.partition(".")[0]
