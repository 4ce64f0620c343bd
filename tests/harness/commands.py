"""Run commands in the process of the test."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]


def execute(main: Callable[[], None], *arguments: str, encoding: str = "utf-8") -> Done:
    """Run a command in this process: two dozen interpreters would take half a minute to start."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    err = io.TextIOWrapper(io.BytesIO())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("argv", [*arguments]), ("stdout", out), ("stderr", err)):
            patch.setattr(sys, name, value)
        patch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as ended:
            main()
    status = ended.value.code
    assert isinstance(status, int)
    return Done(status, *(_written(stream) for stream in (out, err)))


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()
