"""Writing files so that a name always stands for a whole file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pbscast import newfile
from pbscast.errors import AccessDeniedError, NotFoundError, PbscastError, UnavailableError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """As `newfile.replacing`: the file takes the place of `path` whole, at the end, durably.

    Raises UnavailableError (a full disk) or AccessDeniedError with one line that names `path`.
    """
    with writing(path), newfile.replacing(path) as file:
        yield file


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
    """In a directory that is there, durably; nothing if it is there itself."""
    with writing(path):
        path.mkdir(exist_ok=True)
        newfile.sync(path.parent)


def _failure(path: Path, what: str, error: OSError) -> PbscastError:
    # pyarrow's text says more than the system's, none of it of use.
    reason = os.strerror(error.errno) if error.errno else str(error).partition("\n")[0]
    line = f"{path}: {what}: {reason}"
    if isinstance(error, FileNotFoundError):
        return NotFoundError(line)
    return AccessDeniedError(line) if isinstance(error, PermissionError) else UnavailableError(line)
