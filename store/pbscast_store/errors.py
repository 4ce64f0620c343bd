"""Where the driver's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    ConflictError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)

_BY_STATE: Final[dict[str, type[PbscastError]]] = {
    "08": UnavailableError,  # connection exception
    "22": UsageError,  # a value that PostgreSQL cannot hold
    "23": ConflictError,  # constraint violated
    "23514": UnavailableError,  # no partition for the time: the next acquire makes it
    "25006": UnavailableError,  # read-only: a standby, until it is promoted
    "28": AccessDeniedError,  # wrong password, no pg_hba.conf entry
    "3D": ConfigError,  # no such database
    "3F": UnsupportedError,  # no such schema
    "40": UnavailableError,  # rolled back: deadlock, serialization
    "42": UnsupportedError,  # no such table, column, type
    "42501": AccessDeniedError,
    "53": UnavailableError,  # out of disk, memory, connections
    "55": UnavailableError,  # lock not available, not in the right state
    "57": UnavailableError,  # shut down, starting up, cancelled
    "58": UnavailableError,  # I/O error
    "XX": UnavailableError,  # internal error
}
"""SQLSTATE, or its class, to error: PostgreSQL documentation, appendix A."""


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raises the driver's errors as those of `pbscast.errors`; `where` begins the line."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _for_state(error)(f"{where}: {_first_line(error)}") from error
    except asyncpg.exceptions._base.ClientConfigurationError as error:  # noqa: SLF001 - not exported
        raise ConfigError(f"{where}: malformed DSN: {_first_line(error)}") from error
    except asyncpg.exceptions._base.DataError as error:  # noqa: SLF001 - not exported
        raise UsageError(f"{where}: {_first_line(error)}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise UnavailableError(f"{where}: {_first_line(error)}") from error
    except TimeoutError as error:
        raise UnavailableError(f"{where}: no answer in time") from error
    except OSError as error:
        raise UnavailableError(f"{where}: {_first_line(error)}") from error


def _for_state(error: asyncpg.PostgresError) -> type[PbscastError]:
    state = error.sqlstate or ""
    return _BY_STATE.get(state) or _BY_STATE.get(state[:2]) or PbscastError


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
