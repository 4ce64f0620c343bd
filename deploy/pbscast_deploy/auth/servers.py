"""The nats-servers that accounts are told to, and what each of them has been told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pbscast.errors import ConfigError
from pbscast.settings import redacted
from pbscast_deploy.auth.accounts import read, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_PORT: Final = 4222


@dataclass(frozen=True, slots=True)
class Server:
    """One that has been told something."""

    url: str
    told: frozenset[str]
    """Digests of the accounts' tokens."""

    @property
    def place(self) -> str:
        """Return its URL as it may be shown."""
        return redacted(self.url)

    @property
    def address(self) -> str:
        """Return its host and port."""
        return address(self.url)

    def lacks(self, tokens: Mapping[str, str]) -> dict[str, str]:
        """Return those tokens, by account, that it has not been told."""
        return {account: one for account, one in tokens.items() if _digest(one) not in self.told}


class Servers:
    """Their files, one each. Every method raises ConfigError for damaged ones."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def all(self) -> list[Server]:
        """Return those that are known, by name."""
        return [_parse(path) for path in sorted(self._directory.glob("*.json"))]

    def get(self, url: str) -> Server:
        """Return one, known or not, by whatever URL of the same host and port."""
        path = self._path(url)
        return Server(url, _parse(path).told if path.exists() else frozenset())

    def note(self, url: str, tokens: Iterable[str], present: Iterable[str]) -> None:
        """Remember that a server knows these tokens, of which those that are ``present`` count."""
        told = {*self.get(url).told, *map(_digest, tokens)} & {*map(_digest, present)}
        content = json.dumps({"url": url, "told": sorted(told)}).encode()
        try:
            self._directory.mkdir(0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self._directory}: cannot be made: {error.strerror}") from error
        replace(self._path(url), content)

    def forget(self, url: str) -> bool:
        """Whether it was known; from now on it is not."""
        path = self._path(url)
        known = path.exists()
        path.unlink(missing_ok=True)
        return known

    def _path(self, url: str) -> Path:
        return self._directory / f"{address(url)}.json"


def address(url: str) -> str:
    """Return a server's host and port, by which it is known."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _PORT}"


def _parse(path: Path) -> Server:
    try:
        content = json.loads(read(path))
        return Server(str(content["url"]), frozenset(map(str, content["told"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not what pbscastd auth keeps of a server: remove it") from error


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()[:32]
