"""The one connection that a PBS server holds to its datastore."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import TracebackType
from typing import Self

from psycopg import OperationalError, pq
from psycopg.conninfo import make_conninfo

from pbscast.errors import ConflictError, UnavailableError
from pbscast_deploy.simulator.rows import LAYOUTS, Row

Params = Sequence[bytes]


@dataclass(frozen=True)
class Statement:
    """A named statement of `statements.sql` with its parameters."""

    name: str
    params: Params
    what: str = ""
    """The object that it writes, for messages."""


class PbsConnection:
    """Synchronous and autocommitting, with statements prepared by name, as PBS has it.

    On libpq's own calls below psycopg's cursors: bytes go through as they are, and the client costs
    as little beside the server's commit as PBS's own code does. Every method blocks.
    """

    def __init__(self, dsn: str) -> None:
        """Raises UnavailableError if the datastore cannot be reached."""
        try:
            conninfo = make_conninfo(
                dsn, client_encoding="SQL_ASCII", application_name="pbs_server"
            )
        except OperationalError as error:
            raise UnavailableError(f"cannot read the connection string: {error}") from error
        self._libpq = pq.PGconn.connect(conninfo.encode())
        if self._libpq.status != pq.ConnStatus.OK:
            raise UnavailableError(f"cannot reach the datastore: {self._message()}")
        self._prepared: set[str] = set()

    def execute(self, statement: Statement) -> int:
        """Runs and commits it; returns how many rows it touched.

        Raises UnavailableError if the server went away meanwhile, so that nobody knows whether it
        committed; ConflictError if the server refused it, so that it did not.
        """
        result = self._run(statement)
        return result.command_tuples or 0

    def save(self, statement: Statement) -> None:
        """As `execute`, for a statement that must touch a row: PBS panics if it does not.

        Raises ConflictError if it touched none.
        """
        if not self.execute(statement):
            raise ConflictError(f"{statement.name} {statement.what}: no such row")

    def read(self, table: str, key: str) -> Row | None:
        """The committed row, byte for byte; None if there is none."""
        layout = LAYOUTS[table]
        params = [] if layout.key is None else [encode(key)]
        found = self._run(Statement(f"{table}_read", params, key))
        if not found.ntuples:
            return None
        columns = {name: _text(found.get_value(0, n)) for n, name in enumerate(layout.names)}
        for name in (layout.saved, layout.created):
            columns[name] = columns[name].replace(" ", "T")
        pairs = self._run(Statement(f"{table}_read_attributes", params, key))
        attributes = {
            _text(pairs.get_value(n, 0)): _text(pairs.get_value(n, 1)) for n in range(pairs.ntuples)
        }
        return Row(columns, attributes)

    def close(self) -> None:
        """May be repeated."""
        self._libpq.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, statement: Statement) -> pq.abc.PGresult:
        name = statement.name.encode()
        if statement.name not in self._prepared:
            self._check(self._libpq.prepare(name, _statements()[statement.name]), statement)
            self._prepared.add(statement.name)
        result = self._libpq.exec_prepared(name, statement.params)
        self._check(result, statement)
        return result

    def _check(self, result: pq.abc.PGresult, statement: Statement) -> None:
        if result.status in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}:
            return
        where = f"{statement.name} {statement.what}"
        if self._libpq.status != pq.ConnStatus.OK:
            raise UnavailableError(f"{where}: lost the datastore: {self._message()}")
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        raise ConflictError(f"{where}: the datastore refused it ({state}): {self._message()}")

    def _message(self) -> str:
        lines = self._libpq.get_error_message().split("\n")
        return " ".join(line.strip() for line in lines if line.strip())


def encode(text: str) -> bytes:
    """The bytes that PBS stored."""
    return text.encode("utf-8", "surrogateescape")


def encode_array(items: Sequence[str]) -> bytes:
    """A PostgreSQL text array."""
    quoted = '","'.join(item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return encode(f'{{"{quoted}"}}') if items else b"{}"


def encode_pairs(attributes: Mapping[str, str]) -> bytes:
    """A PostgreSQL text array of keys and values in turn, for `hstore(text[])`."""
    return encode_array([text for pair in attributes.items() for text in pair])


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "surrogateescape")


@cache
def _statements() -> dict[str, bytes]:
    text = resources.files(__package__).joinpath("statements.sql").read_text()
    found = re.findall(r"^-- name: (\w+)\n(.*?;)$", text, re.MULTILINE | re.DOTALL)
    return {name: statement.encode() for name, statement in found}
