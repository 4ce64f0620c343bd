"""`python -m pbscast_deploy` is `pbscastd`."""

from __future__ import annotations

from pbscast_deploy.cli import main

main()
