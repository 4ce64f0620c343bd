"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", help="The configuration file (pbscast.toml).")]
Site = Annotated[str, typer.Option("--site", help="Short name of the site.")]
Dsn = Annotated[
    str,
    typer.Option(
        "--dsn",
        help="libpq connection string. Leave the password to PGPASSWORD or a password file: "
        "command lines are visible to everybody.",
    ),
]
