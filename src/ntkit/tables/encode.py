"""From a table to points and targets: standardised numbers, one-hot categories, centred classes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ntkit.errors import TableError
from ntkit.tables.missing import Missing, complete_rows
from ntkit.tables.schema import Column, Schema, Target, category_texts, input_columns

Unseen = Literal["error", "ignore"]


@dataclass(frozen=True)
class TableEncoder:
    """Encode tables the way the training table was encoded.

    Numbers become `(x - mean) / std`; a category becomes one indicator per known value (scikit-learn's
    `StandardScaler` and `OneHotEncoder`). A regression target is standardised; a classification
    target becomes `one_hot - class_frequency`, one output per class.

    Attributes:
        schema: The columns.
        means, scales: Mean and standard deviation of each number column in the training table.
        fills: What stands in for a missing input: the median, or the most frequent category.
        target_means: Mean of the target, or the class frequencies, shape (outputs,).
        target_scale: Standard deviation of a regression target; 1 for classes.
    """

    schema: Schema
    means: Float[np.ndarray, " numbers"]
    scales: Float[np.ndarray, " numbers"]
    fills: tuple[float | str, ...]
    target_means: Float[np.ndarray, " outputs"]
    target_scale: float

    @classmethod
    def fit(cls, schema: Schema, frame: pl.DataFrame) -> "TableEncoder":
        """Learn means, scales and fill values from the training rows.

        Raises:
            TableError: if a column of the training rows is empty or the target does not vary in them.
        """
        fills = tuple(_fill(frame[column.name], column) for column in schema.inputs)
        numbers = _numbers(schema, frame, fills)
        scaler = StandardScaler().fit(numbers) if numbers.shape[1] else None
        means = np.zeros(0) if scaler is None else np.asarray(scaler.mean_, dtype=np.float64)
        scales = np.zeros(0) if scaler is None else np.asarray(scaler.scale_, dtype=np.float64)
        target = frame[schema.target.name]
        if schema.target.task == "regression":
            values = target.cast(pl.Float64).to_numpy()
            scale = float(values.std())
            if not scale > 0.0:
                raise TableError(f"The target '{target.name}' does not vary in the training rows.")
            return cls(schema, means, scales, fills, np.array([values.mean()]), scale)
        codes = class_codes(schema, frame)
        frequencies = np.bincount(codes, minlength=len(schema.target.classes)) / len(codes)
        return cls(schema, means, scales, fills, frequencies, 1.0)

    @property
    def target(self) -> Target:
        """The column to predict."""
        return self.schema.target

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The name of each encoded input: the number columns, then `column=category`."""
        numbers = [column.name for column in self.schema.inputs if column.kind == "number"]
        indicators = [
            f"{column.name}={value}" for column in self.schema.inputs for value in column.categories
        ]
        return (*numbers, *indicators)

    def points(self, frame: pl.DataFrame, *, unseen: Unseen = "error") -> Float[np.ndarray, "n d"]:
        """The inputs as points, shape (rows, features), float64.

        Args:
            frame: A table with the schema's input columns.
            unseen: "error" raises for a category absent when the encoder was fitted; "ignore" encodes
                it as all zeros (none of the known values).

        Raises:
            TableError: for text in a number column, infinite values or unseen categories.
        """
        numbers = _numbers(self.schema, frame, self.fills)
        blocks = []
        if numbers.shape[1]:
            scaler = StandardScaler()
            scaler.mean_, scaler.scale_ = self.means, self.scales
            scaler.var_, scaler.n_features_in_ = self.scales**2, numbers.shape[1]
            blocks.append(np.asarray(scaler.transform(numbers), dtype=np.float64))
        categories = [column for column in self.schema.inputs if column.kind == "category"]
        if categories:
            blocks.append(_indicators(categories, frame, self._fill_of, unseen))
        return np.concatenate(blocks, axis=1)

    def targets(self, frame: pl.DataFrame) -> Float[np.ndarray, "n outputs"]:
        """The target as the network sees it: standardised, or one-hot and centred.

        Raises:
            TableError: for a class that the training table did not have.
        """
        if self.schema.target.task == "regression":
            values = frame[self.schema.target.name].cast(pl.Float64).to_numpy()
            return ((values - self.target_means[0]) / self.target_scale)[:, None]
        one_hot = np.eye(len(self.schema.target.classes))[class_codes(self.schema, frame)]
        return one_hot - self.target_means[None, :]

    def _fill_of(self, name: str) -> float | str:
        return self.fills[self.schema.input_names.index(name)]


