"""The broker of a login node, which hands a credential to whoever the kernel says we are.

Connect to its Unix socket, send nothing, read one JSON object until the end.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from pydantic import Field, ValidationError

from pbscast.errors import AccessDeniedError, ConfigError, UnavailableError
from pbscast.messages import Response

if TYPE_CHECKING:
    from pathlib import Path

BROKER_VARIABLE: Final = "PBSCAST_BROKER"


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


async def ask_broker(path: Path, timeout: float) -> Handed:
    """Return what the broker hands out.

    Raises UnavailableError if it does not answer, AccessDeniedError if it refuses, ConfigError
    where there can be none.
    """
    if sys.platform == "win32":
        raise ConfigError(f"{BROKER_VARIABLE}: Windows has no broker: use a credentials file")
    try:
        async with asyncio.timeout(timeout):
            answer = await _read(path)
    except TimeoutError as error:
        message = f"no answer from the broker at {path} in {timeout:g} s: ask who runs this machine"
        raise UnavailableError(message) from error
    except OSError as error:
        raise UnavailableError(
            f"cannot reach the broker at {path}: {error.strerror}: is pbscastd auth broker running?"
        ) from error
    return _parse(answer, path)


async def _read(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
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
        raise AccessDeniedError(f"the broker at {path} refuses: {refused.error}") from error
