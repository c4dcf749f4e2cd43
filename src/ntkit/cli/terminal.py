"""What the terminal shows: progress on the standard error, results on the standard output."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ntkit.analysis.results import Analysis
from ntkit.cli.output import Finding
from ntkit.report.page import MEASURES
from ntkit.report.text import number


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
    rows = "images" if analysis.of_images else "rows"
    table = Table(title=f"Scores on {analysis.data.test_rows} test {rows}, best first", title_justify="left")
    table.add_column("method", overflow="fold")
    for measure in measures:
        table.add_column(measure.title, justify="right")
    for row in analysis.scores:
        cells = [measure.show(getattr(row.scores, measure.key)) for measure in measures]
        table.add_row(row.name, *cells, style="bold" if row.source == "ntkit" else None)
    Console().print(table)


def show_findings(title: str, findings: Sequence[Finding], out: Path) -> None:
    """A command's summary, one line each, and where its files are, on the standard output."""
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for finding in findings:
        if finding.title:
            plain = finding.value if isinstance(finding.value, str) else number(finding.value)
            note = f"  {finding.note}" if finding.note else ""
            table.add_row(finding.title, Text.assemble((finding.shown or plain, "bold"), note))
    console = Console()
    console.print(table)
    console.print(Text(f"Results: {out}"), soft_wrap=True)
