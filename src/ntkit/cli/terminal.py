"""What the terminal shows: progress on the standard error, results on the standard output."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from ntkit.analysis.results import Analysis
from ntkit.report.page import MEASURES


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Announce stages: one line each with its time on a terminal's standard error, nothing otherwise.

    The library shows its own progress bars for long stages between these lines.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    console, began = Console(stderr=True, highlight=False), time.monotonic()

    def announce(name: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {name}")

    yield announce


def show_scores(analysis: Analysis) -> None:
    """The score table, best first, on the standard output."""
    measures = MEASURES[analysis.task]
    table = Table(title=f"Scores on {analysis.data.test_rows} test rows, best first", title_justify="left")
    table.add_column("method", overflow="fold")
    for measure in measures:
        table.add_column(measure.title, justify="right")
    for row in analysis.scores:
        cells = [measure.show(getattr(row.scores, measure.key)) for measure in measures]
        table.add_row(row.name, *cells, style="bold" if row.source == "ntkit" else None)
    Console().print(table)
