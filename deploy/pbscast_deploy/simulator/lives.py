"""The lives of jobs, as sequences of saves: what people and the scheduler make PBS do with them.

Each is a generator of steps; the saves of a step follow one another at once, whatever the rate. Its
value at the end are the keys of the rows that stay as history.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final, TypeAlias

from pbscast_deploy.simulator.jobs import (
    ARRAY,
    BUSY,
    COUNTED,
    HAS_RUN,
    HERE,
    HOLDS_NODES,
    SCRIPT,
    SUBJOB,
    SUSPENDED,
    Job,
    Save,
    Site,
)

Step: TypeAlias = tuple[Save, ...]
Life: TypeAlias = Generator[Step, None, list[str]]

_WEIGHTS: Final = {
    "plain": 50,
    "failed": 8,
    "killed": 5,
    "short": 5,
    "held": 5,
    "deleted": 5,
    "rerun": 4,
    "suspended": 4,
    "altered": 4,
    "array": 4,
    "requeued": 3,
    "busy": 2,
    "waiting": 2,
    "orphaned": 1,
}


def random_life(site: Site, number: int) -> Life:
    """A life drawn by `site.random`; job ids are made of `number`, which must be new."""
    kind = site.random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    if kind == "array":
        return array_life(site, number)
    return single_life(site, number, kind)


def single_life(site: Site, number: int, kind: str) -> Life:
    """The life of one job without subjobs; `kind` is a key of the table of weights."""
    job = Job(site, f"{number}.{site.name}")
    if kind == "deleted":
        yield (job.submit("Q/10"),)
        yield (job.enter("E/54"),)
        return (yield from _end(job, "F/91", None))
    if kind == "orphaned":
        yield (job.submit("H/22", depend="11.afterok:1.s@s"),)
        yield (job.enter("H/54"),)
        return (yield from _end(job, "F/92", None))
    yield from _wait(job, kind)
    yield from _run(job, kind)
    exit_status = {"failed": 1 + number % 9, "killed": 271}.get(kind, 0)
    for save in _exit(job, exit_status):
        yield (save,)
    return (yield from _end(job, _final(exit_status), exit_status))


def array_life(site: Site, number: int) -> Life:
    """The life of an array of two to five subjobs, one of which may be requeued and run again."""
    parent = Job(site, f"{number}[].{site.name}", flags=HERE | SCRIPT | ARRAY)
    count = site.random.randrange(2, 6)
    indices = f"11.1-{count}"
    left = {"array_indices_submitted": indices, "array_indices_remaining": indices}
    yield (parent.submit("Q/10", **left),)
    subjobs = [_subjob(site, parent, number, index) for index in range(1, count + 1)]
    for index, job in enumerate(subjobs, 1):
        yield from _start_subjob(parent, job, index, count)
    again = subjobs[0] if site.random.random() < 0.3 else None
    for job in subjobs:
        yield (job.begin(),)
        yield (parent.touch(),)
        if job is again:
            yield from _run_again(parent, job)
    results = [site.random.choice((0, 0, 0, 1, 271)) for _ in subjobs]
    for job, exit_status in zip(subjobs, results, strict=True):
        yield from _end_subjob(parent, job, exit_status, last=job is subjobs[-1])
    return (yield from _end_array(parent, subjobs, max(results)))


def purge(keys: list[str]) -> Life:
    """What PBS's history sweep does with rows that are old enough."""
    for key in keys:
        yield (Save("job", key, "DELETE"),)
    return []


def _wait(job: Job, kind: str) -> Iterator[Step]:
    """From the submission until the scheduler may run it."""
    if kind == "held":
        yield (job.submit("H/20"),)
        yield (job.enter("Q/10", attributes={"Hold_Types": "11.n"}),)
    elif kind == "waiting":
        yield (job.submit("W/30", Execution_Time="11.1795340400"),)
        yield (job.enter("Q/10"),)
    else:
        yield (job.submit("Q/10"),)
    if kind == "altered":
        yield (job.touch(Priority="11.10", **{"Resource_List.walltime": "11.08:00:00"}),)
        yield (job.move_to("batch"),)
        yield (job.enter("H/20", attributes={"Hold_Types": "11.u"}),)
        yield (job.enter("Q/10", attributes={"Hold_Types": "11.n"}),)
    if job.site.random.random() < 0.3:
        yield (job.touch(),)


def _run(job: Job, kind: str) -> Iterator[Step]:
    """From R/41 until the obit; a very short job is never seen in R/42."""
    yield (job.start(),)
    if kind == "short":
        return
    if kind == "requeued":
        flags = job.flags & ~HOLDS_NODES | HAS_RUN
        yield (job.enter("Q/10", attributes={"comment": "11.Not running"}, flags=flags),)
        yield (job.start(),)
    yield (job.begin(),)
    for _ in range(job.site.random.randrange(4)):
        yield (job.touch(),)
    if kind == "rerun":
        yield from _rerun(job)
        yield (job.remove_attributes("Exit_status"),)
        yield (job.start(),)
        yield (job.begin(),)
    if kind == "suspended":
        yield from _suspend(job)
    if kind == "busy":
        yield (job.flag(job.flags | BUSY),)
        yield (job.flag(job.flags & ~BUSY),)


