"""A file that comes into being whole, or not at all."""

from __future__ import annotations

import errno
import io
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from pbscast.errors import PbscastError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def new_file(path: Path) -> Iterator[IO[str]]:
    """As `replacing`, for text.

    Raises UsageError where the file cannot be made, UnavailableError where it has no room.
    """
    try:
        with replacing(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
            try:
                yield text
            finally:
                text.detach()
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise _failure(path, error, UnavailableError if is_full else UsageError) from error


def check_place(path: Path) -> None:
    """Raise UsageError, as `new_file` would, where it is plain that no file can be made."""
    target = Path(os.path.realpath(path))
    number = 0
    if target.is_dir():
        number = errno.EISDIR
    elif not target.parent.is_dir():
        number = errno.ENOTDIR if target.parent.exists() else errno.ENOENT
    elif (target.is_file() or not target.exists()) and not os.access(target.parent, os.W_OK):
        number = errno.EACCES
    if number:
        raise _failure(path, OSError(number, os.strerror(number)), UsageError)


def _failure(path: Path, error: OSError, kind: type[PbscastError]) -> PbscastError:
    return kind(f"{path}: cannot be written: {error.strerror or error}")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; at the end of the block it takes the place of ``path`` at once.

    From then on it is there after a crash as well. If the block raises, what was at ``path`` stays
    as it was; a crash may leave a hidden file ``.NAME.….part`` beside it. A symbolic link is
    followed. What is no regular file (a pipe, a device) is written to as it is. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    with _partial(target, 0o666) as (part, file):
        yield file
        _finish(file)
        part.replace(target)
    sync(target.parent)


def create(path: Path, content: bytes, permissions: int) -> None:
    """Make a file that was not there, durably. Raises FileExistsError, OSError."""
    with _partial(path, permissions) as (part, file):
        file.write(content)
        _finish(file)
        os.link(part, path)  # which, unlike a rename, replaces nothing
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, survive a crash. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _partial(path: Path, permissions: int) -> Iterator[tuple[Path, BinaryIO]]:
    """A file beside ``path`` of a name that nobody can have foreseen, gone at the end."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield part, file
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _finish(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
