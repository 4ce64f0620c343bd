"""Capture: the triggers and the journal inside a PBS datastore, and the commands that keep them."""

from __future__ import annotations

from pbscast_ingest.capture.check import check
from pbscast_ingest.capture.installation import (
    InForce,
    Removed,
    install,
    pause,
    reader_has_password,
    resume,
    uninstall,
    upgrade,
)
from pbscast_ingest.capture.report import CheckReport, Finding, Verdict
from pbscast_ingest.capture.script import Settings, render_install, render_uninstall

__all__ = [
    "CheckReport",
    "Finding",
    "InForce",
    "Removed",
    "Settings",
    "Verdict",
    "check",
    "install",
    "pause",
    "reader_has_password",
    "render_install",
    "render_uninstall",
    "resume",
    "uninstall",
    "upgrade",
]
