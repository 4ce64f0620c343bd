"""Drafts of jobs' lives, in the shape and size of real ones: what the log is fed with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    Kind,
    Payload,
    Provenance,
    Reason,
)
from pbscast_store.drafts import Draft

START = datetime(2026, 11, 22, 9, 36, 57, tzinfo=UTC)
EVENTS_A_JOB = 10


def interleaved_lives(abreast: int = 300, site: str = "sitea") -> Iterator[Draft]:
    """Jobs without end, `abreast` of them changing in turn; each has `EVENTS_A_JOB` events."""
    number = 0
    while True:
        yield from _generation(range(number, number + abreast), site)
        number += abreast


def batches(drafts: Iterator[Draft], size: int) -> Iterator[list[Draft]]:
    """The drafts, `size` at a time."""
    while batch := list(islice(drafts, size)):
        yield batch


def _generation(numbers: range, site: str) -> Iterator[Draft]:
    lives = [_life(number, site) for number in numbers]
    for _ in range(EVENTS_A_JOB):
        for life in lives:
            yield next(life)


def _life(number: int, site: str) -> Iterator[Draft]:
    job = f"{number}.{site}"
    at = START + timedelta(seconds=number)
    yield _draft(job, EventName.SUBMIT, at, _change("T", 0, _submitted(number, site)), begins=True)
    yield _draft(job, EventName.STATE, at, _change("Q", 10, {"job_state": "Q", "substate": "10"}))
    yield _draft(job, EventName.MODIFY, at, _change("Q", 10, {"comment": "Not Running: no ncpus"}))
    yield _draft(job, EventName.STATE, at, _change("R", 41, _started(site)))
    yield _draft(job, EventName.STATE, at, _change("R", 42, {"substate": "42", "session_id": "77"}))
    for minute in (1, 2):
        yield _draft(job, EventName.USAGE, at, _change("R", 42, _used(minute)))
    yield _draft(job, EventName.STATE, at, _change("E", 50, {"job_state": "E", "substate": "50"}))
    last = _used(3) | {"job_state": "F", "substate": "92", "Exit_status": "0"}
    yield _draft(job, EventName.STATE, at, _change("F", 92, last))
    yield _draft(job, EventName.FINALIZE, at, _ending(), ends=True)


def _draft(
    job: str,
    event: EventName,
    time: datetime,
    payload: Payload,
    *,
    begins: bool = False,
    ends: bool = False,
) -> Draft:
    return Draft(Kind.JOB, job, event, time, Provenance.JOURNAL, payload, begins, None, ends)


def _change(state: str, substate: int, changed: dict[str, str]) -> ChangePayload:
    return ChangePayload(
        owner="alice",
        queue="workq",
        project="_pbs_default",
        name="STDIN",
        state=state,
        substate=substate,
        changed=changed,
        columns={"ji_svrflags": "4097"} if "job_state" in changed else {},
    )


def _ending() -> FinalizePayload:
    return FinalizePayload(
        owner="alice",
        queue="workq",
        project="_pbs_default",
        name="STDIN",
        state="F",
        substate=92,
        reason=Reason.FINISHED,
        exit_status=0,
        usage={"cput": "00:00:07", "mem": "3412kb", "ncpus": "1", "walltime": "00:03:01"},
    )


def _submitted(number: int, site: str) -> dict[str, str]:
    variables = ",".join(f"PBS_O_VAR{index}=/some/path/{index}" for index in range(20))
    return {
        "Job_Name": "STDIN",
        "Job_Owner": f"alice@{site}",
        "job_state": "T",
        "queue": "workq",
        "server": site,
        "Checkpoint": "u",
        "ctime": "1763804217",
        "Error_Path": f"{site}:/home/alice/STDIN.e{number}",
        "Hold_Types": "n",
        "Join_Path": "n",
        "Keep_Files": "n",
        "Mail_Points": "a",
        "Output_Path": f"{site}:/home/alice/STDIN.o{number}",
        "Priority": "0",
        "qtime": "1763804217",
        "Rerunable": "True",
        "Resource_List.ncpus": "1",
        "Resource_List.nodect": "1",
        "Resource_List.place": "pack",
        "Resource_List.select": "1:ncpus=1",
        "Resource_List.walltime": "01:00:00",
        "schedselect": "1:ncpus=1",
        "substate": "0",
        "Variable_List": variables,
        "euser": "alice",
        "egroup": "users",
        "queue_type": "E",
        "etime": "1763804217",
        "Submit_arguments": "-l select=1:ncpus=1 -l walltime=1:0:0",
        "project": "_pbs_default",
        "Submit_Host": site,
    }


def _started(site: str) -> dict[str, str]:
    return {
        "job_state": "R",
        "substate": "41",
        "stime": "1763804220",
        "exec_host": f"{site}-n1/0",
        "exec_vnode": f"({site}-n1:ncpus=1)",
        "exec_host2": f"{site}-n1:15002/0",
        "comment": f"Job run at Sun Nov 22 at 09:37 on ({site}-n1:ncpus=1)",
        "run_count": "1",
    }


def _used(minute: int) -> dict[str, str]:
    return {
        "resources_used.cpupercent": "3",
        "resources_used.cput": f"00:00:0{minute}",
        "resources_used.mem": f"{minute}412kb",
        "resources_used.ncpus": "1",
        "resources_used.vmem": f"{minute}3412kb",
        "resources_used.walltime": f"00:0{minute}:01",
    }
