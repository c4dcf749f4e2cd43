"""`ntkit spectrum`: eigenvalues of a network's kernels on a table, and what targets are made of."""

from typing import TYPE_CHECKING, Annotated

import typer

from ntkit.cli import options
from ntkit.cli.errors import explained

if TYPE_CHECKING:
    from ntkit.analysis import SpectralAnalysis
    from ntkit.cli.output import Finding

SPECTRUM = "Spectrum"


@explained
def spectrum(
    table: options.TableFile,
    target: options.TargetName,
    out: options.OutputFolder,
    ridge: Annotated[
        float | None,
        typer.Option(
            help="Ridge of K + ridge I for the effective dimension. [default: the noise of largest likelihood]",
            rich_help_panel=SPECTRUM,
        ),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(
            help="Number of the first eigenvalue of the fitted decay. [default: 10, or 1 where there are few]",
            rich_help_panel=SPECTRUM,
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            help="Number of the last eigenvalue of the fitted decay. [default: half of the rank]",
            rich_help_panel=SPECTRUM,
        ),
    ] = None,
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
    """Diagonalise the NTK and NNGP of an infinitely wide network on all rows of a table.

    Writes spectrum.csv (number, ntk_eigenvalue and nngp_eigenvalue divided by the number of rows, learning_time of
    gradient flow on the mean loss, target_share along the NTK's eigenfunction, cumulative_share), spectrum.svg,
    learning_times.svg and ntkit.json (the summary).
    """
    from ntkit.analysis import spectral_analysis
    from ntkit.analysis.prepare import prepare_pool
    from ntkit.cli.output import write_findings
    from ntkit.cli.terminal import show_findings, stages
    from ntkit.plotting import plot_learning_times
    from ntkit.report.pictures import draw_eigenvalues
    from ntkit.tables.files import check_folder_is_free
    from ntkit.tables.read import read_table

    check_folder_is_free(out, overwrite=overwrite)
    settings = options.data_settings(
        task, categorical, ignore, missing, options.Unseen.error, max_rows, subsample, seed
    )
    network = options.dense_network(depth, activation, w_std, b_std)
    with stages() as announce:
        announce("reading and encoding the table")
        pool = prepare_pool(read_table(table, as_text=settings.categorical), target, settings)
        announce("diagonalising the kernels")
        found = spectral_analysis(network, pool.x, pool.y, pool.rows, ridge=ridge, first=first, last=last)
    findings = _findings(found)
    pictures = {
        "spectrum": draw_eigenvalues(found),
        "learning_times": plot_learning_times(found.learning_times, found.shares, float("inf")),
    }
    write_findings(out, "spectrum", {"spectrum": found.to_frame()}, pictures, findings, overwrite=overwrite)
    show_findings(f"Spectrum on {len(pool.x)} rows, targets: {target}", findings, out)


def _findings(found: "SpectralAnalysis") -> list["Finding"]:
    from ntkit.cli.output import Finding, certificate_findings
    from ntkit.report.text import number

    decay = found.decay
    return [
        *certificate_findings(found.certificate, "tangent kernel on the rows"),
        Finding(
            "decay_exponent",
            "decay exponent",
            None if decay is None else decay.exponent,
            ""
            if decay is None
            else f"± {number(decay.standard_error, 2)}, eigenvalues {found.decay_range[0]} to {found.decay_range[1]}",
        ),
        Finding("decay_standard_error", "", None if decay is None else decay.standard_error),
        Finding("ridge", "ridge", found.ridge, "of K + ridge I"),
        Finding(
            "effective_dimension",
            "effective dimension of the NTK",
            found.effective_dimension(),
            f"of {len(found.ntk)}, with that ridge",
        ),
        Finding(
            "target_alignment", "alignment of NTK and targets", found.target_alignment, "centred, 0 to 1"
        ),
        Finding(
            "kernel_alignment", "alignment of NTK and NNGP", found.kernel_alignment, "centred (CKA), 0 to 1"
        ),
    ]
