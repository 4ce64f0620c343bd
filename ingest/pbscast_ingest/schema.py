"""The versions of PBS's schema that are known: what capture reads, and what it means."""

from __future__ import annotations

import re
from typing import Final

PBS_SCHEMAS: Final = r"1\.5\.[0-9]+"
"""A pattern in the words of Python and of PostgreSQL."""


def is_known(version: str | None) -> bool:
    """Whether this release serves a datastore of that schema; None is one that does not say."""
    return version is not None and re.fullmatch(PBS_SCHEMAS, version) is not None
