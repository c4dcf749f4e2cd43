"""`ntkit predict`: predictions of a saved model."""

from pathlib import Path
from typing import Annotated

import typer

from ntkit.cli.errors import explained
from ntkit.cli.fit import From
from ntkit.cli.options import Missing, Unseen


@explained
def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that ntkit fit wrote.")],
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Table to predict, with the model's input columns.")
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
    """Predict the rows of a table with a saved model.

    Regression gives mean, std, the ends of the interval of a new observation, and the function's own std;
    classification gives the most probable class and the probability of each. The column row counts the
    table's rows from 0. A column with the target may be present and is copied beside the predictions.
    """
    from ntkit.errors import TableError
    from ntkit.model import load_model
    from ntkit.tables.files import check_file_is_free
    from ntkit.tables.missing import complete_rows
    from ntkit.tables.read import read_table, write_table

    if distribution is not None and time is not None:
        raise TableError("Prediction needs --distribution or --time, got both. Leave one out.")
    if out is not None:
        check_file_is_free(out, overwrite=overwrite)
    model = load_model(folder)
    schema = model.encoder.schema
    frame = read_table(table, as_text=schema.category_names)
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
    result = predictions.to_frame(keep.tolist(), schema.target.name, truth)
    if out is None:
        typer.echo(result.write_csv(), nl=False)
        return
    write_table(result, out)
    typer.echo(f"{len(keep)} predictions of the {predictions.distribution}: {out}", err=True)
