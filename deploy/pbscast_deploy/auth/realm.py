"""The directory from which all authority comes: keys, accounts, and what has been issued.

    keys/root.nk         the operator's, signs accounts; whoever has it has everything
    keys/<role>.nk       signs the credentials of that role, and of no other
    keys/pbs.nk          the account PBS; keys/system.nk, system.creds: the system account
    keys/ca.key          signs server certificates
    accounts/<id>.jwt    an account, revocations included
    issued/<key>.jwt     a credential that was issued, without its secret
    server/              what nats-server needs: copy it there

The directory is for its owner alone (0700, files 0600).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from time import time
from typing import TYPE_CHECKING, Any, Final

from pbscast.errors import ConfigError, DecodeError, NotFoundError
from pbscast.newfile import create, replacing
from pbscast_deploy.auth import layout
from pbscast_deploy.auth.certificates import make_certificates
from pbscast_deploy.auth.configuration import MAIN, auth_conf, leaf_conf
from pbscast_deploy.auth.keys import PRIVATE, Key, Kind
from pbscast_deploy.auth.layout import Principal, Role
from pbscast_deploy.auth.tokens import credentials, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

STORE: Final = Path("/var/lib/nats/accounts")
"""Where nats-server keeps accounts, unless its configuration is changed."""

_OPERATOR: Final = "root"
_SYSTEM: Final = "system"
_PBS: Final = "pbs"
_PBS_NAME: Final = "PBS"
_KEYS: Final = {
    _OPERATOR: Kind.OPERATOR,
    **dict.fromkeys((_SYSTEM, _PBS, *Role), Kind.ACCOUNT),
}
_EVERYBODY: Final = "*"
_ROLE_TAG: Final = "role:"
_SITE_TAG: Final = "site:"


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that was issued."""

    key: str
    """Its public key, by which it can be revoked."""
    principal: Principal
    account: str
    issued: datetime
    expires: datetime
    is_revoked: bool

    @property
    def state(self) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.is_revoked:
            return "revoked"
        return "expired" if self.expires <= datetime.now(UTC) else "valid"


@dataclass(frozen=True, slots=True)
class Issued:
    """What issuing a credential gives."""

    content: str
    """The credentials file: secret."""
    account: str
    """The token of the account, which the servers have to know."""
    credential: Credential


