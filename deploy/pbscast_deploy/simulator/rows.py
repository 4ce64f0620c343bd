"""Rows of the PBS datastore's tables, as text with surrogateescape: the bytes that PBS stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Layout:
    """The columns of one table beside `attributes`, in the order of its INSERT."""

    table: str
    key: str | None
    """None for the server: it has one row and no key."""
    columns: tuple[str, ...]
    saved: str
    created: str
    always_full: bool = False
    """PBS saves every column of it each time."""

    @property
    def names(self) -> tuple[str, ...]:
        """All columns but `attributes`."""
        key = () if self.key is None else (self.key,)
        return (*key, *self.columns, self.saved, self.created)


_JOB_COLUMNS = (
    "ji_state ji_substate ji_svrflags ji_stime ji_queue ji_destin ji_un_type ji_exitstat "
    "ji_quetime ji_rteretry ji_fromsock ji_fromaddr ji_jid ji_credtype ji_qrank"
)
_RESV_COLUMNS = "ri_queue ri_state ri_substate ri_stime ri_etime ri_duration ri_tactive ri_svrflags"
_NODE_COLUMNS = "mom_modtime nd_hostname nd_state nd_ntype nd_pque nd_index"

LAYOUTS: Final[Mapping[str, Layout]] = {
    layout.table: layout
    for layout in (
        Layout("job", "ji_jobid", tuple(_JOB_COLUMNS.split()), "ji_savetm", "ji_creattm"),
        Layout("queue", "qu_name", ("qu_type",), "qu_savetm", "qu_creattm"),
        Layout(
            "node",
            "nd_name",
            tuple(_NODE_COLUMNS.split()),
            "nd_savetm",
            "nd_creattm",
            always_full=True,
        ),
        Layout("resv", "ri_resvid", tuple(_RESV_COLUMNS.split()), "ri_savetm", "ri_creattm"),
        Layout("server", None, ("sv_jobidnumber",), "sv_savetm", "sv_creattm", always_full=True),
        Layout("scheduler", "sched_name", (), "sched_savetm", "sched_creattm"),
    )
}


@dataclass(frozen=True)
class Row:
    """One row: column → text, and attribute → `flags.text`."""

    columns: dict[str, str]
    attributes: dict[str, str]

    def changed_attributes(self, before: Row) -> dict[str, str]:
        """What a save of this row over `before` adds to the attributes; flag digits count."""
        old = before.attributes
        return {name: value for name, value in self.attributes.items() if old.get(name) != value}

    def removed_attributes(self, before: Row) -> list[str]:
        """Attributes of `before` that this row has no longer."""
        return [name for name in before.attributes if name not in self.attributes]
