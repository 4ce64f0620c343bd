"""What a person may see of the stream of events, in filters. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbscast.errors import AccessDeniedError, UsageError
from pbscast.events import Kind
from pbscast.subjects import ALL, ROOT, encode_token, intersection, is_covered
from pbscast_fanout.askers import Asker, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_FILTERS: Final = 256
"""Into so many those of one request may have to be divided."""

_OBJECTS: Final = "*.*.*"
"""Every object but jobs: the subjects of jobs' events are longer."""
_OTHERS: Final = tuple(kind for kind in Kind if kind is not Kind.JOB)


def check_filters(subjects: Iterable[str]) -> None:
    """Raise UsageError for the first that is no filter of events and marks."""
    for subject in subjects:
        if not _is_filter(subject) or not is_covered(subject, ALL):
            raise UsageError(f"{subject!r} is no filter of the stream, which has {ALL}")


def narrowed(asker: Asker, subjects: Sequence[str]) -> tuple[str, ...]:
    """Return filters for what he may see of what these match, those within others left out.

    A filter stays as it is if he may see everything that it matches. Raises AccessDeniedError for
    one that matches nothing that he may see, as one that names another's jobs; UsageError if there
    would be too many.
    """
    visible = _visible(asker)
    parts: dict[str, None] = {}
    for subject in subjects:
        within = _within(asker, visible, subject)
        if not within:
            raise AccessDeniedError(f"{subject}: {_told(asker, visible)}")
        parts |= dict.fromkeys(within)
        if len(parts) > MOST_FILTERS:
            raise UsageError(
                f"subjects: at the sites that {asker.name} may see these make more than"
                f" {MOST_FILTERS} filters: ask for fewer, or for one site"
            )
    return _without_covered(list(parts))


def _within(asker: Asker, visible: Sequence[str], subject: str) -> list[str]:
    if any(is_covered(subject, whole) for whole in (*visible, *_longer(asker))):
        return [subject]
    found = (intersection(subject, part) for part in visible)
    return [part for part in found if part is not None and not _is_in_vain(part)]


def _is_in_vain(part: str) -> bool:
    """Whether it is of jobs, and as short as a subject of other objects."""
    tokens = part.split(".")
    is_short = len(tokens) == len(f"{ROOT}.*.{_OBJECTS}".split(".")) and tokens[-1] != ">"
    return tokens[3] == Kind.JOB and is_short


def _visible(asker: Asker) -> list[str]:
    """Return filters for all that he may see; a user's are as long as the subjects they mean."""
    if asker.role is not Role.USER:
        return [f"{ROOT}.{site}.>" for site in _sites(asker)] if asker.sites else [ALL]
    own = f"job.{encode_token(asker.name)}.*.*.*"
    return [
        *(f"{ROOT}.{site}.{what}" for site in _sites(asker) for what in (own, _OBJECTS, "mark")),
        *(f"{ROOT}.{encode_token(site)}.job.*.*.*.*" for site in sorted(asker.open_sites)),
    ]


def _longer(asker: Asker) -> list[str]:
    """Return the same in other words, in which people write it."""
    if asker.role is not Role.USER:
        return []
    own = f"job.{encode_token(asker.name)}.>"
    return [
        *(
            f"{ROOT}.{site}.{what}"
            for site in _sites(asker)
            for what in (own, *(f"{kind}.>" for kind in _OTHERS))
        ),
        *(
            f"{ROOT}.{encode_token(site)}.{what}"
            for site in sorted(asker.open_sites)
            for what in ("job.>", "*.>", ">")
        ),
    ]


def _sites(asker: Asker) -> list[str]:
    return [encode_token(site) for site in sorted(asker.sites)] or ["*"]


def _told(asker: Asker, visible: Iterable[str]) -> str:
    return f"nothing of that is {asker.name}'s to see, who may see {', '.join(visible)}"


def _is_filter(subject: str) -> bool:
    *first, last = tokens = subject.split(".")
    return (
        all(part.isprintable() and part and " " not in part for part in tokens)
        and ">" not in "".join(first)
        and (last == ">" or ">" not in last)
        and all(part == "*" or "*" not in part for part in tokens)
    )


def _without_covered(subjects: Sequence[str]) -> tuple[str, ...]:
    """The server refuses a filter that lies within another."""
    return tuple(
        subject
        for subject in subjects
        if not any(is_covered(subject, other) for other in subjects if other != subject)
    )
