"""A file that comes into being whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pbscast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def new_file(path: Path) -> Iterator[IO[str]]:
    """Give a text file to write; at the end of the block it takes the place of ``path`` at once.

    If the block raises, what was at ``path`` stays as it was. Raises UsageError where the file
    cannot be written, also of the block's own writing.
    """
    partial: str | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "is a directory")
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o666 & ~_umask())
        Path(partial).replace(path)
        partial = None
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if partial is not None:
            with suppress(OSError):
                Path(partial).unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
