"""What delivered events amount to, and what they should amount to.

The yardstick is what was written into the datastores, taken from the trace alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pbscast.events import Change, unescape
from pbscast_deploy.oracle import expect
from pbscast_deploy.simulator.record import commits_of

if TYPE_CHECKING:
    from pbscast.events import Event
    from pbscast_deploy.oracle import Life
    from pbscast_deploy.simulator.trace import Change as Written
    from pbscast_deploy.tally import JobView, Tally


class Name(NamedTuple):
    """An object at a site."""

    site: str
    kind: str
    id: str


@dataclass(slots=True)
class Picture:
    """The attributes of every object, folded from its events."""

    attributes: dict[Name, dict[str, bytes]] = field(default_factory=dict)

    def observe(self, event: Event) -> None:
        """Take in one delivered event."""
        if not isinstance(event, Change):
            return
        name = Name(event.site, event.kind.value, event.id)
        begins = event.revision == 1
        attributes = {} if begins else self.attributes.get(name, {})
        for attribute in event.removed:
            attributes.pop(attribute, None)
        escaped = frozenset(event.escaped)
        for attribute, value in event.changed.items():
            attributes[attribute] = unescape(value) if attribute in escaped else value.encode()
        self.attributes[name] = attributes


def find_differences(
    written: Mapping[str, Sequence[Written]], tally: Tally, picture: Picture
) -> list[str]:
    """Say, a line each, where what was delivered differs from what was written at each site.

    Compares every job's visible states in order, its end, and the last attributes of all objects.
    """
    lines: list[str] = []
    for site, changes in written.items():
        lines += _compare_lives(site, expect(commits_of(changes)).lives, tally)
        lines += _compare_attributes(site, changes, picture)
    return lines


def _compare_lives(
    site: str, expected: Mapping[tuple[str, int], Life], tally: Tally
) -> Iterator[str]:
    seen = {
        (life.id, life.incarnation): job for life, job in tally.jobs.items() if life.site == site
    }
    for name in expected.keys() | seen.keys():
        want, got = _told(expected.get(name)), _heard(seen.get(name))
        if want != got:
            yield f"{site} job {name[0]} life {name[1]}: written {want}, delivered {got}"


def _told(life: Life | None) -> tuple[object, ...]:
    if life is None:
        return ()
    ends = [] if life.end is None else [(life.end.reason, life.end.exit_status)]
    return (life.visible, ends)


def _heard(job: JobView | None) -> tuple[object, ...]:
    if job is None:
        return ()
    return (job.states, [(reason.value, status) for reason, status in job.ends])


def _compare_attributes(site: str, changes: Iterable[Written], picture: Picture) -> Iterator[str]:
    final: dict[Name, dict[str, bytes]] = defaultdict(dict)
    for change in changes:
        if change.row is not None:
            name = Name(site, change.table, site if change.table == "server" else change.key)
            final[name] = {key: _text(value) for key, value in change.row.attributes.items()}
    for name, want in final.items():
        got = picture.attributes.get(name, {})
        for attribute in sorted((want.keys() | got.keys()) - {"mtime"}):
            if want.get(attribute) != got.get(attribute):
                yield f"{site} {name.kind} {name.id}: {attribute} differs"


def _text(value: str) -> bytes:
    return value.partition(".")[2].encode("utf-8", "surrogateescape")
