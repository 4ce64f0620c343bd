"""Signed checkpoints: what the log of a site was at a moment, so that it cannot be rewritten.

The *canonical form* of a checkpoint, which is what is signed, is the UTF-8 of these texts, joined
by single NUL bytes:

    "pbscast-checkpoint-1", site, number, position, digest (hexadecimal), logged, chained_after,
    signed, key id

with numbers in decimal and both times as microseconds since 1970-01-01 00:00 UTC.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Final

import asyncpg

from pbscast.errors import ConfigError, ConflictError, DecodeError
from pbscast.newfile import replacing
from pbscast_store.audit.findings import Finding
from pbscast_store.connection import check_schema, check_server, close, connect, place
from pbscast_store.errors import translated
from pbscast_store.statements import query

if TYPE_CHECKING:
    from pbscast_store.audit.keys import PublicKeys, SigningKey


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was signed. Times are in microseconds since 1970-01-01 UTC."""

    site: str
    number: int
    """1, 2, 3 … per site without gaps."""
    position: int
    digest: bytes
    logged: int
    chained_after: int
    signed: int
    key_id: str
    signature: bytes = b""

    @property
    def canonical(self) -> bytes:
        """What the signature is of."""
        return "\0".join(
            (
                "pbscast-checkpoint-1",
                self.site,
                str(self.number),
                str(self.position),
                self.digest.hex(),
                str(self.logged),
                str(self.chained_after),
                str(self.signed),
                self.key_id,
            )
        ).encode()


_BYTES: Final = ("digest", "signature")
_TYPES: Final = [str, int, int, bytes, int, int, int, str, bytes]


async def sign(dsn: str, key: SigningKey, *, at_least: float = 0) -> list[Checkpoint]:
    """Signs every site's log as it stands, and returns what it has stored.

    Sites of which nothing was logged since their last checkpoint, or whose last is younger than
    `at_least` seconds, are passed over; so is one that somebody else signs at the same time. Takes
    no lock that an append would wait for. Raises what `Log.open` raises.
    """
    connection = await connect(dsn)
    try:
        with translated(place(dsn)):
            check_server(connection, dsn)
            await check_schema(connection, dsn)
            return [made async for made in _sign(connection, key, at_least)]
    finally:
        await close(connection)


async def _sign(
    connection: asyncpg.Connection, key: SigningKey, at_least: float
) -> AsyncIterator[Checkpoint]:
    for row in await connection.fetch(query("checkpoints_due"), at_least, time_ns() // 1000):
        signed = time_ns() // 1000
        unsigned = Checkpoint(**row, signed=signed, key_id=key.key_id)
        made = replace(unsigned, signature=key.sign(unsigned.canonical))
        if await connection.fetchval(query("add_checkpoint"), *astuple(made)):
            yield made


async def stored(connection: asyncpg.Connection, site: str | None = None) -> list[Checkpoint]:
    """The checkpoints that the log holds, of all sites unless one is given, by site and number."""
    return [Checkpoint(**row) for row in await connection.fetch(query("checkpoints"), site)]


async def read_stored(dsn: str, site: str | None = None) -> list[Checkpoint]:
    """As `stored`, over a connection of its own. Raises what `Log.open` raises."""
    connection = await connect(dsn)
    try:
        with translated(place(dsn)):
            check_server(connection, dsn)
            await check_schema(connection, dsn)
            return await stored(connection, site)
    finally:
        await close(connection)


def examine(
    site: str, stored: Sequence[Checkpoint], exported: Sequence[Checkpoint]
) -> Iterator[Finding]:
    """What a site's checkpoints lack by themselves: a number, or one that was exported."""
    for number, made in enumerate(stored, 1):
        if made.number != number:
            text = f"checkpoint {number} was removed; the next is {made.number}"
            yield Finding(site, made.position, text)
            break
    within = {made.number: made for made in stored}
    for made in exported:
        if within.get(made.number) != made:
            change = "is another" if made.number in within else "is missing"
            text = f"checkpoint {made.number}, which was exported, {change} in the log"
            yield Finding(site, made.position, text)


def check_signature(made: Checkpoint, keys: PublicKeys) -> Finding | None:
    """What is wrong with the signature of a checkpoint."""
    if keys.verify(made.key_id, made.signature, made.canonical):
        return None
    if made.key_id in keys:
        text = f"checkpoint {made.number} was changed or forged: its signature is not of {keys}"
    else:
        text = f"checkpoint {made.number} was signed with the key {made.key_id}, not with {keys}"
    return Finding(made.site, made.position, text)


def write_file(path: Path, exported: Sequence[Checkpoint]) -> None:
    """JSON Lines: an object each, digest and signature in hexadecimal.

    The file is there with all of them or as it was. Raises ConfigError; ConflictError if the file
    holds a checkpoint that is not among these: then it is what proves that the log was cut.
    """
    if path.is_file():
        among = {*exported}
        for made in read_file(path):
            if made not in among:
                raise ConflictError(
                    f"{path}: holds checkpoint {made.number} of {made.site}, which the log has not:"
                    f" it is left as it is; verify the log with --checkpoints {path}"
                )
    try:
        with replacing(path) as file:
            file.writelines(f"{_to_line(made)}\n".encode() for made in exported)
    except OSError as error:
        raise ConfigError(f"checkpoints {path}: cannot be written: {error.strerror}") from error


def read_file(path: Path) -> list[Checkpoint]:
    """The checkpoints of an exported file. Raises ConfigError, or DecodeError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"checkpoints {path}: cannot be read") from error
    return [_from_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line]


def _to_line(made: Checkpoint) -> str:
    values = asdict(made)
    return json.dumps(values | {name: values[name].hex() for name in _BYTES})


def _from_line(line: str, where: str) -> Checkpoint:
    try:
        values = json.loads(line)
        values |= {name: bytes.fromhex(values[name]) for name in _BYTES}
        made = Checkpoint(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise DecodeError(f"{where}: not a checkpoint that pbscast exported") from error
    if [type(value) for value in astuple(made)] != _TYPES:
        raise DecodeError(f"{where}: not a checkpoint that pbscast exported")
    return made