def class_codes(schema: Schema, frame: pl.DataFrame) -> Int[np.ndarray, " n"]:
    """The number of each row's class.

    Raises:
        TableError: naming a class that the schema does not have.
    """
    target = schema.target
    codes = {name: code for code, name in enumerate(target.classes)}
    texts = category_texts(frame[target.name], target.classes).to_list()
    for text in texts:
        if text not in codes:
            raise TableError(
                f"The target '{target.name}' has the class '{text}', unknown to the training table."
            )
    return np.array([codes[text] for text in texts], dtype=np.int64)


def _fill(values: pl.Series, column: Column) -> float | str:
    """The value that stands in for a missing one."""
    present = values.drop_nulls()
    if present.is_empty():
        raise TableError(
            f"Column '{values.name}' is empty in the training rows. Leave it out with ignore (--ignore)."
        )
    if column.kind == "number":
        return float(np.median(_as_number(present)))
    texts = category_texts(present, column.categories).to_list()
    return max(column.categories, key=texts.count)


def _as_number(values: pl.Series) -> Float[np.ndarray, " n"]:
    if not values.dtype.is_numeric() and values.dtype != pl.Null:
        present = values.drop_nulls().cast(pl.String)
        bad = present.filter(present.cast(pl.Float64, strict=False).is_null())
        example = f" such as '{bad[0]}'" if len(bad) else f" of type {values.dtype}"
        raise TableError(f"Column '{values.name}' needs numbers, got values{example}. Correct the column.")
    numbers = values.cast(pl.Float64).to_numpy()
    if np.isinf(numbers).any():
        raise TableError(f"Column '{values.name}' holds infinite values. Remove those rows.")
    return numbers


def _numbers(
    schema: Schema, frame: pl.DataFrame, fills: tuple[float | str, ...]
) -> Float[np.ndarray, "n numbers"]:
    """The number columns side by side, missing values filled."""
    columns = [
        np.nan_to_num(_as_number(frame[column.name]), nan=float(fill))
        for column, fill in zip(schema.inputs, fills, strict=True)
        if column.kind == "number"
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((frame.height, 0))


def _indicators(
    categories, frame: pl.DataFrame, fill_of, unseen: Unseen
) -> Float[np.ndarray, "n indicators"]:
    """One-hot indicators of the category columns, side by side."""
    columns = []
    for column in categories:
        texts = category_texts(frame[column.name], column.categories).fill_null(str(fill_of(column.name)))
        unknown = sorted(set(texts.to_list()) - set(column.categories))
        if unknown and unseen == "error":
            raise TableError(
                f"Column '{column.name}' has {len(unknown)} value(s) that the model has not seen, such as "
                f"'{unknown[0]}'; it knows {', '.join(repr(value) for value in column.categories[:10])}. "
                "Correct them, or encode them as none of the known values with unseen='ignore' (--unseen ignore)."
            )
        columns.append(texts.to_list())
    encoder = OneHotEncoder(
        categories=[np.array(column.categories, dtype=object) for column in categories],
        handle_unknown="ignore",
        sparse_output=False,
    )
    values = np.array(columns, dtype=object).T
    return np.asarray(encoder.fit(values).transform(values), dtype=np.float64)


def encode_points(
    frame: pl.DataFrame,
    *,
    categorical: Iterable[str] = (),
    ignore: Iterable[str] = (),
    missing: Missing = "error",
    standardise: bool = True,
) -> Float[np.ndarray, "n d"]:
    """All columns of a table as points, without a target: for kernel matrices.

    Args:
        frame: The table.
        categorical: Number columns to treat as categories.
        ignore: Columns to leave out.
        missing: See `complete_rows`.
        standardise: Whether numbers become `(x - mean) / std`; otherwise they stay as they are.

    Raises:
        TableError: for columns that cannot be used.
    """
    inputs, _ = input_columns(frame, categorical=categorical, ignore=ignore)
    schema = Schema(inputs, Target("", "regression"))
    frame = frame.filter(pl.Series(complete_rows(frame, schema.input_names, None, missing)))
    fills = tuple(_fill(frame[column.name], column) for column in inputs)
    numbers = _numbers(schema, frame, fills)
    means, scales = np.zeros(numbers.shape[1]), np.ones(numbers.shape[1])
    if standardise and numbers.shape[1]:
        scaler = StandardScaler().fit(numbers)
        means, scales = np.asarray(scaler.mean_), np.asarray(scaler.scale_)
    return TableEncoder(schema, means, scales, fills, np.zeros(1), 1.0).points(frame)
