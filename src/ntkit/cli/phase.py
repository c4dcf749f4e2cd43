"""`ntkit phase`: the order/chaos phase diagram of an activation; no table needed."""

from typing import TYPE_CHECKING, Annotated

import typer

from ntkit.cli import options
from ntkit.cli.errors import INTERRUPTED, explained

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from ntkit.cli.output import Finding
    from ntkit.nn.activations.base import Activation
    from ntkit.theory import PhaseDiagram

GRID, POINT = "Grid", "One network"
FEWEST_VALUES = 2


@explained
def phase(
    out: options.OutputFolder,
    activation: Annotated[
        str, typer.Option(help="Activation, such as tanh, relu, erf, gelu.", rich_help_panel=options.NETWORK)
    ] = "tanh",
    max_w_std: Annotated[
        float, typer.Option(help="Largest standard deviation of the weights.", rich_help_panel=GRID)
    ] = 3.0,
    max_b_std: Annotated[
        float, typer.Option(help="Largest standard deviation of the biases.", rich_help_panel=GRID)
    ] = 1.0,
    values: Annotated[int, typer.Option(help="Values of each scale.", rich_help_panel=GRID)] = 25,
    w_std: Annotated[
        float | None,
        typer.Option(help="Weight scale of a network to place in the diagram.", rich_help_panel=POINT),
    ] = None,
    b_std: Annotated[float, typer.Option(help="Bias scale of that network.", rich_help_panel=POINT)] = 0.0,
    initial_variance: Annotated[
        float,
        typer.Option(
            help="Variance of the first pre-activations; matters where signals keep it.",
            rich_help_panel=POINT,
        ),
    ] = 1.0,
    overwrite: options.Overwrite = False,
) -> None:
    """Map where deep networks forget their inputs (order), scramble them (chaos), or keep them (the edge).

    Writes phase.csv (w_std, b_std, label, variance: the fixed point q*, chi_1: the growth of small differences and of
    gradients per layer, correlation_depth), critical.csv (the edge of chaos as pairs w_std, b_std), phase.svg and
    ntkit.json (the summary). Ctrl-C keeps the finished rows of the grid.
    """
    import numpy as np

    from ntkit.cli.output import write_findings
    from ntkit.cli.terminal import show_findings, stages
    from ntkit.errors import TableError
    from ntkit.inference.search_space import activation_named
    from ntkit.plotting import plot_phase_diagram
    from ntkit.tables.files import check_folder_is_free
    from ntkit.theory import phase_diagram

    check_folder_is_free(out, overwrite=overwrite)
    named = activation_named(activation)
    for name, value in (("--max-w-std", max_w_std), ("--max-b-std", max_b_std)):
        if not (np.isfinite(value) and value > 0):
            raise TableError(f"A phase diagram needs {name} above 0 and finite, got {value}.")
    if values < FEWEST_VALUES:
        raise TableError(
            f"A phase diagram needs at least {FEWEST_VALUES} --values of each scale, got {values}."
        )
    with stages() as announce:
        announce("finding the point and the edge of chaos")
        findings = _findings(named, w_std, b_std, initial_variance)
        announce("drawing the phase diagram")
        diagram = phase_diagram(
            named,
            np.linspace(max_w_std / values, max_w_std, values),
            np.linspace(0.0, max_b_std, values),
            initial_variance,
        )
    point = None if w_std is None else (w_std, b_std)
    picture = plot_phase_diagram(diagram.w_stds, diagram.b_stds, diagram.labels, diagram.critical, point)
    tables = {"phase": _frame(diagram), "critical": _critical_frame(diagram.critical)}
    write_findings(out, "phase", tables, {"phase": picture}, findings, overwrite=overwrite)
    show_findings(f"Order and chaos in deep {type(named).__name__} networks", findings, out)
    if diagram.interrupted:
        typer.echo(
            f"ntkit: Interrupted. The {len(diagram.b_stds)} of {values} finished rows of the grid were kept.",
            err=True,
        )
        raise typer.Exit(INTERRUPTED)


def _findings(
    activation: "Activation", w_std: float | None, b_std: float, initial_variance: float
) -> list["Finding"]:
    from ntkit.cli.output import Finding
    from ntkit.report.text import number
    from ntkit.theory import phase as phase_at

    findings = [_edge(activation, 0.0, initial_variance, "critical_w_std")]
    if b_std != 0.0:
        findings.append(_edge(activation, b_std, initial_variance, "critical_w_std_at_b_std"))
    if w_std is None:
        return findings
    found = phase_at(activation, w_std, b_std, initial_variance)
    where = f"at w_std = {number(w_std)}, b_std = {number(b_std)}"
    return [
        *findings,
        Finding("label", "phase", found.label, where),
        Finding("variance", "variance q* of pre-activations", found.variance, found.outcome),
        Finding("chi_1", "slope χ₁", found.slope, "growth of differences and gradients per layer"),
        Finding("correlation", "correlation c* of any two inputs", found.correlation, "after many layers"),
        Finding("correlation_depth", "correlation depth", found.correlation_depth, "layers"),
        Finding("trainable_depth", "trainable depth, about", found.trainable_depth, "layers"),
        Finding("ntk_at_depth", "the tangent kernel of deep networks", found.ntk_at_depth),
    ]


def _edge(activation: "Activation", b_std: float, initial_variance: float, key: str) -> "Finding":
    """The critical weight scale, or why there is none."""
    from ntkit.cli.output import Finding
    from ntkit.report.text import number
    from ntkit.theory import critical_line

    line = critical_line(activation, [b_std], initial_variance)
    edge = float(line[0, 0]) if len(line) else None
    note = "" if edge is not None else "χ₁ does not pass 1 before variances diverge"
    return Finding(key, f"critical w_std at b_std = {number(b_std)}", edge, note)


def _frame(diagram: "PhaseDiagram") -> "pl.DataFrame":
    """One row per point of the grid."""
    import numpy as np
    import polars as pl

    rows, columns = diagram.labels.shape
    return pl.DataFrame(
        {
            "w_std": np.tile(diagram.w_stds, rows),
            "b_std": np.repeat(diagram.b_stds, columns),
            "label": diagram.labels.ravel().tolist(),
            "variance": diagram.variances.ravel(),
            "chi_1": diagram.slopes.ravel(),
            "correlation_depth": diagram.correlation_depths.ravel(),
        }
    )


def _critical_frame(critical: "np.ndarray") -> "pl.DataFrame":
    """The edge of chaos, one row per pair."""
    import polars as pl

    return pl.DataFrame({"w_std": critical[:, 0], "b_std": critical[:, 1]})
