"""From tables to encoded training and test rows, with everything the reader should know about what was done."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from ntkit.analysis.results import ColumnSummary, DataSummary
from ntkit.analysis.settings import Settings
from ntkit.errors import TableError
from ntkit.images.encode import ImageEncoder
from ntkit.tables.encode import TableEncoder, class_codes
from ntkit.tables.missing import complete_rows
from ntkit.tables.schema import Column, Schema, category_texts, infer_schema
from ntkit.tables.split import limit_rows, train_test_rows

FEWEST_ROWS = 10
"""With fewer rows than this there is nothing to describe."""


@dataclass(frozen=True)
class Prepared:
    """Encoded rows: training points and targets, test points and targets, and where both came from.

    Of images each is a row; `test_names` are their files, where they come from files.
    """

    encoder: TableEncoder | ImageEncoder
    x: Float[np.ndarray, "n *d"]
    y: Float[np.ndarray, "n k"]
    rows: Int[np.ndarray, " n"]
    x_test: Float[np.ndarray, "m *d"]
    y_test: Float[np.ndarray, "m k"]
    test_rows: Int[np.ndarray, " m"]
    test_truth: pl.Series
    summary: DataSummary
    test_names: tuple[str, ...] = ()

    @property
    def codes(self) -> Int[np.ndarray, " n"]:
        """Class numbers of the training rows."""
        return np.argmax(self.y + self.encoder.target_means[None, :], axis=1)

    @property
    def test_codes(self) -> Int[np.ndarray, " m"]:
        """Class numbers of the test rows."""
        return np.argmax(self.y_test + self.encoder.target_means[None, :], axis=1)


@dataclass(frozen=True)
class Pool:
    """All rows that can be used, encoded among themselves: for questions that hold no rows out."""

    encoder: TableEncoder
    x: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, "n k"]
    rows: Int[np.ndarray, " n"]


def prepare(frame: pl.DataFrame, target: str, test: pl.DataFrame | None, settings: Settings) -> Prepared:
    """Type the columns, deal with missing values, split, subsample, encode.

    Raises:
        TableError: for whatever in the tables does not fit the settings.
    """
    notes: list[str] = []
    schema, kept = _typed(frame, target, settings, notes)
    if test is None:
        codes = class_codes(schema, frame[kept]) if schema.target.task == "classification" else None
        train, held_out = train_test_rows(len(kept), settings.test_fraction, settings.seed, classes=codes)
        test_rows = kept[held_out]
        test_frame = frame[test_rows]
        notes.append(f"Held out at random: {len(held_out)} of {len(kept)} rows, seed {settings.seed}.")
        kept = kept[train]
    else:
        if target not in test.columns:
            raise TableError(
                f"The test table needs the target '{target}', which it has not. Use ntkit predict without it."
            )
        schema.check_columns(test)
        test_rows = _usable(test, schema, settings, "The test table", notes)
        test_frame = test[test_rows]
    kept = _limited(kept, settings, notes)
    encoder = TableEncoder.fit(schema, frame[kept])
    x, x_test = encoder.points(frame[kept]), encoder.points(test_frame, unseen=settings.unseen)
    summary = DataSummary(
        rows=frame.height + (0 if test is None else test.height),
        train_rows=len(x),
        test_rows=len(x_test),
        features=x.shape[1],
        columns=tuple(_describe(frame[column.name], column) for column in schema.inputs),
        target=_describe_target(frame[target], schema),
        notes=tuple(notes),
    )
    return Prepared(
        encoder,
        x,
        encoder.targets(frame[kept]),
        kept,
        x_test,
        encoder.targets(test_frame),
        test_rows,
        test_frame[target],
        summary,
    )


def prepare_pool(frame: pl.DataFrame, target: str, settings: Settings) -> Pool:
    """Type the columns, deal with missing values, subsample, encode; nothing is held out.

    Raises:
        TableError: for whatever in the table does not fit the settings.
    """
    schema, kept = _typed(frame, target, settings, [])
    kept = _limited(kept, settings, [])
    if len(kept) < FEWEST_ROWS:
        raise TableError(
            f"A spectrum needs at least {FEWEST_ROWS} complete rows, got {len(kept)}. Give more data."
        )
    encoder = TableEncoder.fit(schema, frame[kept])
    return Pool(encoder, encoder.points(frame[kept]), encoder.targets(frame[kept]), kept)


def _typed(
    frame: pl.DataFrame, target: str, settings: Settings, notes: list[str]
) -> tuple[Schema, Int[np.ndarray, " kept"]]:
    """The columns' meaning, and the numbers of the rows that can be used."""
    schema = infer_schema(
        frame, target, task=settings.task, categorical=settings.categorical, ignore=settings.ignore
    )
    constant = [f"'{name}'" for name in schema.ignored if name not in settings.ignore]
    if constant:
        notes.append(f"Left out because all rows have the same value: {', '.join(constant)}.")
    return schema, _usable(frame, schema, settings, "The table", notes)


