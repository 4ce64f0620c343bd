"""The accounts of a realm: what each is, signed by the operator's key, one file each."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from enum import StrEnum
from functools import cached_property
from time import time
from typing import TYPE_CHECKING, Any, Final

from pbscast.errors import ConfigError, DecodeError
from pbscast.newfile import replacing
from pbscast_deploy.auth import layout
from pbscast_deploy.auth.founding import OPERATOR, PBS, PBS_NAME, SYSTEM, SYSTEM_NAME
from pbscast_deploy.auth.issuing import EVERYBODY, principal_of, revocations, tags_of
from pbscast_deploy.auth.keys import PRIVATE, Key, Kind
from pbscast_deploy.auth.layout import Policy, Principal
from pbscast_deploy.auth.tokens import decode, encode
from pbscast_fanout.askers import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_CLOSED_TAG: Final = "closed:"

Claims = dict[str, Any]


class Closed(StrEnum):
    """Why somebody's account lets nobody in."""

    BARRED = "barred"
    """An administrator said so, and has to say otherwise."""
    LEFT = "left"
    """He was not among those to be enrolled; he may be again."""


class Accounts:
    """The files. Every method raises ConfigError for damaged ones.

    What changes them is called within ``locked``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the same accounts."""
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def key(self, role: Role) -> Key:
        """Return the key that signs credentials of a role."""
        return self._key(role)

    @cached_property
    def pbs(self) -> str:
        """The id of the account PBS."""
        return self._key(PBS).public

    @cached_property
    def system(self) -> str:
        """The id of the system account."""
        return self._key(SYSTEM).public

    @property
    def policy(self) -> Policy:
        """Where users see others' jobs."""
        path = self._directory / "sites.json"
        if not path.exists():
            return Policy()
        try:
            sites = json.loads(read(path))
        except ValueError as error:
            raise ConfigError(f"{path}: not JSON") from error
        if not isinstance(sites, dict) or not all(isinstance(one, bool) for one in sites.values()):
            raise ConfigError(f"{path}: not the name of each site, and true or false")
        return Policy(sites)

    @policy.setter
    def policy(self, policy: Policy) -> None:
        replace(self._directory / "sites.json", json.dumps(dict(policy.sites)).encode())

    def tokens(self) -> dict[str, str]:
        """Return the token of every account, by its id."""
        paths = sorted((self._directory / "accounts").glob("*.jwt"))
        return {path.stem: read(path) for path in paths}

    def preload(self) -> dict[str, str]:
        """Return the tokens, by id, that a server has to know before it can be told any."""
        return {account: read(self._path(account)) for account in (self.system, self.pbs)}

    def all(self) -> dict[str, Claims]:
        """Return what every account is, by its id."""
        return {account: decode(token) for account, token in self.tokens().items()}

    def present(self, account: str) -> Claims:
        """Return what an account is."""
        return decoded(self._path(account))

    def claims(self, account: str) -> Claims | None:
        """Return what an account is; None if there is none."""
        return self.present(account) if self._path(account).exists() else None

    def provide(self, people: Iterable[Principal]) -> Iterator[tuple[str, str]]:
        """Yield each one's account and its token, made, changed or opened if need be."""
        policy = self.policy
        for principal in people:
            if principal.role is Role.SERVICE:
                yield self.pbs, read(self._path(self.pbs))
            else:
                signer = self._signers[principal.role]
                wanted = layout.personal_account(principal, policy, self.pbs, signer)
                wanted["tags"] = tags_of(principal)
                yield principal.account, self._uphold(principal.account, principal.name, wanted)

    def refresh(self) -> None:
        """Give every account what this release and the sites give its role."""
        pbs_account = layout.pbs_account(self.key(Role.SERVICE).public)
        self._uphold(self.pbs, PBS_NAME, pbs_account)
        self._uphold(self.system, SYSTEM_NAME, layout.system_account(self.pbs))
        open_ones = (claims for claims in self.all().values() if why_closed(claims) is None)
        people = (principal_of(claims) for claims in open_ones)
        for _ in self.provide(person for person in people if person is not None):
            pass

    def close(self, principal: Principal, why: Closed) -> str:
        """Let nobody into somebody's account, also with what was issued before it is opened again.

        Return its token.
        """
        wanted = layout.closed_account()
        wanted["tags"] = [*tags_of(principal), f"{_CLOSED_TAG}{why}"]
        old = self.claims(principal.account)
        if old is None or why_closed(old) is None:
            now = max(int(time()), 0 if old is None else old["iat"] + 1)
            wanted["revocations"] = {EVERYBODY: now}
        return self._uphold(principal.account, principal.name, wanted)

    def rekey(self, role: Role) -> None:
        """Make another key for a role, and revoke what was signed with the one before.

        After it the keys have to be read anew.
        """
        replace(self._key_path(role), Key.make(Kind.ACCOUNT).seed + b"\n")
        people = {account: principal_of(claims) for account, claims in self.all().items()}
        roles = {account: one.role for account, one in people.items() if one is not None}
        for account, its_role in {**roles, self.pbs: Role.SERVICE}.items():
            if its_role is role:
                self.revoke(account, [EVERYBODY])

    def revoke(self, account: str, keys: Sequence[str]) -> str:
        """Revoke these keys, or EVERYBODY, up to now. Return the account's token."""
        claims = self.present(account)
        now = max(int(time()), claims["iat"] + 1)
        revoked = {**revocations(claims), **dict.fromkeys(keys, now)}
        return self._sign(account, {**claims, "nats": {**claims["nats"], "revocations": revoked}})

    def _uphold(self, account: str, name: str, wanted: Claims) -> str:
        """Return an account's token, made or changed if it is not as wanted but for revocations."""
        path = self._path(account)
        old = self.claims(account) or {"sub": account, "nats": {}}
        if revoked := self._still_revoked({**revocations(old), **wanted.get("revocations", {})}):
            wanted = {**wanted, "revocations": revoked}
        if {**wanted, "version": old["nats"].get("version")} == old["nats"]:
            return read(path)
        return self._sign(account, {**old, "name": name, "nats": wanted})

    def _still_revoked(self, revoked: dict[str, int]) -> dict[str, int]:
        """Without those keys that are of no use any more: expired, or everybody's are revoked."""
        until = revoked.get(EVERYBODY, 0)
        return {
            key: moment
            for key, moment in revoked.items()
            if key == EVERYBODY or (moment > until and not self._is_expired(key))
        }

    def _is_expired(self, key: str) -> bool:
        path = self._directory / "issued" / f"{key}.jwt"
        return path.exists() and decoded(path)["exp"] < time()

    def _sign(self, account: str, claims: Claims) -> str:
        """Sign an account and keep it. Servers take it only if it is newer than what they have."""
        issued = max(int(time()), claims.get("iat", 0) + 1)
        token = encode({**claims, "iat": issued}, self._operator)
        replace(self._path(account), token.encode())
        return token

    @cached_property
    def _operator(self) -> Key:
        return self._key(OPERATOR)

    @cached_property
    def _signers(self) -> dict[Role, str]:
        return {role: self._key(role).public for role in Role}

    def _key(self, name: str) -> Key:
        return Key.load(self._key_path(name))

    def _key_path(self, name: str) -> Path:
        return self._directory / "keys" / f"{name}.nk"

    def _path(self, account: str) -> Path:
        return self._directory / "accounts" / f"{account}.jwt"


def why_closed(claims: Claims) -> Closed | None:
    """Return why an account lets nobody in; None if it is open."""
    tags: list[str] = claims["nats"].get("tags", [])
    reasons = [tag.removeprefix(_CLOSED_TAG) for tag in tags if tag.startswith(_CLOSED_TAG)]
    return Closed(reasons[0]) if reasons else None


def decoded(path: Path) -> Claims:
    """Return what the token in a file says. Raises ConfigError."""
    try:
        return decode(read(path))
    except DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def read(path: Path) -> str:
    """Return a file's text. Raises ConfigError."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def replace(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Write a file at once, by default for its owner alone. Raises ConfigError."""
    try:
        with replacing(path) as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
