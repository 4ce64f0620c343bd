"""A Unix socket for everybody on this machine, in a place where nobody else can put one."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from pbscast.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BACKLOG: Final = 65_535
"""The kernel's `net.core.somaxconn` holds."""
_EVERYBODY: Final = 0o666
_OTHERS_WRITE: Final = 0o022
_PROBE_SECONDS: Final = 1.0
_UCRED: Final = "iII"


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen on a socket, which is removed at the end.

    One that nobody listens on any more is replaced, anything else is not. Raises ConfigError.
    """
    _check_directory(path.parent)
    try:
        with _alone_in(path.parent):
            _clear(path)
            server = _bind(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be listened on: {error.strerror or error}") from error
    ours = path.lstat()
    try:
        yield server
    finally:
        server.close()
        with suppress(OSError), _alone_in(path.parent):
            if os.path.samestat(path.lstat(), ours):
                path.unlink()


def peer(connection: socket.socket) -> int:
    """Return the uid of whoever connected, as the kernel noted it then."""
    size = struct.calcsize(_UCRED)
    _pid, uid, _gid = struct.unpack(
        _UCRED, connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(uid)


def _check_directory(directory: Path) -> None:
    """Who can write to it could put a socket of his own in our place, and collect credentials."""
    try:
        found = directory.stat()
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be looked at: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{directory}: is no directory")
    if found.st_mode & _OTHERS_WRITE or found.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{directory}: others may write to it, and could put a socket of theirs in our place"
        )


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: is there already and no socket: it is left as it is")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass
    raise ConfigError(f"{path}: somebody listens there already")


def _bind(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(str(path))
        path.chmod(_EVERYBODY)
        server.listen(_BACKLOG)
    except OSError:
        server.close()
        raise
    return server


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep another broker from looking at the same time."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
