"""A progress bar for loops that a compiled program runs in portions."""

import sys
import time

from rich.console import Console
from rich.progress import Progress

SECONDS_BEFORE_PROGRESS = 2.0
"""Work that ends sooner shows no bar."""


class Bar:
    """A progress bar on a terminal's standard error that appears only when the work takes long."""

    def __init__(self, description: str, total: int) -> None:
        self.progress = Progress(
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        )
        self.task = self.progress.add_task(description, total=total)
        self.began = time.perf_counter()
        self.shown = False

    def advance_to(self, completed: int) -> None:
        if not self.shown and time.perf_counter() - self.began > SECONDS_BEFORE_PROGRESS:
            self.progress.start()
            self.shown = True
        self.progress.update(self.task, completed=completed)

    def close(self) -> None:
        if self.shown:
            self.progress.stop()
