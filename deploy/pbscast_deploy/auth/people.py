"""Who on this machine is a person, as its user database has it."""

from __future__ import annotations

import grp
import pwd
import re
from pathlib import Path
from typing import Final

from pbscast.errors import AccessDeniedError, NotFoundError

_LOGIN_DEFS: Final = Path("/etc/login.defs")
_UID_MIN: Final = re.compile(r"^\s*UID_MIN\s+(\d+)", re.MULTILINE)
_USUAL_LOWEST: Final = 1000
_NOBODY: Final = 65534
"""Also what the kernel says of whom it cannot name: a process of another user namespace."""


def lowest_uid() -> int:
    """Return from which uid on there are people: UID_MIN of login.defs, else 1000."""
    try:
        found = _UID_MIN.search(_LOGIN_DEFS.read_text())
    except (OSError, UnicodeDecodeError):
        found = None
    return int(found[1]) if found else _USUAL_LOWEST


def name_of(uid: int, lowest: int) -> str:
    """Return the name of a person.

    Raises AccessDeniedError for root and the users of the system, whom nobody logs in as, and for
    who has no name, or shares it.
    """
    if not _is_person(uid, lowest):
        raise AccessDeniedError(f"uid {uid} is not a person's: people have uid {lowest} and above")
    try:
        name = pwd.getpwuid(uid).pw_name
        owner = pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise AccessDeniedError(f"uid {uid} has no name on this machine") from error
    if owner != uid:
        raise AccessDeniedError(f"uid {uid} is called {name}, and so is uid {owner}")
    return name


def everybody(lowest: int) -> list[str]:
    """Return the names of all people whom the user database lists."""
    return [user.pw_name for user in pwd.getpwall() if _is_person(user.pw_uid, lowest)]


def members(group: str, lowest: int) -> list[str]:
    """Return the names of the people in a group, by whatever way. Raises NotFoundError."""
    try:
        found = grp.getgrnam(group)
    except KeyError as error:
        raise NotFoundError(f"there is no group {group!r} on this machine") from error
    listed = [name for name in found.gr_mem if _is_person(_uid(name), lowest)]
    of_it = [user for user in pwd.getpwall() if user.pw_gid == found.gr_gid]
    return [*listed, *(user.pw_name for user in of_it if _is_person(user.pw_uid, lowest))]


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return _NOBODY


def _is_person(uid: int, lowest: int) -> bool:
    return uid >= max(lowest, 1) and uid != _NOBODY
