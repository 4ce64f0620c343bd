"""What PBS's numbers are called: reservation states and node state bits."""

from __future__ import annotations

from typing import Final

_RESERVATION: Final = (
    "RESV_NONE",
    "RESV_UNCONFIRMED",
    "RESV_CONFIRMED",
    "RESV_WAIT",
    "RESV_TIME_TO_RUN",
    "RESV_RUNNING",
    "RESV_FINISHED",
    "RESV_BEING_DELETED",
    "RESV_DELETED",
    "RESV_DELETING_JOBS",
    "RESV_DEGRADED",
    "RESV_BEING_ALTERED",
    "RESV_IN_CONFLICT",
)

# Only what `pbsnodes` shows: PBS masks the other bits (needs hello, initializing, …) first.
_NODE: Final = {
    0x100: "state-unknown",
    0x2: "down",
    0x20: "Stale",
    0x1: "offline",
    0x4000: "offline",
    0x10: "job-busy",
    0x40: "job-exclusive",
    0x2000: "resv-exclusive",
    0x80: "busy",
    0x8: "unresolvable",
    0x800: "provisioning",
    0x1000: "wait-provisioning",
    0x20000: "maintenance",
    0x40000: "sleep",
}


def number(value: str | None) -> int | None:
    """Return a decimal number, None for anything else."""
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        return None


def small_number(value: str | None) -> int | None:
    """Return a number that fits 32 bits, as PBS's own and those of the log do; None for any other.

    The value itself is told as text all the same.
    """
    found = number(value)
    return found if found is not None and -(2**31) <= found < 2**31 else None


def reservation_state(value: str | None) -> str | None:
    """Return a reservation's state as PBS prints it; a number of a later release stays a number."""
    code = number(value)
    if code is None or not 0 <= code < len(_RESERVATION):
        return value
    return _RESERVATION[code]


def node_state(value: str | None) -> str | None:
    """Return the text of ``nd_state``: a hint only, PBS saves up, down and busy by chance."""
    bits = number(value)
    if bits is None:
        return value
    return ",".join(dict.fromkeys(name for bit, name in _NODE.items() if bits & bit)) or "free"
