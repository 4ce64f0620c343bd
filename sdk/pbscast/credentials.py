"""Who we are to NATS: a credentials file, or what the broker of this machine hands out.

A file is read for each connection, so that whoever renews it needs to tell nobody. What a broker
hands out is kept in memory and nowhere else. Secrets never stand in a message.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import nkeys  # type: ignore[import-untyped]

from pbscast.broker import ask_broker
from pbscast.errors import ConfigError, PbscastError

if TYPE_CHECKING:
    from pathlib import Path

    from pbscast.broker import Handed

_PART: Final = r"-----BEGIN {0}-----\s+(\S+)\s+-+END {0}-----"
_TOKEN: Final = re.compile(_PART.format("NATS USER JWT"))
_SEED: Final = re.compile(_PART.format("USER NKEY SEED"))
_RENEWED: Final = 2 / 3
"""Of the time for which a credential holds, after which another is asked for."""
_LOOK: Final = 30.0
_DAMAGE: Final = (
    *(LookupError, ValueError, TypeError, AttributeError, OverflowError),
    nkeys.NkeysError,
)
"""What one that was written by hand or cut off leads to."""


@dataclass(frozen=True, slots=True)
class Credential:
    """One that a server is shown."""

    token: str = field(repr=False)
    seed: str = field(repr=False)
    issued: datetime | None
    expires: datetime | None

    @classmethod
    def parse(cls, text: str, where: str) -> Credential:
        """Read a credentials file's text. Raises ConfigError; ``where`` it came from."""
        token, seed = _TOKEN.search(text), _SEED.search(text)
        if token is None or seed is None:
            raise ConfigError(f"{where} holds no credentials of NATS")
        try:
            claims = _claims(token[1])
            credential = cls(token[1], seed[1], _time(claims, "iat"), _time(claims, "exp"))
            credential.sign("")
        except _DAMAGE as error:
            raise ConfigError(f"{where} holds damaged credentials") from error
        return credential

    @property
    def is_expired(self) -> bool:
        """Whether it is, by this machine's clock."""
        return self.expires is not None and self.expires <= datetime.now(UTC)

    @property
    def due(self) -> datetime | None:
        """When it is time to see whether there is another; None: never."""
        if self.expires is None:
            return None
        issued = self.issued or datetime.now(UTC)
        return issued + (self.expires - issued) * _RENEWED

    @property
    def patience(self) -> float:
        """Seconds before it is worth to look for another once more."""
        if self.expires is None:
            return _LOOK
        left = (self.expires - datetime.now(UTC)).total_seconds()
        return min(max(left / 4, 1), _LOOK)

    def sign(self, nonce: str) -> bytes:
        """Return what proves to a server that we hold the secret."""
        pair = nkeys.from_seed(bytearray(self.seed.encode()))
        signed: bytes = pair.sign(nonce.encode())
        pair.wipe()
        return base64.b64encode(signed)


class Source(ABC):
    """Where credentials come from."""

    name: str
    """What it is, for a message."""
    newest: Credential | None = None
    """What was had last."""

    @abstractmethod
    async def have(self) -> Handed | None:
        """Make sure that there is one; return what came with it.

        Raises ConfigError, UnavailableError and AccessDeniedError.
        """

    @abstractmethod
    async def renew(self) -> bool:
        """Look for another; return whether it is one. Raises as ``have``."""

    @abstractmethod
    def show(self) -> Credential:
        """Return what to show to a server; there has to be one."""


class FileSource(Source):
    """A file that may be replaced at any time."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    async def have(self) -> None:
        """See Source."""
        if self.newest is None:
            self.newest = self._read()

    async def renew(self) -> bool:
        """See Source."""
        before, self.newest = self.newest, self._read()
        return before is None or self.newest.token != before.token

    def show(self) -> Credential:
        """See Source; while it is being replaced the one before."""
        with suppress(ConfigError):
            self.newest = self._read()
        assert self.newest is not None  # noqa: S101 - see have
        return self.newest

    def _read(self) -> Credential:
        try:
            text = self._path.read_text()
        except OSError as error:
            message = f"cannot read the credentials file {self._path}: {error.strerror}"
            raise ConfigError(message) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self._path} holds no credentials of NATS") from error
        return Credential.parse(text, str(self._path))


class BrokerSource(Source):
    """The broker of this machine, asked for one before that before runs out."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.name = f"the broker at {path}"
        self._path = path
        self._timeout = timeout
        self._handed: Handed | None = None

    async def have(self) -> Handed:
        """See Source."""
        newest, handed = self.newest, self._handed
        if newest is None or handed is None or newest.is_expired:
            await self.renew()
        elif newest.due is not None and newest.due <= datetime.now(UTC):
            with suppress(PbscastError):  # ours still holds
                await self.renew()
        assert self._handed is not None  # noqa: S101 - renew sets it or raises
        return self._handed

    async def renew(self) -> bool:
        """See Source."""
        handed = await ask_broker(self._path, self._timeout)
        before, self.newest = self.newest, Credential.parse(handed.credentials, self.name)
        self._handed = handed
        return before is None or self.newest.token != before.token

    def show(self) -> Credential:
        """See Source."""
        assert self.newest is not None  # noqa: S101 - see have
        return self.newest


async def wait_until(moment: datetime) -> None:
    """Return then, also on a machine that slept or whose clock was set."""
    while True:
        left = (moment - datetime.now(UTC)).total_seconds()
        if left <= 0:
            return
        await asyncio.sleep(min(left, _LOOK))


def _claims(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return claims


def _time(claims: dict[str, Any], name: str) -> datetime | None:
    seconds = claims.get(name)
    return None if not seconds else datetime.fromtimestamp(seconds, UTC)
