"""``python -m pbscast``."""

from __future__ import annotations

from pbscast.cli import main

main()
