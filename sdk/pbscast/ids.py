"""PBS job identifiers: ``N.server``, array parents ``N[].server`` and subjobs ``N[i].server``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pbscast.errors import InvalidJobId

_JOB_ID: Final = re.compile(
    r"(?P<number>\d+)(?:\[(?P<index>\d*)\])?(?:\.(?P<server>[^\s@]+))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class JobId:
    """A parsed job identifier. ``server`` is None where a user left it out."""

    number: int
    server: str | None
    is_array: bool
    """Whether this names an array parent, ``N[]``."""
    index: int | None
    """The subjob's index, or None for a plain job or an array parent."""

    @classmethod
    def parse(cls, text: str) -> JobId:
        """Parse an identifier as users type it; the server part may be missing.

        Raises InvalidJobId for anything else.
        """
        match = _JOB_ID.fullmatch(text)
        if match is None:
            expected = "expected N.server, N[].server or N[i].server"
            msg = f"illegally formed job identifier: {text!r} ({expected})"
            raise InvalidJobId(msg)
        index = match["index"]
        return cls(
            number=int(match["number"]),
            server=match["server"],
            is_array=index == "",
            index=int(index) if index else None,
        )

    def __str__(self) -> str:
        brackets = "[]" if self.is_array else "" if self.index is None else f"[{self.index}]"
        server = "" if self.server is None else f".{self.server}"
        return f"{self.number}{brackets}{server}"


_SUBJOB: Final = re.compile(r"(\d+\[)(\d+)(\].*)", re.ASCII | re.DOTALL)


def split_subjob(job_id: str) -> tuple[str, str | None]:
    """Return the id that a job's subjects carry, and its subjob index.

    ``6[1].s`` gives ``("6[].s", "1")``. Any other id, even one that PBS would refuse, comes back
    unchanged with index None.
    """
    match = _SUBJOB.fullmatch(job_id)
    return (job_id, None) if match is None else (match[1] + match[3], match[2])
