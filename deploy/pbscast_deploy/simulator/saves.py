"""How PBS writes a change: the statement kind that follows from what is different."""

from __future__ import annotations

from pbscast_deploy.simulator.connection import Statement, encode, encode_array, encode_pairs
from pbscast_deploy.simulator.rows import LAYOUTS, Layout, Row

_HAS_SCRIPT = 0x20
_SCRIPT = b"#!/bin/sh\nexec sleep 60\n"


def insert(table: str, key: str, row: Row) -> list[Statement]:
    """INSERT of the row; of a job with a script also that of its script."""
    layout = LAYOUTS[table]
    params = [*_values(row, layout.names), encode_pairs(row.attributes)]
    statements = [Statement(f"{table}_insert", params, key)]
    if table == "job" and int(row.columns["ji_svrflags"]) & _HAS_SCRIPT:
        statements.append(Statement("job_scr_insert", [encode(key), _SCRIPT], key))
    return statements


def update(table: str, key: str, row: Row, before: Row) -> list[Statement]:
    """One of the UPDATE kinds; the removal of attributes is a statement of its own before it."""
    layout = LAYOUTS[table]
    statements = []
    removed = row.removed_attributes(before)
    if removed:
        params = [*_head(layout, key, row), encode_array(removed)]
        statements.append(Statement(f"{table}_remove_attributes", params, key))
    changed = row.changed_attributes(before)
    columns = any(row.columns[name] != before.columns[name] for name in layout.columns)
    if changed or columns or not removed:
        statements.append(_save(layout, key, row, changed, columns=columns))
    return statements


def delete(table: str, key: str) -> list[Statement]:
    """DELETE of the row; of a job also that of its script."""
    statements = [Statement(f"{table}_delete", [encode(key)], key)]
    if table == "job":
        statements.append(Statement("job_scr_delete", [encode(key)], key))
    return statements


def _save(
    layout: Layout, key: str, row: Row, changed: dict[str, str], *, columns: bool
) -> Statement:
    """PBS sends the columns if its fixed struct changed, and the attributes that it modified."""
    table = layout.table
    if not (columns or layout.always_full):
        params = [*_head(layout, key, row), encode_pairs(changed)]
        return Statement(f"{table}_update_attributes", params, key)
    own = [encode(key)] if layout.key is not None else []
    values = [*own, *_values(row, (*layout.columns, layout.saved))]
    if not (changed or layout.always_full):
        return Statement(f"{table}_update_quick", values, key)
    return Statement(f"{table}_update_full", [*values, encode_pairs(changed)], key)


def _head(layout: Layout, key: str, row: Row) -> list[bytes]:
    own = [encode(key)] if layout.key is not None else []
    return [*own, *_values(row, (layout.saved,))]


def _values(row: Row, names: tuple[str, ...]) -> list[bytes]:
    return [encode(row.columns[name]) for name in names]
