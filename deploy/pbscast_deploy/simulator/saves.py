"""How PBS writes a change: the statement kind that follows from what is different."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pbscast_deploy.simulator.connection import Statement, encode, encode_array, encode_pairs
from pbscast_deploy.simulator.rows import LAYOUTS, Layout, Row

_HAS_SCRIPT = 0x20
_SCRIPT = b"#!/bin/sh\nexec sleep 60\n"


def insert(table: str, key: str, row: Row) -> list[Statement]:
    """INSERT of the row; of a job with a script also that of its script."""
    layout = LAYOUTS[table]
    params = [*_values(row.columns, layout.names), encode_pairs(row.attributes)]
    statements = [Statement(f"{table}_insert", params, key)]
    if table == "job" and int(row.columns["ji_svrflags"]) & _HAS_SCRIPT:
        statements.append(Statement("job_scr_insert", [encode(key), _SCRIPT], key))
    return statements


def update(table: str, key: str, row: Row, before: Row) -> list[Statement]:
    """What PBS sends to turn `before` into `row`."""
    layout = LAYOUTS[table]
    return write(
        layout,
        key,
        row.columns,
        row.changed_attributes(before),
        row.removed_attributes(before),
        struct=any(row.columns[name] != before.columns[name] for name in layout.columns),
    )


def write(
    layout: Layout,
    key: str,
    columns: Mapping[str, str],
    changed: Mapping[str, str],
    removed: Sequence[str] = (),
    *,
    struct: bool,
) -> list[Statement]:
    """One of the UPDATE kinds; the removal of attributes is a statement of its own before it.

    `columns` are all of the new row. PBS sends them only if its fixed struct changed (`struct`).
    """
    table = layout.table
    own = [encode(key)] if layout.key is not None else []
    saved = encode(columns[layout.saved])
    statements = []
    if removed:
        params = [*own, saved, encode_array(removed)]
        statements.append(Statement(f"{table}_remove_attributes", params, key))
        if not (changed or struct):
            return statements
    if not (struct or layout.always_full):
        params = [*own, saved, encode_pairs(changed)]
        return [*statements, Statement(f"{table}_update_attributes", params, key)]
    values = [*own, *_values(columns, layout.columns), saved]
    if not (changed or layout.always_full):
        return [*statements, Statement(f"{table}_update_quick", values, key)]
    return [*statements, Statement(f"{table}_update_full", [*values, encode_pairs(changed)], key)]


def delete(table: str, key: str) -> list[Statement]:
    """DELETE of the row; of a job also that of its script."""
    statements = [Statement(f"{table}_delete", [encode(key)], key)]
    if table == "job":
        statements.append(Statement("job_scr_delete", [encode(key)], key))
    return statements


def _values(columns: Mapping[str, str], names: tuple[str, ...]) -> list[bytes]:
    return [encode(columns[name]) for name in names]
