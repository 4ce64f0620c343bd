"""What administrators read of attacks is what is tried."""

from __future__ import annotations

from pathlib import Path

from harness.auth_attempts import tables

PAGE = Path(__file__).parents[2] / "fanout" / "README.md"


def test_the_page_has_every_attempt() -> None:
    # To write it anew: python -c 'from harness.auth_attempts import tables; print(tables())'
    assert tables() in PAGE.read_text()
