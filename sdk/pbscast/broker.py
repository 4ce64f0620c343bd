"""The broker of a login node, which hands a credential to whoever the kernel says we are.

Connect to its Unix socket, send nothing, read one JSON object until the end.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from typing import TYPE_CHECKING, Final

from pydantic import Field, ValidationError

from pbscast.errors import AccessDeniedError, ConfigError, UnavailableError
from pbscast.messages import Response

if TYPE_CHECKING:
    from pathlib import Path

BROKER_VARIABLE: Final = "PBSCAST_BROKER"

_PAUSES: Final = (0.02, 0.1)
"""Seconds."""


class Handed(Response):
    """What it hands out. ``expires`` is in the credentials as well."""

    credentials: str = Field(repr=False)
    """The text of a credentials file."""
    servers: tuple[str, ...] = ()
    ca: str | None = None
    """Certificates of the authorities that vouch for the servers, PEM."""


class Refused(Response):
    """What it says if it does not."""

    error: str
    passing: bool = False
    """Whether it may hand one out if it is asked again."""


async def ask_broker(path: Path, timeout: float) -> Handed:
    """Return what the broker hands out.

    Raises UnavailableError if it does not answer or cannot now, AccessDeniedError if it refuses,
    ConfigError where there can be none.
    """
    if sys.platform == "win32":
        raise ConfigError(f"{BROKER_VARIABLE}: Windows has no broker: use a credentials file")
    connection = None
    try:
        async with asyncio.timeout(timeout):
            connection = await _connect(path)
            answer = await _read(connection)
    except TimeoutError as error:
        message = f"no answer from the broker at {path} in {timeout:g} s: ask who runs this machine"
        if connection is None:
            message = f"the broker at {path} has too much to do: try again in a moment"
        raise UnavailableError(message) from error
    except OSError as error:
        raise UnavailableError(
            f"cannot reach the broker at {path}: {error.strerror}: is pbscastd auth broker running?"
        ) from error
    return _parse(answer, path)


async def _connect(path: Path) -> socket.socket:
    """Connect as soon as the broker has a place for one who waits.

    The kernel tells nobody when: a Unix socket that cannot be connected to at once never is.
    """
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(0)
            connection.connect(str(path))
        except BlockingIOError:
            connection.close()
            await asyncio.sleep(random.uniform(*_PAUSES))  # noqa: S311 - no secret
        except BaseException:
            connection.close()
            raise
        else:
            return connection


async def _read(connection: socket.socket) -> bytes:
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    try:
        return await reader.read()
    finally:
        writer.close()


def _parse(answer: bytes, path: Path) -> Handed:
    try:
        return Handed.model_validate_json(answer)
    except ValidationError as error:
        try:
            refused = Refused.model_validate_json(answer)
        except ValidationError:
            message = f"the answer of the broker at {path} is none: is it a broker of pbscast?"
            raise UnavailableError(message) from error
        if refused.passing:
            raise UnavailableError(f"the broker at {path}: {refused.error}") from error
        raise AccessDeniedError(f"the broker at {path} refuses: {refused.error}") from error
