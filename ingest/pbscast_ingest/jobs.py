"""How a job stands, read from its attributes and the column ``ji_svrflags``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from pbscast.states import visible_state
from pbscast_ingest.codes import number, small_number
from pbscast_ingest.rows import SHORT, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping


class Standing(TypedDict):
    """The fields of ObjectPayload."""

    owner: str | None
    queue: str | None
    project: str | None
    name: str | None
    state: str | None
    substate: int | None


def describe(attributes: Mapping[str, str]) -> Standing:
    """Return where a job stands; what its row does not hold is None."""
    owner = attributes.get("Job_Owner")
    if owner is not None:
        owner = owner.partition("@")[0]
        owner = owner if len(owner) <= SHORT else shortened(owner)
    return {
        "owner": owner,
        "queue": attributes.get("queue"),
        "project": attributes.get("project"),
        "name": attributes.get("Job_Name"),
        "state": letter_of(attributes),
        "substate": substate_of(attributes),
    }


def letter_of(attributes: Mapping[str, str]) -> str | None:
    """Return the letter that ``qstat`` shows, ``S`` and ``U`` included.

    The columns ``ji_state`` and ``ji_substate`` go stale and are never asked.
    """
    letter = attributes.get("job_state")
    if letter != "R":
        return letter
    return visible_state(letter, number(attributes.get("ji_svrflags")) or 0)


def substate_of(attributes: Mapping[str, str]) -> int | None:
    """Return the substate, None where there is none or it is no number."""
    return small_number(attributes.get("substate"))