def _limited(rows: Int[np.ndarray, " n"], settings: Settings, notes: list[str]) -> Int[np.ndarray, " kept"]:
    """At most as many training rows as the settings allow."""
    if len(rows) <= settings.max_rows:
        return rows
    if not settings.subsample:
        raise TableError(
            f"Exact kernels need at most max_rows={settings.max_rows} training rows, got {len(rows)} (memory "
            "grows with their square, time with their cube). Draw a random subsample with subsample=True "
            "(--subsample), or raise max_rows (--max-rows)."
        )
    notes.append(f"Trained on a random subsample of {settings.max_rows} of {len(rows)} rows.")
    return rows[limit_rows(len(rows), settings.max_rows, settings.seed)]


def _usable(
    frame: pl.DataFrame, schema: Schema, settings: Settings, who: str, notes: list[str]
) -> Int[np.ndarray, " kept"]:
    """Row numbers that can be used; what was dropped or filled goes into the notes."""
    keep = complete_rows(frame, schema.input_names, schema.target.name, settings.missing)
    dropped = frame.height - int(keep.sum())
    if dropped:
        what = "without a target" if settings.missing == "impute" else "with missing values"
        notes.append(f"{who}: {dropped} of {frame.height} rows {what} were dropped.")
    filled = sum(frame[name].null_count() for name in schema.input_names)
    if filled and settings.missing == "impute":
        notes.append(
            f"{who}: {filled} missing inputs were filled with the training median or most frequent category; "
            "the intervals do not know of it."
        )
    return np.flatnonzero(keep)


def _describe(values: pl.Series, column: Column) -> ColumnSummary:
    present = values.drop_nulls()
    if column.kind == "number":
        numbers = present.cast(pl.Float64).to_numpy()
        mean, std = float(numbers.mean()), float(numbers.std())
        mean = 0.0 if abs(mean) < 1e-10 * std else mean  # rounding of a centred column
        content = f"mean {mean:.4g}, std {std:.4g}, {numbers.min():.4g} to {numbers.max():.4g}"
    else:
        shown = ", ".join(column.categories[:6]) + (", …" if len(column.categories) > 6 else "")
        content = f"{len(column.categories)} categories: {shown}"
    return ColumnSummary(column.name, column.kind, values.null_count(), content)


def _describe_target(values: pl.Series, schema: Schema) -> ColumnSummary:
    target = schema.target
    if target.task == "regression":
        return replace(_describe(values, Column(target.name, "number")), kind="regression target")
    texts = category_texts(values.drop_nulls(), target.classes)
    counts = ", ".join(f"{name}: {int((texts == name).sum())}" for name in target.classes[:12])
    more = ", …" if len(target.classes) > 12 else ""
    return ColumnSummary(target.name, "classification target", values.null_count(), counts + more)
