"""Making the directory from which all authority comes."""

from __future__ import annotations

from shutil import rmtree
from time import time
from typing import TYPE_CHECKING, Final

from pbscast.errors import ConfigError
from pbscast.newfile import create
from pbscast_deploy.auth import layout
from pbscast_deploy.auth.certificates import make_certificates
from pbscast_deploy.auth.configuration import MAIN, STORE, auth_conf, leaf_conf
from pbscast_deploy.auth.keys import PRIVATE, PUBLIC, Key, Kind
from pbscast_deploy.auth.tokens import credentials, encode
from pbscast_fanout.askers import Role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pbscast_deploy.auth.certificates import Certificates

OPERATOR: Final = "root"
PBS: Final = "pbs"
PBS_NAME: Final = "PBS"

SYSTEM: Final = "system"
SYSTEM_NAME: Final = "SYS"
_KEYS: Final = {
    OPERATOR: Kind.OPERATOR,
    **dict.fromkeys((SYSTEM, PBS, *Role), Kind.ACCOUNT),
}
_SECRET: Final = ("keys", "accounts", "issued", "servers")
_OPEN: Final = 0o755


def found(directory: Path, hosts: Sequence[str]) -> None:
    """Make the directory, with certificates for these hosts.

    Raises ConfigError, and leaves what is there, if it exists or cannot be made; UsageError for
    what is no host.
    """
    certificates = make_certificates(hosts)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError as error:
        raise ConfigError(f"{directory}: exists: authority is never overwritten") from error
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be made: {error.strerror}") from error
    try:
        for name in _SECRET:
            (directory / name).mkdir(mode=0o700)
        (directory / "server").mkdir()
        (directory / "server").chmod(_OPEN)
        create(directory / "keys" / "ca.key", certificates.authority_key, PRIVATE)
        _lay(directory / "server" / "tls", certificates)
        _make_authority(directory)
    except OSError as error:
        rmtree(directory, ignore_errors=True)
        raise ConfigError(f"{directory}: cannot be written: {error.strerror}") from error


def lay_certificates(directory: Path, certificates: Certificates) -> None:
    """Make a directory with what a server presents, and its authority.

    Raises ConfigError, and leaves what is there, if it exists or cannot be made.
    """
    try:
        _lay(directory, certificates)
    except FileExistsError as error:
        raise ConfigError(f"{directory}: exists: certificates are not overwritten") from error
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written: {error.strerror}") from error


def _lay(directory: Path, certificates: Certificates) -> None:
    directory.mkdir()
    directory.chmod(_OPEN)
    _publish(directory / "ca.pem", certificates.authority)
    _publish(directory / "server.pem", certificates.server)
    create(directory / "server.key", certificates.server_key, PRIVATE)


def _make_authority(directory: Path) -> None:
    """Make the keys, the two accounts that there have to be, and the servers' configuration."""
    keys = {name: Key.make(kind) for name, kind in _KEYS.items()}
    for name, key in keys.items():
        key.save(directory / "keys" / f"{name}.nk")
    operator, system, pbs = keys[OPERATOR], keys[SYSTEM], keys[PBS]
    now = int(time())
    claims = {"sub": operator.public, "name": "pbscast", "iat": now}
    nats = {"type": "operator", "system_account": system.public}
    accounts = {
        system.public: (SYSTEM_NAME, layout.system_account(pbs.public)),
        pbs.public: (PBS_NAME, layout.pbs_account(keys[Role.SERVICE].public)),
    }
    preload = {
        account: encode({"sub": account, "name": name, "iat": now, "nats": content}, operator)
        for account, (name, content) in accounts.items()
    }
    for account, token in preload.items():
        create(directory / "accounts" / f"{account}.jwt", token.encode(), PRIVATE)
    server = directory / "server"
    content = auth_conf(encode({**claims, "nats": nats}, operator), system.public, preload, STORE)
    _publish(server / "auth.conf", content.encode())
    _publish(server / "nats-server.conf", MAIN.encode())
    _publish(server / "leaf.conf", leaf_conf(pbs.public).encode())
    create(directory / "keys" / "system.creds", _system_credentials(system).encode(), PRIVATE)


def _publish(path: Path, content: bytes) -> None:
    create(path, content, PUBLIC)
    path.chmod(PUBLIC)  # whatever the umask


def _system_credentials(system: Key) -> str:
    key = Key.make(Kind.USER)
    unlimited = {"type": "user", "subs": -1, "data": -1, "payload": -1}
    claims = {"sub": key.public, "name": SYSTEM, "iat": int(time()), "nats": unlimited}
    return credentials(encode(claims, system), key, "the system account")
