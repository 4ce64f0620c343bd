"""Writing files so that a name always stands for a whole file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pbscast.errors import AccessDeniedError, NotFoundError, PbscastError, UnavailableError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; what is written there takes its place at the end.

    Then it is durable. After an error `path` is as it was, and the temporary file is gone; a crash
    may leave that file, which the next attempt overwrites. Raises UnavailableError (a full disk) or
    AccessDeniedError with one line that names `path`.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with writing(path):
            yield part
            _sync(part)
            part.replace(path)
            _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises the system's errors as ours: `path` could not be written."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise  # a server's, from where the contents come
        raise _failure(path, "cannot be written", error) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises the system's errors as ours: `path` could not be read."""
    try:
        yield
    except OSError as error:
        raise _failure(path, "cannot be read", error) from error


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_directory(path: Path) -> None:
    """With all above it; nothing if it is there."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(path: Path, what: str, error: OSError) -> PbscastError:
    # pyarrow's text says more than the system's, none of it of use.
    reason = os.strerror(error.errno) if error.errno else str(error).partition("\n")[0]
    line = f"{path}: {what}: {reason}"
    if isinstance(error, FileNotFoundError):
        return NotFoundError(line)
    return AccessDeniedError(line) if isinstance(error, PermissionError) else UnavailableError(line)
