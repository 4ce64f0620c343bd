"""How a command runs and ends: one line on stderr for what went wrong, and an exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
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
_KILLED: Final = 128
_ENDING: Final = ("SIGTERM", "SIGHUP")
_WRONG_USAGE: Final = 2

# typer carries a copy of click without making its UsageError public: what BadParameter is one of.
_Misused: Final[Any] = typer.BadParameter.__base__


def invoke(app: typer.Typer, name: str) -> int:
    """Run the command that the command line asks for; gives the exit status.

    A command line that is wrong is one line on stderr and status 2. The command's own errors pass.
    """
    logging.getLogger("asyncio").addFilter(_is_worth_saying)
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
    """Run a command of the SDK to its end; every known trouble is one line and an exit status.

    SIGTERM and SIGHUP end it as Ctrl-C does: what it holds elsewhere is let go. A second one kills.
    """
    stopped: list[signal.Signals] = []
    try:
        asyncio.run(_stoppable(work, stopped))
    except asyncio.CancelledError:
        raise typer.Exit(_KILLED + stopped[0] if stopped else 1) from None
    except PbscastError as error:
        say(str(error))
        raise typer.Exit(_exit_status(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read us has had enough; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


async def _stoppable(work: Coroutine[None, None, None], stopped: list[signal.Signals]) -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101 - asyncio.run made one

    def stop(number: signal.Signals) -> None:
        stopped.append(number)
        loop.remove_signal_handler(number)
        task.cancel()

    for name in _ENDING:
        number = getattr(signal, name, None)
        # Under nohup it is ignored, and stays so.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            with suppress(NotImplementedError):  # on Windows
                loop.add_signal_handler(number, stop, number)
    await work


def say(text: str) -> None:
    """Print one line for the user that is not what was asked for."""
    print(f"pbscast: {text}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the user's


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """What asyncio says whenever a server ends TLS helps nobody: the NATS driver is meant."""
    return not str(record.msg).startswith("returning true from eof_received()")


def _exit_status(error: PbscastError) -> int:
    return next(status for kind, status in EXIT_STATUS if isinstance(error, kind))


def _asked(error: Any, name: str) -> str:
    return name if error.ctx is None else str(error.ctx.command_path)