def _rerun(job: Job) -> Iterator[Step]:
    yield (job.enter("R/60", flags=job.flags | HAS_RUN),)
    yield (job.obit(-11, substate=60),)
    for substate in (61, 62, 63):
        yield (job.enter(f"E/{substate}"),)
    yield (job.enter("Q/10", flags=job.flags & ~(HOLDS_NODES | COUNTED)),)


def _suspend(job: Job) -> Iterator[Step]:
    running = job.flags
    suspended = running | SUSPENDED
    yield (job.enter("R/43", flags=suspended),)
    yield (job.flag(suspended & ~(HOLDS_NODES | COUNTED)),)
    yield (job.enter("R/45"),)
    yield (job.enter("R/42", flags=running),)


def _exit(job: Job, exit_status: int) -> Iterator[Save]:
    yield job.obit(exit_status)
    yield job.enter("E/51")
    yield job.enter("E/52", attributes={"Stageout_status": "11.1"})
    yield job.enter("E/53")
    yield _node_save(job.site)


def _end(job: Job, state: str, exit_status: int | None) -> Life:
    if not job.site.history:
        yield (job.delete(),)
        return []
    yield (job.finish(state, _comment(job, exit_status)),)
    return [job.key]


def _subjob(site: Site, parent: Job, number: int, index: int) -> Job:
    job = Job(site, f"{number}[{index}].{site.name}", flags=HERE | HOLDS_NODES | SUBJOB)
    job.user, job.name, job.cpus = parent.user, parent.name, parent.cpus
    return job


def _submit_subjob(parent: Job, job: Job) -> Save:
    index = job.key.partition("[")[2].partition("]")[0]
    return job.submit("Q/10", array_id=f"11.{parent.key}", array_index=f"11.{index}")


def _start_subjob(parent: Job, job: Job, index: int, count: int) -> Iterator[Step]:
    yield (_submit_subjob(parent, job),)
    left = f"{index + 1}-{count}" if index + 1 < count else f"{count}" if index < count else "-"
    yield (parent.touch(array_indices_remaining=f"11.{left}"),)
    yield (job.start(),)
    if index == 1:
        yield (parent.enter("B/70"),)


def _run_again(parent: Job, job: Job) -> Iterator[Step]:
    """The row of a requeued subjob is deleted and inserted anew, under the same id, at once."""
    yield from _rerun(job)
    yield (parent.touch(),)
    job.flags = HERE | HOLDS_NODES | SUBJOB
    yield (job.delete(), _submit_subjob(parent, job))
    yield (parent.touch(),)
    yield (job.start(),)
    yield (job.begin(),)


def _end_subjob(parent: Job, job: Job, exit_status: int, *, last: bool) -> Iterator[Step]:
    """The last one skips X: its parent has closed by then."""
    for save in _exit(job, exit_status):
        yield (save,)
    yield (parent.touch(Exit_status=f"11.{min(exit_status, 1)}"),)
    if last:
        return
    if not job.site.history:
        yield (job.delete(),)
        return
    state = _final(exit_status).replace("F", "X")
    yield (job.finish(state, _comment(job, exit_status)),)


def _end_array(parent: Job, subjobs: list[Job], exit_status: int) -> Life:
    """F/92 comes first, whatever the result; then the real one, and subjobs flip from X to F."""
    *others, last = subjobs
    state = {0: "F/92", 1: "F/93"}.get(exit_status, "F/91")
    columns = {"ji_exitstat": str(min(exit_status, 1))}
    yield (parent.enter("F/92", columns, {"array_state_count": "11.Queued:0 Running:0 "}),)
    if not parent.site.history:
        yield (parent.delete(),)
        yield (last.delete(),)
        return []
    yield (last.finish(state, _comment(last, exit_status)),)
    yield (parent.finish(state, _comment(parent, exit_status)),)
    for job in others:
        yield (parent.touch(array_state_count="11.Queued:0 Running:0 Exiting:0 Expired:1 "),)
        yield (Save("job", job.key, attributes={"job_state": "11.F"}),)
    return [parent.key, *(job.key for job in subjobs)]


def _final(exit_status: int) -> str:
    if exit_status >= 256:
        return "F/91"
    return "F/93" if exit_status else "F/92"


def _comment(job: Job, exit_status: int | None) -> str:
    if exit_status is None:
        return "Job terminated by PBS"
    result = "finished" if exit_status == 0 else "failed"
    return f"Job run on ({job.site.name}:ncpus={job.cpus}) and {result}"


def _node_save(site: Site) -> Save:
    return Save("node", site.name, attributes={"last_used_time": f"11.{int(site.now())}"})
