"""Which objects a question is about: what history, jobs, snapshot, at and difference share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Self, TypedDict, TypeVar

from pydantic import Field, ValidationError, model_validator

from pbscast.errors import InvalidJobId, UsageError
from pbscast.events import Kind, Reason, Site
from pbscast.ids import JobId
from pbscast.messages import Request
from pbscast.states import JobState

MOST_VALUES: Final = 1000
"""How many values a criterion may list."""

Text = Annotated[str, Field(min_length=1, max_length=1024)]

_PLAINLY: Final = {
    "extra_forbidden": "there is nothing of this name to ask for",
    "greater_than_equal": "has to be at least {ge}",
    "less_than_equal": "can be at most {le}",
    "string_too_short": "is empty",
    "string_too_long": "is too long: {max_length} characters are the most",
    "string_pattern_mismatch": "is not of the form {pattern}",
    "int_parsing": "has to be a whole number",
    "too_long": "{actual_length} are too many: {max_length} at most",
    "too_short": "give at least one",
}
"""What the validator's own words are put into for people."""

_Request = TypeVar("_Request", bound="Selection")


class Selection(Request):
    """Every criterion that is given must hold; one that lists nothing is not given.

    Names, owners, projects, queues and states are about where the object stands at the moment that
    is asked about; of a difference, at one of both. In history and jobs: where it stood last, so a
    job that was routed on is not found by the queue that it left.
    """

    kind: Kind = Kind.JOB
    ids: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    """Complete ids; that of an array covers its subjobs."""
    sites: tuple[Site, ...] = Field(default=(), max_length=MOST_VALUES)
    names: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    """Job names; ``*`` stands for any text, ``?`` for one character."""
    owners: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    projects: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    queues: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    states: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    reached: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    """States of which its life has had at least one by now."""
    reasons: tuple[Reason, ...] = ()
    """How its life ended, by now."""
    exit_statuses: tuple[Annotated[int, Field(ge=-(2**31), lt=2**31)], ...] = Field(
        default=(), max_length=MOST_VALUES
    )

    @model_validator(mode="after")
    def _knows_its_states(self) -> Self:
        for state in (*self.states, *self.reached) if self.kind is Kind.JOB else ():
            if state not in set(JobState):
                raise ValueError(f"unknown state {state!r} (one of {', '.join(JobState)})")
        return self


class SelectionOptions(TypedDict, total=False):
    """As keyword arguments; one value stands for a list of one, None for all."""

    kind: str
    sites: str | Iterable[str] | None
    names: str | Iterable[str] | None
    owners: str | Iterable[str] | None
    projects: str | Iterable[str] | None
    queues: str | Iterable[str] | None
    states: str | Iterable[str] | None
    reached: str | Iterable[str] | None
    reasons: str | Iterable[str] | None
    exit_statuses: int | Iterable[int] | None


def request(
    model: type[_Request],
    ids: str | Iterable[str] | None,
    options: SelectionOptions,
    **more: object,
) -> _Request:
    """Return the request, checked; what is None is left at its default.

    Raises InvalidJobId, and UsageError for anything else that cannot be asked.
    """
    values: dict[str, Any] = {"ids": ids, **options}
    fields = {name: listed(name, value) for name, value in values.items() if value is not None}
    if "ids" in fields and fields.get("kind", Kind.JOB) == Kind.JOB:
        fields["ids"] = tuple(map(_complete, fields["ids"]))
    fields |= {name: value for name, value in more.items() if value is not None}
    try:
        return model(**fields)
    except ValidationError as error:
        raise first_fault(error) from error


def first_fault(error: ValidationError) -> UsageError:
    """Return in one line what a model refuses first."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "request"
    plain = _PLAINLY.get(first["type"])
    if plain is None:
        return UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}")
    # Of all that is asked for this alone has a unit.
    unit = ", in seconds" if where == "lease" else ""
    return UsageError(f"{where}: {plain.format(**first.get('ctx', {}))}{unit}")


def listed(name: str, value: Any) -> Any:
    """Return a criterion's values; one stands for a list of one. Raises UsageError for none."""
    if name == "kind":
        return value
    values = (value,) if isinstance(value, str | int) else tuple(value)
    if not values:
        raise UsageError(f"{name}: give at least one (leave it out to ask for all)")
    return values


def _complete(job_id: str) -> str:
    parsed = JobId.parse(job_id)
    if parsed.server is None:
        raise InvalidJobId(
            f"{job_id!r} lacks its server: give the id in full, like {parsed}.SERVER"
        )
    return str(parsed)
