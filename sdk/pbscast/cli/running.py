"""How a command runs and ends: one line on stderr for what went wrong, and an exit status."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import typer

from pbscast.errors import (
    AccessDeniedError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

EXIT_STATUS: Final[tuple[tuple[type[PbscastError], int], ...]] = (
    (UsageError, 2),
    (UnavailableError, 3),
    (AccessDeniedError, 4),
    (NotFoundError, 5),
    (PbscastError, 1),
)
INTERRUPTED: Final = 130
_WRONG_USAGE: Final = 2

# typer carries a copy of click without making its UsageError public: what BadParameter is one of.
_Misused: Final[Any] = typer.BadParameter.__base__


def invoke(app: typer.Typer, name: str) -> int:
    """Run the command that the command line asks for; gives the exit status.

    A command line that is wrong is one line on stderr and status 2. The command's own errors pass.
    """
    try:
        status = app(prog_name=name, standalone_mode=False)
    except _Misused as error:
        message: str = error.format_message()
        # Without any argument the message is the help, or nothing where rich has shown the help.
        if message and "\n" not in message:
            message = f"{name}: {message.rstrip('.')} (see {_asked(error, name)} --help)"
        if message:
            print(message, file=sys.stderr, flush=True)  # noqa: T201 - stderr is the user's
        return _WRONG_USAGE
    return status if isinstance(status, int) else 0


def run(work: Coroutine[None, None, None]) -> None:
    """Run a command of the SDK to its end; every known trouble is one line and an exit status."""
    try:
        asyncio.run(work)
    except PbscastError as error:
        say(str(error))
        raise typer.Exit(_exit_status(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read us has had enough; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def say(text: str) -> None:
    """Print one line for the user that is not what was asked for."""
    print(f"pbscast: {text}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the user's


def _exit_status(error: PbscastError) -> int:
    return next(status for kind, status in EXIT_STATUS if isinstance(error, kind))


def _asked(error: Any, name: str) -> str:
    return name if error.ctx is None else str(error.ctx.command_path)