class Realm:
    """One operator and all that it vouches for. Every method raises ConfigError for damaged files.

    Several processes may work on the same directory.
    """

    def __init__(self, directory: Path) -> None:
        """Raises ConfigError where ``init`` has not been."""
        if not (directory / "keys" / f"{_OPERATOR}.nk").exists():
            raise ConfigError(f"{directory}: holds no authority: pbscastd auth init {directory}")
        self._directory = directory

    @classmethod
    def init(cls, directory: Path, hosts: Sequence[str]) -> Realm:
        """Make the directory, with certificates for these hosts.

        Raises ConfigError, and leaves what is there, if it exists or cannot be made.
        """
        certificates = make_certificates(hosts)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError as error:
            raise ConfigError(f"{directory}: exists: authority is never overwritten") from error
        except OSError as error:
            raise ConfigError(f"{directory}: cannot be made: {error.strerror}") from error
        try:
            for name in ("keys", "accounts", "issued", "server", "server/tls"):
                (directory / name).mkdir(mode=0o700)
            tls = directory / "server" / "tls"
            create(directory / "keys" / "ca.key", certificates.authority_key, PRIVATE)
            create(tls / "ca.pem", certificates.authority, PRIVATE)
            create(tls / "server.pem", certificates.server, PRIVATE)
            create(tls / "server.key", certificates.server_key, PRIVATE)
            _make_authority(directory)
        except OSError as error:
            rmtree(directory, ignore_errors=True)
            raise ConfigError(f"{directory}: cannot be written: {error.strerror}") from error
        return cls(directory)

    @property
    def system_credentials(self) -> Path:
        """The credentials with which accounts are told to the servers."""
        return self._directory / "keys" / "system.creds"

    @property
    def authority(self) -> Path:
        """The certificates that the servers' own are checked with."""
        return self._directory / "server" / "tls" / "ca.pem"

    def accounts(self) -> dict[str, str]:
        """Return the token of every account, by its id."""
        return {
            path.stem: _read(path) for path in sorted((self._directory / "accounts").glob("*.jwt"))
        }

    def issue(self, principal: Principal, ttl: timedelta) -> Issued:
        """Make a credential that expires after ``ttl``, and the account if it is new.

        If the sites are others than before, the account is changed, for all credentials of it.
        """
        with self._locked():
            account, token = self._provide(principal)
            claims = decode(token)
            # What is revoked for everybody is so up to a second, that one included.
            issued = max(int(time()), _revocations(claims).get(_EVERYBODY, 0) + 1)
            expires = issued + int(ttl.total_seconds())
            key = Key.make(Kind.USER)
            user = {"sub": key.public, "name": principal.name, "iat": issued, "exp": expires}
            signed = encode({**user, "nats": _user(principal, account)}, self._key(principal.role))
            self._create(f"issued/{key.public}.jwt", signed)
        content = credentials(signed, key, principal.name)
        return Issued(content, token, _credential(decode(signed), claims))

    def revoke(self, who: str) -> list[str]:
        """Revoke a credential by its public key, or all of a name; return the changed accounts.

        Raises NotFoundError if there is nothing of the kind.
        """
        with self._locked():
            doomed = self._doomed(who)
            if not doomed:
                raise NotFoundError(f"nothing was issued to {who}: see pbscastd auth list")
            return [self._revoke(account, keys) for account, keys in doomed.items()]

    def refresh(self) -> list[str]:
        """Give every account what this release gives its role; return all accounts."""
        with self._locked():
            service = self._key(Role.SERVICE).public
            self._uphold(self._pbs(), _PBS_NAME, layout.pbs_account(service))
            for claims in map(decode, self.accounts().values()):
                principal = _principal(claims)
                if principal is not None:
                    self._provide(principal)
            return list(self.accounts().values())

    def issued(self) -> list[Credential]:
        """Return what has been issued here, by name, then by time."""
        return sorted(self._issued(), key=lambda one: (one.principal.name, one.issued))

    def _issued(self) -> Iterator[Credential]:
        accounts = {account: decode(token) for account, token in self.accounts().items()}
        for path in (self._directory / "issued").glob("*.jwt"):
            claims = _decode(path)
            yield _credential(claims, accounts[claims["nats"]["issuer_account"]])

    def _doomed(self, who: str) -> dict[str, list[str]]:
        """By account what has to be revoked in it.

        Of a person all that was ever issued, whoever did; services share an account.
        """
        found = [one for one in self._issued() if who in (one.key, one.principal.name)]
        doomed: dict[str, list[str]] = {}
        for one in found:
            if who == one.key or one.principal.role is Role.SERVICE:
                doomed.setdefault(one.account, []).append(one.key)
        for account, claims in ((key, decode(token)) for key, token in self.accounts().items()):
            principal = _principal(claims)
            if principal is not None and principal.name == who:
                doomed[account] = [_EVERYBODY]
        return doomed

    def _revoke(self, account: str, keys: list[str]) -> str:
        claims = _decode(self._account_path(account))
        now = max(int(time()), claims["iat"] + 1)
        revoked = {**_revocations(claims), **dict.fromkeys(keys, now)}
        return self._sign(account, {**claims, "nats": {**claims["nats"], "revocations": revoked}})

    def _provide(self, principal: Principal) -> tuple[str, str]:
        """Return a principal's account and its token, made or changed if need be."""
        pbs = self._pbs()
        if principal.role is Role.SERVICE:
            return pbs, _read(self._account_path(pbs))
        account = principal.account
        wanted = layout.personal_account(principal, pbs, self._key(principal.role).public)
        wanted["tags"] = _tags(principal)
        return account, self._uphold(account, principal.name, wanted)

    def _uphold(self, account: str, name: str, wanted: dict[str, Any]) -> str:
        """Return an account's token, made or changed if it is not as wanted but for revocations."""
        path = self._account_path(account)
        old: dict[str, Any] = {"sub": account, "nats": {}}
        if path.exists():
            old = _decode(path)
        if revoked := _revocations(old):
            wanted = {**wanted, "revocations": revoked}
        if {**wanted, "version": old["nats"].get("version")} == old["nats"]:
            return _read(path)
        return self._sign(account, {**old, "name": name, "nats": wanted})

    def _sign(self, account: str, claims: dict[str, Any]) -> str:
        """Sign an account and keep it. Servers take it only if it is newer than what they have."""
        issued = max(int(time()), claims.get("iat", 0) + 1)
        token = encode({**claims, "iat": issued}, Key.load(self._key_path(_OPERATOR)))
        path = self._account_path(account)
        try:
            with replacing(path) as file:
                os.fchmod(file.fileno(), PRIVATE)
                file.write(token.encode())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
        return token

    def _pbs(self) -> str:
        return Key.load(self._key_path(_PBS)).public

    def _key(self, role: Role) -> Key:
        return Key.load(self._key_path(role))

    def _key_path(self, name: str) -> Path:
        return self._directory / "keys" / f"{name}.nk"

    def _account_path(self, account: str) -> Path:
        return self._directory / "accounts" / f"{account}.jwt"

    def _create(self, name: str, token: str) -> None:
        try:
            create(self._directory / name, token.encode(), PRIVATE)
        except OSError as error:
            raise ConfigError(
                f"{self._directory / name}: cannot be written: {error.strerror}"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing the same accounts."""
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _make_authority(directory: Path) -> None:
    """Make the keys, the two accounts that there have to be, and the servers' configuration."""
    keys = {name: Key.make(kind) for name, kind in _KEYS.items()}
    for name, key in keys.items():
        key.save(directory / "keys" / f"{name}.nk")
    operator, system, pbs = keys[_OPERATOR], keys[_SYSTEM], keys[_PBS]
    now = int(time())
    claims = {"sub": operator.public, "name": "pbscast", "iat": now}
    nats = {"type": "operator", "system_account": system.public}
    accounts = {
        system.public: ("SYS", layout.system_account()),
        pbs.public: (_PBS_NAME, layout.pbs_account(keys[Role.SERVICE].public)),
    }
    preload = {
        account: encode({"sub": account, "name": name, "iat": now, "nats": content}, operator)
        for account, (name, content) in accounts.items()
    }
    for account, token in preload.items():
        create(directory / "accounts" / f"{account}.jwt", token.encode(), PRIVATE)
    server = directory / "server"
    content = auth_conf(encode({**claims, "nats": nats}, operator), system.public, preload, STORE)
    create(server / "auth.conf", content.encode(), PRIVATE)
    create(server / "nats-server.conf", MAIN.encode(), PRIVATE)
    create(server / "leaf.conf", leaf_conf(pbs.public).encode(), PRIVATE)
    create(directory / "keys" / "system.creds", _system_credentials(system).encode(), PRIVATE)


def _system_credentials(system: Key) -> str:
    key = Key.make(Kind.USER)
    unlimited = {"type": "user", "subs": -1, "data": -1, "payload": -1}
    claims = {"sub": key.public, "name": _SYSTEM, "iat": int(time()), "nats": unlimited}
    return credentials(encode(claims, system), key, "the system account")


def _user(principal: Principal, account: str) -> dict[str, Any]:
    nats: dict[str, Any] = {
        "type": "user",
        "issuer_account": account,
        "tags": _tags(principal),
    }
    if principal.role is Role.SERVICE:
        return {**nats, "subs": -1, "data": -1, "payload": -1}
    # A token with limits of its own is refused where the key that signs has a scope.
    return nats


def _tags(principal: Principal) -> list[str]:
    return [f"{_ROLE_TAG}{principal.role}", *(f"{_SITE_TAG}{site}" for site in principal.sites)]


def _principal(claims: dict[str, Any]) -> Principal | None:
    """Whom a token is for; None for the accounts of nobody."""
    tags: list[str] = claims["nats"].get("tags", [])
    roles = [tag.removeprefix(_ROLE_TAG) for tag in tags if tag.startswith(_ROLE_TAG)]
    sites = (tag.removeprefix(_SITE_TAG) for tag in tags if tag.startswith(_SITE_TAG))
    return Principal(claims["name"], Role(roles[0]), tuple(sites)) if roles else None


def _credential(claims: dict[str, Any], account: dict[str, Any]) -> Credential:
    principal = _principal(claims)
    if principal is None:
        raise ConfigError(f"the credential {claims['sub']} was not issued by pbscastd")
    revoked = _revocations(account)
    until = max(revoked.get(claims["sub"], 0), revoked.get(_EVERYBODY, 0))
    return Credential(
        key=claims["sub"],
        principal=principal,
        account=account["sub"],
        issued=datetime.fromtimestamp(claims["iat"], UTC),
        expires=datetime.fromtimestamp(claims["exp"], UTC),
        is_revoked=claims["iat"] <= until,
    )


def _revocations(account: dict[str, Any]) -> dict[str, int]:
    return dict(account["nats"].get("revocations", {}))


def _decode(path: Path) -> dict[str, Any]:
    try:
        return decode(_read(path))
    except DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
