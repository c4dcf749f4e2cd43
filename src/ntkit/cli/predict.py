"""`ntkit predict`: predictions of a saved model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ntkit.cli.errors import explained
from ntkit.cli.fit import From
from ntkit.cli.options import Missing, Unseen, refuse

if TYPE_CHECKING:  # a command's help appears without loading JAX
    import polars as pl

    from ntkit.model import ImageModel, TableModel


@explained
def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that ntkit fit wrote.")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="What to predict: a table with the model's input columns; for a model of images a folder of images "
            "(with or without a subfolder for every class) or an .npz file.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="File for the predictions (.csv, .tsv, .parquet); by default the standard output."),
    ] = None,
    distribution: Annotated[
        From | None,
        typer.Option(
            help="Gaussian-process posterior, or trained ensemble stopped or converged; as at fit time by default."
        ),
    ] = None,
    time: Annotated[
        float | None, typer.Option(help="Training time of the ensemble, 0 to inf, instead of --distribution.")
    ] = None,
    missing: Annotated[
        Missing,
        typer.Option(help="Missing inputs: stop with a message, drop the rows, or impute as in training."),
    ] = Missing.error,
    unseen: Annotated[
        Unseen, typer.Option(help="Categories that training did not have: stop, or encode as none.")
    ] = Unseen.error,
    ignore_extra: Annotated[
        bool, typer.Option(help="Leave columns unused that the model does not know.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Predict the rows of a table, or images, with a saved model.

    Regression gives mean, std, the ends of the interval of a new observation, and the function's own std;
    classification gives the most probable class and the probability of each. The column row counts the
    table's rows from 0. A column with the target may be present and is copied beside the
    predictions, and so are the classes of labelled images.
    """
    from ntkit.errors import TableError
    from ntkit.model import ImageModel, load_model
    from ntkit.tables.files import check_file_is_free
    from ntkit.tables.read import write_table

    if distribution is not None and time is not None:
        raise TableError("Prediction needs --distribution or --time, got both. Leave one out.")
    if out is not None:
        check_file_is_free(out, overwrite=overwrite)
    model = load_model(folder)
    if isinstance(model, ImageModel):
        tables_only = {
            "--missing": missing is not Missing.error,
            "--unseen": unseen is not Unseen.error,
            "--ignore-extra": ignore_extra,
        }
        refuse(tables_only, "it is about the columns of a table, and this is a model of images.")
        result, title = _image_predictions(model, data, distribution, time)
    else:
        result, title = _table_predictions(
            model, data, distribution, time, missing, unseen, ignore_extra=ignore_extra
        )
    if out is None:
        typer.echo(result.write_csv(), nl=False)
        return
    write_table(result, out)
    typer.echo(f"{result.height} predictions of the {title}: {out}", err=True)


def _image_predictions(
    model: "ImageModel", data: Path, distribution: From | None, time: float | None
) -> "tuple[pl.DataFrame, str]":
    """The predictions of images, and the distribution they come from."""
    import polars as pl

    from ntkit.images import read_images

    first, test = read_images(data, resize=model.encoder.resize)
    images = first if test is None else test
    predictions = model.predict(
        images, distribution=None if distribution is None else distribution.value, time=time
    )
    name = model.encoder.target.name
    truth = None if images.labels is None else pl.Series(name, images.labels.tolist())
    return predictions.to_frame(range(len(images)), name, truth, images.names), predictions.distribution


def _table_predictions(
    model: "TableModel",
    data: Path,
    distribution: From | None,
    time: float | None,
    missing: Missing,
    unseen: Unseen,
    *,
    ignore_extra: bool,
) -> "tuple[pl.DataFrame, str]":
    """The predictions of a table's rows, and the distribution they come from."""
    from ntkit.tables.missing import complete_rows
    from ntkit.tables.read import read_table

    schema = model.encoder.schema
    frame = read_table(data, as_text=schema.category_names)
    schema.check_columns(frame, ignore_extra=ignore_extra)
    keep = complete_rows(frame, schema.input_names, None, missing.value).nonzero()[0]
    kept = frame[keep]
    predictions = model.predict(
        kept,
        distribution=None if distribution is None else distribution.value,
        time=time,
        unseen=unseen.value,
    )
    truth = kept[schema.target.name] if schema.target.name in kept.columns else None
    return predictions.to_frame(keep.tolist(), schema.target.name, truth), predictions.distribution
