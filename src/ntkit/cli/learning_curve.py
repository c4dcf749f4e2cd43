"""`ntkit learning-curve`: the test error that a spectrum predicts for fewer rows, beside the measured one."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ntkit.cli import options
from ntkit.cli.errors import INTERRUPTED, explained

if TYPE_CHECKING:
    from ntkit.analysis import CurveComparison
    from ntkit.cli.output import Finding


class KernelName(StrEnum):
    """The kernel of the regression."""

    nngp = "nngp"
    ntk = "ntk"


CURVE = "Learning curve"


@explained
def learning_curve(
    table: options.TableFile,
    target: options.TargetName,
    out: options.OutputFolder,
    kernel: Annotated[
        KernelName, typer.Option(help="Kernel of the regression.", rich_help_panel=CURVE)
    ] = KernelName.ntk,
    ridge: Annotated[
        float | None,
        typer.Option(
            help="Ridge of K + ridge I; 0 interpolates. [default: the noise of largest likelihood]",
            rich_help_panel=CURVE,
        ),
    ] = None,
    samples: Annotated[
        list[int] | None,
        typer.Option(
            help="Training rows; may be repeated. [default: logarithmic, up to a quarter of the rows]",
            rich_help_panel=CURVE,
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Random subsets of each size to measure.", min=2, rich_help_panel=CURVE)
    ] = 20,
    depth: options.Depth = 1,
    activation: options.ActivationName = "relu",
    w_std: options.WeightScale = 1.0,
    b_std: options.BiasScale = 0.0,
    task: options.TaskChoice = None,
    missing: options.MissingChoice = options.Missing.error,
    categorical: options.Categorical = None,
    ignore: options.Ignore = None,
    max_rows: options.MaxRows = 5000,
    subsample: options.Subsample = False,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Predict how the test error falls with the number of rows, from the kernel's spectrum, and measure it.

    The prediction needs no training. It is exact for many rows, and meant for sizes well below the table's. Writes
    learning-curve.csv (samples, predicted_error, measured_error, standard_error: mean squared errors of the encoded
    target), learning-curve.svg and ntkit.json (the summary). Ctrl-C keeps the subsets measured so far.
    """
    import numpy as np

    from ntkit.analysis import compare_learning_curves
    from ntkit.analysis.noise import evidence_noise
    from ntkit.analysis.prepare import prepare_pool
    from ntkit.analysis.spectral import checked_ridge
    from ntkit.analysis.threads import suited_to
    from ntkit.cli.output import write_findings
    from ntkit.cli.terminal import show_findings, stages
    from ntkit.model.table_model import kernel_of
    from ntkit.plotting import plot_learning_curve
    from ntkit.tables.files import check_folder_is_free
    from ntkit.tables.read import read_table

    check_folder_is_free(out, overwrite=overwrite)
    settings = options.data_settings(
        task, categorical, ignore, missing, options.Unseen.error, max_rows, subsample, seed
    )
    network = options.dense_network(depth, activation, w_std, b_std)
    chosen = kernel_of(network, kernel.value)
    with stages() as announce:
        announce("reading and encoding the table")
        pool = prepare_pool(read_table(table, as_text=settings.categorical), target, settings)
        if ridge is None:
            announce("choosing the ridge")
            with suited_to(len(pool.x)):
                ridge = evidence_noise(np.asarray(chosen(pool.x)), pool.y)
        announce("predicting and measuring the learning curve")
        found = compare_learning_curves(
            chosen, pool.x, pool.y, ridge=checked_ridge(ridge), repeats=repeats, seed=seed, samples=samples
        )
    findings = _findings(found)
    picture = plot_learning_curve(
        found.samples, found.predicted, found.samples, found.measured, found.standard_error
    )
    write_findings(
        out,
        "learning-curve",
        {"learning-curve": found.to_frame()},
        {"learning-curve": picture},
        findings,
        overwrite=overwrite,
    )
    show_findings(f"Learning curve of {target} by the {kernel.value.upper()}", findings, out)
    if found.interrupted:
        typer.echo(
            f"ntkit: Interrupted. The {found.repeats} of {repeats} finished subsets were kept.", err=True
        )
        raise typer.Exit(INTERRUPTED)


def _findings(found: "CurveComparison") -> list["Finding"]:
    from ntkit.cli.output import Finding
    from ntkit.report.text import percent

    worst = found.worst
    gap = float(abs(found.predicted[worst] - found.measured[worst]))
    spread = float(found.standard_error[worst])
    errors = f", {gap / spread:.1f} standard errors of the measurement" if spread > 0 else ""
    deviation = float(found.deviations[worst])
    return [
        Finding("ridge", "ridge", found.ridge, "of K + ridge I"),
        Finding("repeats", "random subsets of each size", found.repeats),
        Finding(
            "largest_relative_deviation",
            "largest deviation of the prediction",
            deviation,
            f"at {found.samples[worst]:.0f} rows{errors}",
            percent(deviation),
        ),
        Finding("last_samples", "most training rows", int(found.samples[-1])),
        Finding("last_predicted_error", "predicted error there", float(found.predicted[-1])),
        Finding("last_measured_error", "measured error there", float(found.measured[-1])),
    ]
