"""A simulated job: what each of its saves writes, as PBS 23.06 was seen to write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

QUEUES: Final = ("workq", "batch")
_USERS: Final = ("alice", "bob", "carol", "dan", "erin", "frank", "grace", "heidi", "ivan", "judy")
_NAMES: Final = ("relax", "cfd", "md_npt", "train", "blast", "wrf", "post", "STDIN")
_STATES: Final = "TQHWREXBMF"

HERE: Final = 0x1
HAS_RUN: Final = 0x4
SCRIPT: Final = 0x20
SUSPENDED: Final = 0x200
HOLDS_NODES: Final = 0x1000
COUNTED: Final = 0x2000
BUSY: Final = 0x4000
ARRAY: Final = 0x10000
SUBJOB: Final = 0x20000


@dataclass(frozen=True, slots=True)
class Save:
    """One change of one row: what differs."""

    table: str
    key: str
    op: Literal["INSERT", "UPDATE", "DELETE"] = "UPDATE"
    columns: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    times: Mapping[str, str] = field(default_factory=dict)
    """Columns with the times of the save and the creation, filled in when it is written."""


@dataclass(frozen=True)
class Site:
    """Where jobs live: a server with one node."""

    name: str
    history: bool
    random: Random
    now: Callable[[], float]
    """Seconds since the epoch."""


class Job:
    """Makes the saves of one job in the order in which its life calls for them."""

    def __init__(self, site: Site, key: str, *, flags: int = HERE | SCRIPT) -> None:
        self.site = site
        self.key = key
        self.flags = flags
        self.runs = 0
        self.user = site.random.choice(_USERS)
        self.queue = QUEUES[0]
        self.name = site.random.choice(_NAMES)
        self.cpus = site.random.choice((1, 4, 16, 64))

    def submit(self, state: str, **more: str) -> Save:
        """INSERT in `state` ("Q/10", "H/20", "H/22", "W/30")."""
        letter, substate = state.split("/")
        columns = {
            "ji_jobid": self.key,
            "ji_state": str(_STATES.index(letter)),
            "ji_substate": substate,
            "ji_svrflags": str(self.flags),
            "ji_stime": "0",
            "ji_queue": self.queue,
            "ji_destin": "",
            "ji_un_type": "1",
            "ji_exitstat": "0",
            "ji_quetime": "0",
            "ji_rteretry": "0",
            "ji_fromsock": "0",
            "ji_fromaddr": "0",
            "ji_jid": "",
            "ji_credtype": "0",
            "ji_qrank": self._rank(),
        }
        hold = "u" if letter == "H" else "n"
        attributes = {**self._submitted(columns["ji_qrank"]), "Hold_Types": f"11.{hold}"}
        attributes |= {"job_state": f"11.{letter}", "substate": f"11.{substate}", **more}
        return Save("job", self.key, "INSERT", columns, attributes)

    def enter(
        self,
        state: str,
        columns: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
        *,
        flags: int | None = None,
    ) -> Save:
        """UPDATE into `state`; the state's columns go along only if others change, as in PBS."""
        letter, substate = state.split("/")
        struct = dict(columns or {})
        if flags is not None:
            self.flags = flags
            struct["ji_svrflags"] = str(flags)
        if struct:
            struct |= {"ji_state": str(_STATES.index(letter)), "ji_substate": substate}
        named = {"job_state": f"11.{letter}", "substate": f"11.{substate}"}
        return Save("job", self.key, columns=struct, attributes={**named, **(attributes or {})})

    def touch(self, **attributes: str) -> Save:
        """UPDATE of attributes alone; of none but `mtime` without any."""
        return Save("job", self.key, attributes=attributes)

    def flag(self, flags: int) -> Save:
        """UPDATE of `ji_svrflags` alone: the quick form, without attributes."""
        self.flags = flags
        return Save("job", self.key, columns={"ji_svrflags": str(flags)})

    def start(self) -> Save:
        """R/41: sent to the node."""
        self.runs += 1
        node, cpus = self.site.name, self.cpus
        where = {
            "exec_host": f"11.{node}/0*{cpus}",
            "exec_host2": f"11.{node}:15002/0*{cpus}",
            "exec_vnode": f"11.({node}:ncpus={cpus})",
            "hashname": f"11.{self.key}",
            "job_kill_delay": "11.10",
            "run_count": f"11.{self.runs}",
            "run_version": f"11.{self.runs}",
        }
        columns = {"ji_destin": node, "ji_stime": "0"}
        return self.enter("R/41", columns, where, flags=self.flags | HOLDS_NODES)

    def begin(self) -> Save:
        """R/42: the node reported a session."""
        now = self._now()
        attributes = {
            "stime": f"11.{now}",
            "jobdir": f"11./home/{self.user}",
            "session_id": f"11.{self.site.random.randrange(2000, 4_000_000)}",
        }
        return self.enter("R/42", {"ji_stime": now}, attributes, flags=self.flags | COUNTED)

    def obit(self, exit_status: int, substate: int = 50) -> Save:
        """E/50, or E/60 of a rerun. An exit status of 0 changes no column."""
        columns = {"ji_exitstat": str(exit_status)} if exit_status else {}
        return self.enter(f"E/{substate}", columns, {"Exit_status": f"11.{exit_status}"})

    def finish(self, state: str, comment: str) -> Save:
        """The last state of a site with history: every attribute is written."""
        now = self._now()
        released = self.flags & ~(HOLDS_NODES | COUNTED | SUSPENDED)
        used = self._used() if self.runs else {}
        attributes = {
            "comment": f"11.{comment}",
            "obittime": f"11.{now}",
            "history_timestamp": f"11.{now}",
            **used,
        }
        changed = released if released != self.flags else None
        return self.enter(state, attributes=attributes, flags=changed)

    def remove_attributes(self, *names: str) -> Save:
        """The removal statement."""
        return Save("job", self.key, removed=names)

    def delete(self) -> Save:
        """DELETE of the row and its script."""
        return Save("job", self.key, "DELETE")

    def move_to(self, queue: str) -> Save:
        """UPDATE of a qmove between queues of the server."""
        self.queue, rank = queue, self._rank()
        columns = {"ji_queue": queue, "ji_destin": queue, "ji_qrank": rank}
        named = {"queue": f"11.{queue}", "queue_rank": f"11.{rank}", "qtime": f"11.{self._now()}"}
        return self.enter("Q/10", columns, named)

    def _now(self) -> str:
        return str(int(self.site.now()))

    def _rank(self) -> str:
        return str(int(self.site.now() * 1_000_000))

    def _submitted(self, rank: str) -> dict[str, str]:
        now, user, server, cpus = self._now(), self.user, self.site.name, self.cpus
        short = self.key.split(".")[0]
        times = dict.fromkeys(("ctime", "etime", "mtime", "qtime", "sample_starttime"), f"11.{now}")
        return times | {
            "euser": f"11.{user}",
            "egroup": "15.users",
            "queue": f"11.{self.queue}",
            "server": f"11.{server}",
            "project": "11._pbs_project_default",
            "Job_Name": f"11.{self.name}",
            "Job_Owner": f"11.{user}@{server}",
            "Priority": "11.0",
            "Join_Path": "11.oe",
            "Rerunable": "11.True",
            "hop_count": "11.1",
            "Checkpoint": "11.u",
            "Error_Path": f"11.{server}:/home/{user}/project/{self.name}.e{short}",
            "Output_Path": f"11.{server}:/home/{user}/project/{self.name}.o{short}",
            "Keep_Files": "11.n",
            "Mail_Points": "11.a",
            "queue_rank": f"11.{rank}",
            "queue_type": "11.E",
            "Submit_Host": f"11.{server}",
            "schedselect": f"15.1:ncpus={cpus}:mem={2 * cpus}gb",
            "eligible_time": "11.00:00:00",
            "Variable_List": f"11.{_variables(user, server, self.queue)}",
            "Submit_arguments": "11.<jsdl-hpcpa:Argument>job.sh</jsdl-hpcpa:Argument>",
            "Resource_List.ncpus": f"15.{cpus}",
            "Resource_List.mem": f"15.{2 * cpus}gb",
            "Resource_List.place": "15.pack",
            "Resource_List.nodect": "15.1",
            "Resource_List.select": f"15.1:ncpus={cpus}:mem={2 * cpus}gb",
            "Resource_List.walltime": "11.04:00:00",
        }

    def _used(self) -> dict[str, str]:
        seconds = self.site.random.randrange(1, 4 * 3600)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        memory = self.site.random.randrange(6000, 2_000_000 * self.cpus)
        return {
            "resources_used.cput": f"11.{clock}",
            "resources_used.walltime": f"11.{clock}",
            "resources_used.mem": f"11.{memory}kb",
            "resources_used.vmem": f"11.{memory + 9000}kb",
            "resources_used.ncpus": f"11.{self.cpus}",
            "resources_used.cpupercent": f"11.{self.cpus * 97}",
        }


