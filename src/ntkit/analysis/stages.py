"""The stages of a long analysis: announced, and measured."""

import time
from collections.abc import Callable


class Stages:
    """Announces stages and measures them.

    Attributes:
        progress: called with what happens now.
        seconds: wall time of each finished stage, in order.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.name, self.began = "", 0.0

    def __call__(self, name: str) -> None:
        """A stage begins, and the one before ends."""
        self.finish()
        self.name, self.began = name, time.perf_counter()
        self.progress(name)

    def finish(self) -> None:
        """The last stage ends."""
        if self.name:
            self.seconds[self.name] = time.perf_counter() - self.began
