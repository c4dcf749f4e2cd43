"""`ntkit demo`: the main job on the real data that scikit-learn brings along."""

from pathlib import Path
from typing import Annotated

import typer

from ntkit.cli.errors import explained

DIGITS_ROWS = 1000


@explained
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the results, one folder inside for each table.")
    ] = Path("demo"),
    time_limit: Annotated[float, typer.Option(help="Seconds for choosing each network.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Run the main job on diabetes (regression) and handwritten digits (classification).

    Writes the tables, and for each what ntkit fit writes, into --out; an earlier demo there is replaced.
    """
    from ntkit.analysis import Settings, fit_table
    from ntkit.cli.bundled import bundled_tables
    from ntkit.cli.output import write_analysis
    from ntkit.cli.terminal import show_scores, stages
    from ntkit.tables.files import OUTPUT_MARK, check_file_is_free, check_folder_is_free
    from ntkit.tables.read import write_table

    tables = bundled_tables(DIGITS_ROWS, seed)
    for name in tables:
        check_folder_is_free(out / name, overwrite=True)
        # The table may be replaced where an earlier demo wrote it, not where the user keeps one of that name.
        check_file_is_free(out / f"{name}.csv", overwrite=(out / name / OUTPUT_MARK).is_file())
    reports = []
    for name, (frame, target) in tables.items():
        write_table(frame, out / f"{name}.csv")
        typer.echo(f"{name}: {frame.height} rows, {frame.width - 1} inputs, target '{target}'")
        settings = Settings(time_limit=time_limit, network_seconds=15.0, starts=2, seed=seed)
        with stages() as announce:
            analysis = fit_table(frame, target, settings=settings, progress=announce)
            announce("writing the report")
            reports.append(write_analysis(analysis, out / name, f"{name}: {target}", overwrite=True))
        show_scores(analysis)
    for report in reports:
        typer.echo(f"Report: {report}")
