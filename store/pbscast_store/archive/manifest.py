"""What an archive says of itself: the manifest beside its two Parquet files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pbscast.errors import DecodeError, UnsupportedError
from pbscast_store.archive.files import reading, replacing, sha256

Usage = Literal["full", "thinned"]

Hex = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ArchivedFile(BaseModel):
    """A Parquet file, and how to tell that it is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern="^[^/]+$")]
    bytes: int
    sha256: Hex

    @classmethod
    def of(cls, path: Path) -> ArchivedFile:
        """As it is on the disk now."""
        with reading(path):
            return cls(name=path.name, bytes=path.stat().st_size, sha256=sha256(path))


class Contents(BaseModel):
    """Which events an archive holds, and their place in the site's chain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: str
    first_position: int
    last_position: int
    previous: Hex
    """The chain's digest before the first event; zeros where the chain had not begun."""
    digest: Hex
    """The chain's digest after the last event."""
    leaves: Hex
    """SHA-256 over the leaves of all events, also of those logged before the chain began."""
    earliest: datetime
    """The least `time` of an event."""
    latest: datetime
    first_logged: datetime
    last_logged: datetime
    thinnable: Hex
    """SHA-256 of the positions of events whose payload may be thinned out."""
    unchained: int
    """Events that were logged before the chain began: the first ones."""

    @property
    def count(self) -> int:
        """Positions have no gaps."""
        return self.last_position - self.first_position + 1


class Manifest(BaseModel):
    """One partition of the log, of one site, as Parquet files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["pbscast-archive-1"] = "pbscast-archive-1"
    partition: str
    contents: Contents
    usage: Usage
    """Whether `usage` events have been reduced to their leaves."""
    thinned: int
    """How many have been."""
    events: ArchivedFile
    objects: ArchivedFile


def manifest_name(site: str, partition: str) -> str:
    """Where the manifest stands below the archive directory."""
    return f"{quote(site, safe='').replace('.', '%2E')}/{partition}.json"


def events_name(partition: str, usage: Usage) -> str:
    """What the file with the events is called."""
    return f"{partition}.{usage}.events.parquet"


def objects_name(partition: str, usage: Usage) -> str:
    """What the file with the index of objects is called."""
    return f"{partition}.{usage}.objects.parquet"


def read_manifest(path: Path) -> Manifest:
    """What an archive says of itself.

    Raises NotFoundError, UnavailableError, DecodeError, and UnsupportedError for a later format.
    """
    with reading(path):
        text = path.read_bytes()
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        if where == "format":
            raise UnsupportedError(
                f"{path}: an archive of another format: upgrade pbscast"
            ) from error
        raise DecodeError(
            f"{path}: not a manifest of an archive: {where}: {fault['msg']}"
        ) from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """From now on the archive is what this manifest says, whatever happens."""
    with replacing(path) as file:
        file.write(f"{manifest.model_dump_json(indent=1)}\n".encode())
