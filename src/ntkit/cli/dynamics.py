"""`ntkit dynamics`: the course of training on a table, for any of the usual losses."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ntkit.cli import options
from ntkit.cli.errors import explained

if TYPE_CHECKING:
    from ntkit.analysis import Course
    from ntkit.cli.output import Finding


class LossChoice(StrEnum):
    """The loss of the outputs."""

    squared = "squared"
    huber = "huber"
    cross_entropy = "cross-entropy"
    logistic = "logistic"


class ReductionChoice(StrEnum):
    """What the summed loss is divided by."""

    sum = "sum"
    mean = "mean"
    mean_points = "mean_points"


TRAINING = "Training"

YLABELS = {
    "squared": "loss  ½ |f − y|²",
    "huber": "Huber loss",
    "cross-entropy": "cross-entropy",
    "logistic": "logistic loss",
}


@explained
def dynamics(
    table: options.TableFile,
    target: options.TargetName,
    out: options.OutputFolder,
    loss: Annotated[
        LossChoice,
        typer.Option(
            help="Loss of the outputs: half the squared error or Huber's loss; for classes also the cross-entropy of "
            "a softmax; for two classes the logistic loss.",
            rich_help_panel=TRAINING,
        ),
    ] = LossChoice.squared,
    reduction: Annotated[
        ReductionChoice,
        typer.Option(
            help="Sum the loss over rows and outputs, average it over both, or over the rows.",
            rich_help_panel=TRAINING,
        ),
    ] = ReductionChoice.mean_points,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Learning rate; one at which descent in steps diverges is refused. [default: 1, the unit of time]",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    friction: Annotated[
        float | None,
        typer.Option(help="Friction of heavy-ball momentum. [default: none]", rich_help_panel=TRAINING),
    ] = None,
    ridge: Annotated[
        float, typer.Option(help="Weight decay toward the initialisation.", rich_help_panel=TRAINING)
    ] = 0.0,
    times: Annotated[
        int, typer.Option(help="How many times, logarithmically spaced.", rich_help_panel=TRAINING)
    ] = 60,
    last_time: Annotated[
        float | None,
        typer.Option(
            help="The last time. [default: ten times the slowest direction's, within bounds]",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(help="Relative error of an integration step, where needed.", rich_help_panel=TRAINING),
    ] = 1e-6,
    depth: options.Depth = 1,
    activation: options.ActivationName = "relu",
    w_std: options.WeightScale = 1.0,
    b_std: options.BiasScale = 0.0,
    test_fraction: options.TestFraction = 0.25,
    task: options.TaskChoice = None,
    missing: options.MissingChoice = options.Missing.error,
    unseen: options.UnseenChoice = options.Unseen.error,
    categorical: options.Categorical = None,
    ignore: options.Ignore = None,
    max_rows: options.MaxRows = 5000,
    subsample: options.Subsample = False,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Follow the training of an infinitely wide network on a table, and say what can be proved about it.

    Gradient flow from outputs of zero, the mean over random initialisations, on a random part of the rows; the others
    test it. Writes dynamics.csv (time, train_loss, test_loss, loss_rate and, for the squared loss, certified_bound:
    what the smallest eigenvalue proves), dynamics.svg and ntkit.json (the summary). Numbers are standardised; classes
    are indicators, centred for the squared and Huber losses.
    """
    from ntkit.analysis import CourseSettings, training_course
    from ntkit.analysis.prepare import prepare
    from ntkit.cli.output import write_findings
    from ntkit.cli.terminal import show_findings, stages
    from ntkit.plotting import plot_course
    from ntkit.tables.files import check_folder_is_free
    from ntkit.tables.read import read_table

    check_folder_is_free(out, overwrite=overwrite)
    settings = options.data_settings(
        task, categorical, ignore, missing, unseen, max_rows, subsample, seed, test_fraction
    )
    training = CourseSettings(
        loss=loss.value,
        reduction=reduction.value,
        learning_rate=learning_rate,
        ridge=ridge,
        friction=friction,
        times=times,
        last_time=last_time,
        tolerance=tolerance,
    )
    network = options.dense_network(depth, activation, w_std, b_std)
    with stages() as announce:
        announce("reading and encoding the table")
        data = prepare(read_table(table, as_text=settings.categorical), target, None, settings)
        announce("following the course of training")
        course = training_course(network, data, training)
    stopping = None if course.stopping is None else course.stopping.time
    picture = plot_course(
        course.times, course.train_loss, course.test_loss, YLABELS[course.loss], course.bound, stopping
    )
    findings = _findings(course)
    tables = {"dynamics": course.to_frame()}
    write_findings(out, "dynamics", tables, {"dynamics": picture}, findings, overwrite=overwrite)
    show_findings(
        f"Training on {len(data.x)} rows, testing on {len(data.x_test)}: {course.loss} loss of {target}",
        findings,
        out,
    )


def _findings(course: "Course") -> list["Finding"]:
    from ntkit.cli.output import Finding, certificate_findings
    from ntkit.report.text import number

    certificate = course.certificate
    best = int(course.test_loss.argmin())
    findings = [
        *certificate_findings(certificate, "tangent kernel on the training rows"),
        Finding("max_learning_rate", "stable learning rates of descent, up to", course.stable_rate),
        Finding("half_time", "time to half of the initial loss", course.half_time),
    ]
    if course.bound is not None and certificate.rate > 0.0:
        findings.append(
            Finding("proved_rate", "proved rate of the loss", certificate.rate, "C(t) ≤ exp(−rate t) C(0)")
        )
    if course.stopping is not None:
        findings.append(
            Finding("stopping_time", "best stopping time", course.stopping.time, "by leave-one-out")
        )
    findings += [
        Finding("initial_test_loss", "test loss at the start", float(course.test_loss[0])),
        Finding("last_test_loss", "test loss at the last time", float(course.test_loss[-1])),
        Finding(
            "smallest_test_loss",
            "smallest test loss listed",
            float(course.test_loss[best]),
            f"at t = {number(float(course.times[best]), 3)}",
        ),
    ]
    return findings
