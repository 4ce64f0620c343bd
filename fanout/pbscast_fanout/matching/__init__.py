"""Which registered subscriptions an event is for. Pure: no server, no clock."""

from __future__ import annotations

from pbscast_fanout.matching.completion import Completion
from pbscast_fanout.matching.interests import Interest
from pbscast_fanout.matching.matcher import Match, Matcher, Passage
from pbscast_fanout.matching.objects import Objects, Past

__all__ = ["Completion", "Interest", "Match", "Matcher", "Objects", "Passage", "Past"]
