"""The demo: two PBS sites on this machine, and what a subscriber sees of them."""

from __future__ import annotations
