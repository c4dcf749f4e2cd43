"""From exceptions to exit codes: a user's mistake gives one clear message and no traceback."""

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from ntkit.errors import NtkitError

FAILED, INTERRUPTED = 1, 130
"""Exit codes: 0 is success, 2 a wrong command line (from the parser), 130 is what shells use for Ctrl-C."""

TRACEBACK = "NTKIT_TRACEBACK"
"""Environment variable: when set to anything, errors show where they were raised."""

P = ParamSpec("P")
R = TypeVar("R")


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a command's errors into a message on the standard error and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            _say("Interrupted. Nothing was written.")
            raise typer.Exit(INTERRUPTED) from None
        except (NtkitError, ValueError, OSError, MemoryError) as error:
            if os.environ.get(TRACEBACK):
                raise
            _say(str(error) or type(error).__name__)
            raise typer.Exit(FAILED) from None

    return wrapped


def _say(message: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    console.print(Text("ntkit: ", style="bold red"), Text(message), sep="", soft_wrap=not console.is_terminal)
