"""Which registered subscriptions an event is for. Pure: no server, no clock."""

from __future__ import annotations

from pbscast_fanout.matching.completion import Completion
from pbscast_fanout.matching.interests import Interest
from pbscast_fanout.matching.matcher import Life, Match, Matcher
from pbscast_fanout.matching.objects import Key, Objects, Past, past_of

__all__ = [
    "Completion",
    "Interest",
    "Key",
    "Life",
    "Match",
    "Matcher",
    "Objects",
    "Past",
    "past_of",
]
