"""The statements that put capture into a PBS datastore, as an administrator reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypedDict

from psycopg import sql

from pbscast_ingest.schema import PBS_SCHEMAS
from pbscast_ingest.statements import capture_script

if TYPE_CHECKING:
    from collections.abc import Iterator

JOURNAL_VERSION: Final = 1
"""The form of the journal. A datastore with a higher one belongs to a newer release."""

DEFAULT_READER: Final = "pbscast_reader"


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs from one site's installation to the other's."""

    site: str
    reader_role: str = DEFAULT_READER
    cap_bytes: int | None = None
    """Size on disk at which the journal stops growing and capture pauses itself."""
    notify: bool | None = None
    """Whether the doorbell is rung; without it the reader polls. None for either: as it was, in a
    first installation 1 GiB and rung."""


# Without -X somebody's .psqlrc runs too: ON_ERROR_ROLLBACK there would go on after a lock refused.
_HOW: Final = """Run it on the PBS server, as the PBS database user:
--   psql -X -v ON_ERROR_STOP=1 -h localhost -p 15007 -U USER -d pbs_datastore -f this-file
"""


class Wishes(TypedDict, total=False):
    """The settings that may be left out."""

    reader_role: str
    cap_bytes: int | None
    notify: bool | None


@cache
def digest() -> str:
    """Tells the installed statements of one release from those of another."""
    text = "".join(capture_script("install") + capture_script("triggers"))
    return sha256(text.encode()).hexdigest()[:16]


def install_messages(settings: Settings) -> Iterator[str]:
    """The messages of an installation without the closing COMMIT, in their order."""
    yield from preparing_messages(settings)
    yield from capture_script("triggers")


def preparing_messages(settings: Settings) -> Iterator[str]:
    """Those of them that take no lock which PBS could feel."""
    begin, *rest = capture_script("install")
    yield begin
    yield from (_set_local(key, value) for key, value in _variables(settings).items())
    yield from rest


def render_install(settings: Settings) -> str:
    """Exactly what `install` runs, for psql. No secret: the reader's password is set apart."""
    head = f"-- pbscast: capture for a PBS datastore. {_HOW}"
    tail = "-- The reader still needs a password; in psql: \\password " + settings.reader_role
    return "\n".join([head, *install_messages(settings), tail, "COMMIT;", ""])


def render_uninstall() -> str:
    """Exactly what `uninstall` runs, for psql."""
    head = f"-- pbscast: no capture for a PBS datastore any more. {_HOW}"
    return "\n".join([head, *capture_script("uninstall")])


def _variables(settings: Settings) -> dict[str, str]:
    return {
        "site": settings.site,
        "reader": settings.reader_role,
        "cap_bytes": "" if settings.cap_bytes is None else str(settings.cap_bytes),
        "notify": "" if settings.notify is None else str(settings.notify).lower(),
        "version": str(JOURNAL_VERSION),
        "script": digest(),
        "schemas": PBS_SCHEMAS,
    }


def _set_local(key: str, value: str) -> str:
    name = sql.Identifier("pbscast", "install_" + key)
    return sql.SQL("SET LOCAL {} = {};").format(name, sql.Literal(value)).as_string()
