"""The daemon `pbscastd`: configuration, wiring, embedded servers, PBS simulator."""

from __future__ import annotations
