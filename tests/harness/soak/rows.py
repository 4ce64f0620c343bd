"""The rows of a datastore as they stand."""

from __future__ import annotations

import psycopg
from psycopg.rows import tuple_row

_TABLES = {
    "job": "SELECT ji_jobid, hstore_to_array(attributes) FROM pbs.job",
    "node": "SELECT nd_name, hstore_to_array(attributes) FROM pbs.node",
    "queue": "SELECT qu_name, hstore_to_array(attributes) FROM pbs.queue",
    "scheduler": "SELECT sched_name, hstore_to_array(attributes) FROM pbs.scheduler",
    "server": "SELECT NULL, hstore_to_array(attributes) FROM pbs.server",
}


def attributes_of(dsn: str, site: str) -> dict[tuple[str, str], dict[str, bytes]]:
    """(kind, id) → attribute → value without its flags; the server goes by its site's name."""
    found = {}
    with psycopg.connect(dsn, client_encoding="utf8", row_factory=tuple_row) as connection:
        for kind, query in _TABLES.items():
            for key, pairs in connection.execute(query):
                values = dict(zip(pairs[::2], pairs[1::2], strict=True))
                found[kind, site if key is None else str(key)] = {
                    name: value.partition(".")[2].encode() for name, value in values.items()
                }
    return found
