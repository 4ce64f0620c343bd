"""The steps of a life as people read them: what belongs together stands together. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from pbscast.events import Change, EventName, Finalize, ObjectPayload
from pbscast.timeline import Alteration, is_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pbscast.timeline import Entry

_LONGEST: Final = 72
"""Letters of a value that are shown."""
_WORDS: Final = frozenset({"comment"})
"""What PBS writes for people: shown whole, because what matters stands at its end."""

_AT_SUBMISSION: Final = (
    *("Resource_List.select", "Resource_List.walltime", "array_indices_submitted"),
    *("Hold_Types", "Execution_Time", "depend", "Account_Name", "Priority"),
)
_AT_SUBMISSION_DULL: Final = frozenset({("Hold_Types", "n"), ("Priority", "0")})
BOOKKEEPING: Final = frozenset(
    {
        *("mtime", "job_state", "substate", "queue", "hashname", "run_version", "job_kill_delay"),
        *("queue_rank", "queue_type", "jobdir", "Stageout_status", "history_timestamp", "server"),
        *("schedselect", "session_id", "exec_host2", "exec_vnode", "accrue_type", "sampletime"),
        *("ctime", "qtime", "etime", "stime", "obittime", "array", "array_state_count"),
    }
)
"""PBS's own bookkeeping, and what the state, the queue or the time already says."""
_TIMES: Final = frozenset({"Execution_Time", "stime", "eligible_until"})
_HOLDERS: Final = {"u": "user", "o": "operator", "s": "system", "p": "bad password"}
_USAGE: Final = "resources_used."


@dataclass(slots=True)
class Step:
    """One event, or several of a kind one after another."""

    event: EventName
    begin: datetime
    end: datetime
    states: list[str] = field(default_factory=list)
    """The visible states from before to after it, one if it stayed."""
    substates: list[int] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)
    """From which queue to which, of a move."""
    count: int = 1
    alterations: list[Alteration] = field(default_factory=list)
    """Those worth reading."""
    others: list[str] = field(default_factory=list)
    """The names of the rest that changed, PBS's own bookkeeping last."""
    finalize: Finalize | None = None


def steps_of(entries: Iterable[Entry]) -> list[Step]:
    """Return the steps, oldest first.

    Consecutive reports of usage become one, and so do consecutive substates of one state, or
    modifications, in which nothing worth reading changed.
    """
    steps: list[Step] = []
    queue: str | None = None
    for entry in entries:
        step = _step(entry, queue)
        if steps and _belong_together(steps[-1], step):
            _merge(steps[-1], step)
        else:
            steps.append(step)
        if isinstance(entry.event, ObjectPayload):
            queue = entry.event.queue or queue
    return steps


def _step(entry: Entry, queue: str | None) -> Step:
    event = entry.event
    step = Step(event.event, event.time, event.time)
    if isinstance(event, ObjectPayload):
        old = event.old_state if isinstance(event, Change) else None
        step.states = [state for state in dict.fromkeys((old, event.state)) if state is not None]
    if isinstance(event, Change):
        if event.event in (EventName.SUBMIT, EventName.STATE) and event.substate is not None:
            step.substates = [event.substate]
        if event.event is EventName.MOVE:
            step.queues = [name for name in (queue, event.queue) if name is not None]
        step.alterations = [item for item in entry.alterations if _is_notable(entry, item)]
        rest = [item.name for item in entry.alterations if item not in step.alterations]
        step.others = sorted(rest, key=BOOKKEEPING.__contains__)
    if isinstance(event, Finalize):
        step.finalize = event
    return step


def _is_notable(entry: Entry, item: Alteration) -> bool:
    if entry.event.event is EventName.SUBMIT:
        return item.name in _AT_SUBMISSION and (item.name, item.new) not in _AT_SUBMISSION_DULL
    if item.name.startswith(_USAGE):
        return is_usage(entry)  # else the finalize says it
    if item.name == "run_count" and item.old is None:
        return False
    return item.name not in BOOKKEEPING and item.old != item.new


def clocks(times: Sequence[datetime]) -> list[str]:
    """Return local times of day for a column.

    With milliseconds where neighbours share a second, with the date where it is not one for all.
    """
    local = [time.astimezone() for time in times]
    seconds = [f"{time:%Y-%m-%d %H:%M:%S}" for time in local]
    fine = any(one == other for one, other in pairwise(seconds))
    date = any(one[:10] != other[:10] for one, other in pairwise(seconds))
    return [
        f"{text if date else text[11:]}{f'.{time.microsecond // 1000:03}' if fine else ''}"
        for text, time in zip(seconds, local, strict=True)
    ]


