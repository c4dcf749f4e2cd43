"""`ntkit fit`: the main job on a table or on images."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ntkit.cli import options
from ntkit.cli.errors import explained
from ntkit.cli.options import DATA, OUTPUT

if TYPE_CHECKING:  # a command's help appears without loading JAX
    from ntkit.images import ImageSet


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
    data: options.DataPath,
    out: Annotated[
        Path, typer.Option(help="Folder for model/, predictions.csv and report.html.", rich_help_panel=OUTPUT)
    ],
    target: Annotated[
        str | None, typer.Option(help="Column to predict; tables need one.", rich_help_panel=DATA)
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Table, folder or .npz file for testing; by default a random part is held out.",
            rich_help_panel=DATA,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Most training images, and most test images; drawn at random, class by class. Time grows with the "
            "square.",
            rich_help_panel=DATA,
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(help="Size to give all images: 16, or 16x24 (height x width).", rich_help_panel=DATA),
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
    network: Annotated[
        str | None,
        typer.Option(
            help="Network to use as it is: mlp3 or residual_mlp3; for images also myrtle5, myrtle7, myrtle10, "
            "vgg_like3, lenet, resnet8, wide_resnet1 and deeper. By default tables choose a dense one, and "
            "images take myrtle5.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
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
        int | None,
        typer.Option(
            help="Finite networks to train for comparison; 0 for none. [default: 2 for tables, 0 for images]",
            rich_help_panel=COMPARISON,
        ),
    ] = None,
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
    """Learn a table or images with an infinitely wide network; write model, predictions and a report.

    Reads DATA, chooses the network (for images: takes the one that --network names), and writes into the folder
    --out: model/ (for ntkit predict),
    predictions.csv (the test rows) and report.html (scores against baselines, calibration, the course of
    training beside real finite networks, the kernel's spectrum). Nothing is written before all is done.
    """
    from ntkit.analysis import Settings, fit_images, fit_table
    from ntkit.cli.output import write_analysis
    from ntkit.cli.terminal import show_scores, stages
    from ntkit.images import looks_like_images
    from ntkit.tables.files import check_folder_is_free
    from ntkit.tables.read import read_table

    of_images = looks_like_images(data)
    search = {
        "--depth": depth is not None,
        "--activation": activation is not None,
        "--ard": ard,
        "--criterion": criterion is not Criterion.likelihood,
    }
    columns = {
        "--target": target is not None,
        "--task": task is not None,
        "--missing": missing is not options.Missing.error,
        "--unseen": unseen is not options.Unseen.error,
        "--categorical": categorical is not None,
        "--ignore": ignore is not None,
    }
    if of_images:
        options.refuse(columns, f"it is about the columns of a table, and '{data}' holds images.")
        options.refuse({"--subsample": subsample}, "it is for tables; --limit draws a part of the images.")
        options.refuse(search, "images take the network that --network names.")
    else:
        options.refuse({"--limit": limit is not None, "--resize": resize is not None}, "it is for images.")
        if network is not None:
            options.refuse(search, "--network names the network, so there is none to choose.")
        if target is None:
            raise typer.BadParameter("A table needs the column to predict.", param_hint="--target")
    check_folder_is_free(out, overwrite=overwrite)
    settings = Settings(
        network="myrtle5" if of_images and network is None else network,
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
        networks=(0 if of_images else 2) if networks is None else networks,
        network_steps=network_steps,
        network_seconds=network_seconds,
    )
    with stages() as announce:
        if of_images:
            images, held_out, size = _read_images(data, test, resize)
            analysis = fit_images(
                images, held_out, limit=limit, resize=size, settings=settings, progress=announce
            )
        else:
            frame = read_table(data, as_text=settings.categorical)
            test_frame = None if test is None else read_table(test, as_text=settings.categorical)
            analysis = fit_table(frame, str(target), test=test_frame, settings=settings, progress=announce)
        announce("writing the report")
        title = f"{data.resolve().stem}: {settings.network if of_images else target}"
        report = write_analysis(analysis, out, title, overwrite=overwrite)
    show_scores(analysis)
    typer.echo(f"Report: {report}")


def _read_images(
    data: Path, test: Path | None, resize: str | None
) -> "tuple[ImageSet, ImageSet | None, tuple[int, int] | None]":
    """The images, those for testing where there are some, and the size they were given."""
    from ntkit.errors import ImageError
    from ntkit.images import read_images

    size = options.image_size(resize)
    images, held_out = read_images(data, resize=size)
    if test is not None:
        if held_out is not None:
            raise ImageError(
                f"'{data}' has images for testing of its own, got --test '{test}' too. Leave it out."
            )
        held_out, more = read_images(test, resize=size)
        held_out = held_out if more is None else more
    return images, held_out, size
