"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pbscast.errors import UsageError
from pbscast.events import Kind, Reason
from pbscast.ids import JobId
from pbscast.settings import CREDS_VARIABLE, SERVERS_VARIABLE
from pbscast.states import JobState
from pbscast.times import EXPECTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Unpack

    from pbscast.selection import SelectionOptions

Many = list[str] | None

Servers = Annotated[
    str | None,
    typer.Option(help=f"NATS servers, comma-separated; default ${SERVERS_VARIABLE}, this machine."),
]
Creds = Annotated[
    str | None, typer.Option(help=f"NATS credentials file; default ${CREDS_VARIABLE}.")
]
JobIds = Annotated[Many, typer.Argument(metavar="JOBID", help="19.sitea, 6[].sitea …")]
Site = Annotated[Many, typer.Option(help="Only this site; may be repeated, as all filters.")]
Owner = Annotated[Many, typer.Option(help="Only this user's jobs.")]
Queue = Annotated[Many, typer.Option(help="Only jobs of this queue.")]
Project = Annotated[Many, typer.Option(help="Only jobs of this project.")]
Name = Annotated[Many, typer.Option(help="Only jobs of this name; * and ? stand for any.")]
Reached = Annotated[
    list[JobState] | None,
    typer.Option(help="Only jobs that have been in this state.", case_sensitive=False),
]
Stands = Annotated[
    list[JobState] | None,
    typer.Option(help="Only jobs that stand in this state.", case_sensitive=False),
]
HowEnded = Annotated[list[Reason] | None, typer.Option(help="Only jobs that ended like this.")]
ExitStatus = Annotated[list[int] | None, typer.Option(help="Only jobs with this exit status.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help=f"From then on: {EXPECTED}.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Until then.")]
OfKind = Annotated[
    Kind, typer.Option("--kind", help="Other objects than jobs; each by its name, not a JOBID.")
]
After = Annotated[
    str | None,
    typer.Option(metavar="SITE:N,…", help="Go on after these events: what --limit said."),
]
Kinds = Annotated[
    list[Kind] | None, typer.Option("--kind", help="These objects: job, node, queue, site …")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
AsMessages = Annotated[bool, typer.Option("--json", help="One message a line, as on NATS.")]
Html = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw it on a page; needs no network to view.")
]


def selected(**filters: Unpack[SelectionOptions]) -> SelectionOptions:
    """Return the filters that were given: an option that was not is None, or lists nothing."""
    return cast("SelectionOptions", {name: value for name, value in filters.items() if value})


def of_kind(kind: Kind) -> SelectionOptions:
    """Return the filter for a kind, none for jobs."""
    return {} if kind is Kind.JOB else {"kind": kind}


def parse_ids(words: Iterable[str], kind: Kind) -> list[str]:
    """Check ids of jobs; names of other objects stay as they are. Raises InvalidJobId."""
    return [str(JobId.parse(word)) if kind is Kind.JOB else word for word in words]


def parse_position(text: str, option: str = "--position") -> tuple[str, int]:
    """Split ``SITE:N``. Raises UsageError."""
    site, _, number = text.rpartition(":")
    if not site or not number.isdecimal() or int(number) < 1:
        raise UsageError(f"{option}: {text!r} is not SITE:N, like sitea:1200")
    return site, int(number)


def parse_positions(text: str, option: str) -> dict[str, int]:
    """Undo ``name_positions``. Raises UsageError."""
    return dict(parse_position(item, option) for item in text.split(","))


def name_positions(positions: Mapping[str, int]) -> str:
    """Return positions of sites as an option takes them: ``sitea:1200,siteb:7``."""
    return ",".join(f"{site}:{position}" for site, position in sorted(positions.items()))
