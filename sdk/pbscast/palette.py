"""Words and colours of job states, the same in the terminal and on a page."""

from __future__ import annotations

from typing import Final

STATE_STYLES: Final = {
    "Q": "yellow",
    "H": "magenta",
    "W": "magenta",
    "T": "cyan",
    "R": "green",
    "B": "green",
    "S": "bright_yellow",
    "U": "bright_yellow",
    "E": "blue",
    "X": "bright_black",
    "F": "bright_black",
    "M": "cyan",
}
"""The colour of each visible state in a terminal."""

STATE_COLOURS: Final = {
    "Q": "#e8b021",
    "H": "#b0549e",
    "W": "#cf8fc3",
    "T": "#55b5c4",
    "R": "#2f9e5f",
    "B": "#86c99f",
    "S": "#f4dc6a",
    "U": "#f7e9a8",
    "E": "#3f6fd1",
    "X": "#8d939b",
    "F": "#b9bec5",
    "M": "#1f8795",
}
"""The same colours on a light page."""
OTHER_COLOUR: Final = "#6b7280"
"""Of a state that this release does not know."""

STATE_WORDS: Final = {
    "Q": "queued",
    "H": "held",
    "W": "waiting",
    "T": "in transit",
    "R": "running",
    "B": "begun",
    "S": "suspended",
    "U": "user-suspended",
    "E": "exiting",
    "X": "expired",
    "F": "finished",
    "M": "moved",
}
STATE_ORDER: Final = "RBSUEQHWTMXF"
"""From what occupies the machine to what is over: the order in a stack or legend."""

BAD_REASONS: Final = frozenset({"failed", "terminated", "rejected", "vanished"})
REASON_COLOURS: Final = {
    "finished": "#2f9e5f",
    "failed": "#c93c37",
    "terminated": "#e07b39",
    "deleted": "#8d939b",
    "moved": "#1f8795",
    "rejected": "#7d2f2b",
    "vanished": "#4b3b6b",
}
"""The colour of each reason of an end on a page."""


def state_order(state: str) -> tuple[int, str]:
    """Sort key of a state's letter; unknown letters come last."""
    place = STATE_ORDER.find(state)
    return (place if place >= 0 else len(STATE_ORDER), state)


def state_word(state: str) -> str:
    """What a state's letter means; of an unknown one the letter itself."""
    return STATE_WORDS.get(state, state)
