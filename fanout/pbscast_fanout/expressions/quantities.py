"""Numbers, sizes, durations and booleans as PBS writes and reads them. Pure; no reader raises.

The readers remember what they read of late: many expressions ask of the same event, and jobs have
the same sizes and durations again and again.

Facts: OpenPBS's ``attr_fn_size.c``, ``attr_fn_time.c``, ``attr_fn_b.c``, ``pbs_share.h`` (a word).
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product
from typing import Final

Amount = int | float
"""A number as it is, a size in bytes, a duration in seconds."""

MOST_DIGITS: Final = 20
"""What PBS's 64 bits can hold; longer ones would only cost time."""

LONGEST: Final = 4 * MOST_DIGITS + 3
"""Characters of the longest amount, a duration: what is longer need not be read."""

WORD: Final = 8
"""Bytes."""

_BYTES: Final = {
    scale + unit: factor * (WORD if unit in {"w", "W"} else 1)
    for power, scales in enumerate(("", "kK", "mM", "gG", "tT", "pP"))
    for factor in (1024**power,)
    for scale, unit in product(scales or ("",), ("", "b", "B", "w", "W"))
}
_UNITS: Final = "kKmMgGtTpPbBwW"

_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?")

_REMEMBERED: Final = 1024

TRUE: Final = frozenset({"True", "TRUE", "true", "t", "T", "1", "y", "Y"})
FALSE: Final = frozenset({"False", "FALSE", "false", "f", "F", "0", "n", "N"})


@lru_cache(_REMEMBERED)
def read_number(text: str) -> Amount | None:
    """Return what a number is compared with: a number, else a duration's seconds or a size's bytes.

    A decimal fraction is a 64-bit float.
    """
    if _is_digits(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text) if "." in text else int(text)
    return read_duration(text) if ":" in text else read_size(text)


@lru_cache(_REMEMBERED)
def read_size(text: str) -> Amount | None:
    """Return the bytes of a size; exact, where PBS itself compares in kilobytes rounded up."""
    digits = text.rstrip(_UNITS)
    factor = _BYTES.get(text[len(digits) :])
    return int(digits) * factor if factor is not None and _is_digits(digits) else None


@lru_cache(_REMEMBERED)
def read_duration(text: str) -> Amount | None:
    """Return the seconds of ``[[HH:]MM:]SS[.ms]``; like PBS, of the fraction the first 3 digits."""
    whole, point, fraction = text.partition(".")
    fields = whole.split(":", 3)
    if len(fields) > 3 or not all(map(_is_digits, fields)):
        return None
    seconds = 0
    for field in fields:
        seconds = seconds * 60 + int(field)
    if not point:
        return seconds
    if not _is_digits(fraction):
        return None
    return (seconds * 1000 + int(fraction[:3].ljust(3, "0"))) / 1000


def _is_digits(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) <= MOST_DIGITS
