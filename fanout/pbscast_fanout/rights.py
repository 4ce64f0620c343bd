"""What a person may see of the log. Pure.

A user sees his own jobs, at some sites everybody's, and all other objects. A job is his if its last
event says so; what it was as another's, were there such a thing, he does not see. An operator and
an auditor see everything of their sites.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbscast.errors import AccessDeniedError
from pbscast.events import Kind
from pbscast.requests import StatusResponse
from pbscast_fanout.askers import Asker, Role
from pbscast_store.confines import EVERYTHING, Confined, Confines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast.selection import Selection


def confines(asker: Asker | None) -> Confines:
    """Return what the log may tell somebody; None may see everything."""
    if asker is None:
        return EVERYTHING
    sites = asker.sites or None
    if asker.role is not Role.USER:
        return Confines(sites)
    return Confines(sites, asker.name, asker.open_sites)


def confined(asker: Asker | None, asked: Selection) -> Confined:
    """Return what he may see of what he asks for.

    Who names no owner gets his own jobs, who names an id of another's job is told that there is
    none. Raises AccessDeniedError for a site that is not his to see, and for another owner unless
    one of the sites that are asked about shows everybody's jobs.
    """
    if asker is not None:
        check_sites(asker, asked.sites)
        if asked.kind is Kind.JOB:
            _check_owners(asker, asked)
    return Confined(asked, confines(asker))


def check_sites(asker: Asker, sites: Iterable[str]) -> None:
    """Raise AccessDeniedError for the first that is not his to see, be there one or not."""
    if asker.sites and (others := [site for site in sites if site not in asker.sites]):
        msg = f"sites: {others[0]}: {asker.name} may see {', '.join(sorted(asker.sites))} alone"
        raise AccessDeniedError(msg)


def _check_owners(asker: Asker, asked: Selection) -> None:
    is_open = bool(asker.open_sites.intersection(asked.sites) if asked.sites else asker.open_sites)
    if asker.role is not Role.USER or is_open:
        return
    if others := [owner for owner in asked.owners if owner != asker.name]:
        raise AccessDeniedError(f"owners: {others[0]}: {asker.name} may see his own jobs alone")


def visible_status(asker: Asker | None, status: StatusResponse) -> StatusResponse:
    """Return what he may know of how publishing goes.

    A user is told how far his sites are; which worker does it, what troubles it and whom it has
    subscribed is for those who operate it.
    """
    if asker is None:
        return status
    sites = tuple(site for site in status.sites if not asker.sites or site.site in asker.sites)
    if asker.role is Role.USER:
        plain = tuple(site.model_copy(update={"error": None}) for site in sites)
        return StatusResponse(worker="", sites=plain)
    deliveries = tuple(
        site for site in status.deliveries if not asker.sites or site.site in asker.sites
    )
    return status.model_copy(update={"sites": sites, "deliveries": deliveries})
