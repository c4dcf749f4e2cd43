"""`ntkit fit`: the main job on a table."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ntkit.cli import options
from ntkit.cli.errors import explained
from ntkit.cli.options import DATA, OUTPUT


class KernelChoice(StrEnum):
    """The posterior's kernel."""

    auto = "auto"
    nngp = "nngp"
    ntk = "ntk"


class Criterion(StrEnum):
    """What the network is chosen by."""

    likelihood = "likelihood"
    leave_one_out = "leave-one-out"


class From(StrEnum):
    """The distribution that predictions come from."""

    posterior = "posterior"
    stopped = "stopped"
    converged = "converged"


SEARCH, COMPARISON = "Choosing the network", "Comparison"


@explained
def fit(
    table: options.TableFile,
    target: options.TargetName,
    out: Annotated[
        Path, typer.Option(help="Folder for model/, predictions.csv and report.html.", rich_help_panel=OUTPUT)
    ],
    test: Annotated[
        Path | None,
        typer.Option(help="Table of test rows; by default a random part is held out.", rich_help_panel=DATA),
    ] = None,
    test_fraction: options.TestFraction = 0.25,
    task: options.TaskChoice = None,
    missing: options.MissingChoice = options.Missing.error,
    unseen: options.UnseenChoice = options.Unseen.error,
    categorical: options.Categorical = None,
    ignore: options.Ignore = None,
    max_rows: options.MaxRows = 5000,
    subsample: options.Subsample = False,
    seed: options.Seed = 0,
    depth: Annotated[
        list[int] | None,
        typer.Option(
            help="Hidden layers to try; may be repeated. [default: 1, 2, 3]", rich_help_panel=SEARCH
        ),
    ] = None,
    activation: Annotated[
        list[str] | None,
        typer.Option(
            help="Activation to try, such as relu, erf, gelu, sin; may be repeated. [default: relu, erf]",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    kernel: Annotated[
        KernelChoice, typer.Option(help="Kernel of the Gaussian process.", rich_help_panel=SEARCH)
    ] = KernelChoice.auto,
    criterion: Annotated[
        Criterion,
        typer.Option(help="Log marginal likelihood or leave-one-out density.", rich_help_panel=SEARCH),
    ] = Criterion.likelihood,
    ard: Annotated[
        bool, typer.Option(help="Learn one scale per input feature (relevance).", rich_help_panel=SEARCH)
    ] = False,
    starts: Annotated[
        int, typer.Option(help="Starts of the search per candidate.", rich_help_panel=SEARCH)
    ] = 3,
    time_limit: Annotated[float, typer.Option(help="Seconds for the search.", rich_help_panel=SEARCH)] = 60.0,
    distribution: Annotated[
        From,
        typer.Option(
            help="Where predictions.csv comes from: the Gaussian-process posterior, or the ensemble of networks "
            "trained until the best stopping time or to convergence.",
            rich_help_panel=OUTPUT,
        ),
    ] = From.posterior,
    level: Annotated[
        float, typer.Option(help="Probability of the intervals.", rich_help_panel=OUTPUT)
    ] = 0.95,
    overwrite: options.Overwrite = False,
    folds: Annotated[
        int, typer.Option(help="Folds of the cross-validated stopping time.", rich_help_panel=COMPARISON)
    ] = 5,
    baselines: Annotated[bool, typer.Option(help="Fit the baselines.", rich_help_panel=COMPARISON)] = True,
    networks: Annotated[
        int,
        typer.Option(help="Finite networks to train for comparison; 0 for none.", rich_help_panel=COMPARISON),
    ] = 2,
    width: Annotated[
        int, typer.Option(help="Width of the finite networks.", rich_help_panel=COMPARISON)
    ] = 512,
    network_steps: Annotated[
        int, typer.Option(help="Most gradient steps of a finite network.", rich_help_panel=COMPARISON)
    ] = 5000,
    network_seconds: Annotated[
        float, typer.Option(help="Seconds for training finite networks.", rich_help_panel=COMPARISON)
    ] = 20.0,
) -> None:
    """Learn a table with an infinitely wide network; write model, predictions and a report.

    Reads TABLE, chooses the network, and writes into the folder --out: model/ (for ntkit predict),
    predictions.csv (the test rows) and report.html (scores against baselines, calibration, the course of
    training beside real finite networks, the kernel's spectrum). Nothing is written before all is done.
    """
    from ntkit.analysis import Settings, fit_table
    from ntkit.cli.output import write_analysis
    from ntkit.cli.terminal import show_scores, stages
    from ntkit.tables.files import check_folder_is_free
    from ntkit.tables.read import read_table

    check_folder_is_free(out, overwrite=overwrite)
    settings = Settings(
        task=None if task is None else task.value,
        categorical=tuple(categorical or ()),
        ignore=tuple(ignore or ()),
        missing=missing.value,
        unseen=unseen.value,
        test_fraction=test_fraction,
        seed=seed,
        max_rows=max_rows,
        subsample=subsample,
        depths=tuple(depth or (1, 2, 3)),
        activations=tuple(activation or ("relu", "erf")),
        kernel=kernel.value,
        criterion="log_marginal_likelihood" if criterion is Criterion.likelihood else "leave_one_out",
        ard=ard,
        starts=starts,
        time_limit=time_limit,
        distribution=distribution.value,
        level=level,
        folds=folds,
        baselines=baselines,
        width=width,
        networks=networks,
        network_steps=network_steps,
        network_seconds=network_seconds,
    )
    frame = read_table(table, as_text=settings.categorical)
    test_frame = None if test is None else read_table(test, as_text=settings.categorical)
    with stages() as announce:
        analysis = fit_table(frame, target, test=test_frame, settings=settings, progress=announce)
        announce("writing the report")
        report = write_analysis(analysis, out, f"{table.stem}: {target}", overwrite=overwrite)
    show_scores(analysis)
    typer.echo(f"Report: {report}")