def _variables(user: str, server: str, queue: str) -> str:
    """About 700 bytes, as a login with environment modules exports it."""
    paths = ":".join(f"/opt/software/{name}/bin" for name in ("gcc/13.2", "openmpi/5.0", "hdf5"))
    return ",".join(
        (
            f"PBS_O_HOME=/home/{user}",
            f"PBS_O_LOGNAME={user}",
            f"PBS_O_PATH={paths}:/opt/pbs/bin:/usr/local/bin:/usr/bin:/bin",
            f"PBS_O_MAIL=/var/mail/{user}",
            "PBS_O_SHELL=/bin/bash",
            "PBS_O_INTERACTIVE_AUTH_METHOD=resvport",
            "PBS_O_INTERACTIVE_ENCRYPT_METHOD=",
            f"PBS_O_WORKDIR=/home/{user}/project",
            "PBS_O_SYSTEM=Linux",
            f"PBS_O_QUEUE={queue}",
            f"PBS_O_HOST={server}",
            "LANG=en_GB.UTF-8",
            "LOADEDMODULES=gcc/13.2:openmpi/5.0:hdf5/1.14:netcdf/4.9",
            "LD_LIBRARY_PATH=" + paths.replace("/bin", "/lib"),
            "MODULEPATH=/opt/modulefiles/core:/opt/modulefiles/mpi:/opt/modulefiles/apps",
            f"TMPDIR=/scratch/{user}",
        )
    )