def _belong_together(one: Step, other: Step) -> bool:
    if one.event is not other.event:
        return False
    if one.event is EventName.USAGE:
        return True
    if one.event is EventName.MODIFY:
        return one.states == other.states and not one.alterations and not other.alterations
    return (
        one.event is EventName.STATE
        and other.states in ([], one.states[-1:])
        and not other.alterations
    )


def _merge(one: Step, other: Step) -> None:
    one.end = max(one.end, other.end)
    one.count += other.count
    others = dict.fromkeys((*one.others, *other.others))
    one.substates += [number for number in other.substates if number not in one.substates[-1:]]
    merged = {item.name: item for item in one.alterations}
    for item in other.alterations:
        first = merged.get(item.name, item)
        merged[item.name] = item._replace(old=first.old)
    one.alterations = list(merged.values())
    one.others = sorted(
        (name for name in others if name not in merged), key=BOOKKEEPING.__contains__
    )


def describe(item: Alteration, arrow: str, more: str) -> str:
    """Return an attribute's change in words: ``Priority 0 → 10``, ``held by user``."""
    if item.name == "Hold_Types":
        return _describe_hold(item)
    name = item.name.removeprefix("Resource_List.").removeprefix(_USAGE)
    values = (_value(item.name, value) for value in (item.old, item.new))
    old, new = (value if name in _WORDS else shorten(value, more) for value in values)
    if item.new is None:
        return f"{name} {old} removed" if item.old is not None else f"{name} removed"
    return f"{name} {new}" if item.old is None else f"{name} {old} {arrow} {new}"


def _describe_hold(item: Alteration) -> str:
    before, after = (_holders(value) for value in (item.old, item.new))
    set_, gone = after - before, before - after
    parts = [f"held by {', '.join(sorted(set_))}"] if set_ else []
    if gone:
        parts.append(f"hold by {', '.join(sorted(gone))} released")
    return "; ".join(parts) or ("no hold" if not after else f"held by {', '.join(sorted(after))}")


def _holders(value: str | None) -> set[str]:
    return {_HOLDERS.get(letter, letter) for letter in value or "" if letter != "n"}


def _value(name: str, value: str | None) -> str:
    if value is None:
        return ""
    if name in _TIMES and value.isdecimal() and len(value) < 12:
        return f"{datetime.fromtimestamp(int(value), UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    return value


def shorten(value: str, more: str) -> str:
    """Return a value, or as much of it as can be shown and how long it is."""
    if len(value) <= _LONGEST:
        return value
    return f"{value[: _LONGEST - 12]}{more} ({len(value)} letters)"


def describe_others(names: Sequence[str], room: int) -> str:
    """Return what else changed: as many names as there is room for, but one at least."""
    for count in range(len(names), 0, -1):
        more = f" and {len(names) - count} more" if count < len(names) else ""
        words = f"{', '.join(names[:count])}{more}"
        if len(words) <= room:
            return words
    return words if names else ""


def describe_fully(item: Alteration, arrow: str) -> str:
    """Return an attribute's change with both values whole: ``Priority 0 → 10``."""
    if item.new is None:
        return f"{item.name} {item.old or ''} removed".replace("  ", " ")
    return (
        f"{item.name} {item.new}"
        if item.old is None
        else f"{item.name} {item.old} {arrow} {item.new}"
    )


def describe_end(end: Finalize, asked_by: str | None = None) -> str:
    """Return how a job ended in words: ``failed, exit status 7``, ``moved to workq@siteb``."""
    words = f"{end.reason} to {end.destination}" if end.destination else str(end.reason)
    if asked_by is not None:
        words += f" by {asked_by}"
    if end.exit_status is None:
        return words
    return f"{words}, exit status {end.exit_status}{_signal(end.exit_status)}"


def _signal(exit_status: int) -> str:
    try:
        return f" ({signal.Signals(exit_status - 256).name})" if exit_status > 256 else ""
    except ValueError:
        return f" (signal {exit_status - 256})"


def describe_usage(usage: Sequence[tuple[str, str]]) -> str:
    """Return what was used: ``walltime 00:01:00, mem 6240kb``."""
    return ", ".join(f"{name} {value}" for name, value in usage)
