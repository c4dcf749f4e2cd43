"""What a table's columns mean: numbers or categories, and the target with its task."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from ntkit.errors import TableError

MOST_CLASSES = 20
"""An integer target with more distinct values than this is taken for regression."""

ROWS_PER_CLASS = 5
"""An integer target with fewer rows per distinct value than this is taken for regression."""

MOST_CATEGORIES = 100
"""A text column with more distinct values than this is refused: most likely it identifies the row."""

Task = Literal["regression", "classification"]


@dataclass(frozen=True)
class Column:
    """An input column: a number, or a category with its known values."""

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """The column to predict; a classification target has its classes, as text."""

    name: str
    task: Task
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """The inputs in order, the target, and the columns of the table that are not used."""

    inputs: tuple[Column, ...]
    target: Target
    ignored: tuple[str, ...] = ()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the input columns, in order."""
        return tuple(column.name for column in self.inputs)

    @property
    def category_names(self) -> tuple[str, ...]:
        """The names of the columns that hold categories."""
        return tuple(column.name for column in self.inputs if column.kind == "category")

    def check_columns(self, frame: pl.DataFrame, *, ignore_extra: bool = False) -> None:
        """Raise unless `frame` has every input column, and no column unknown when the schema was made.

        Raises:
            TableError: naming the missing and the extra columns and the likeliest renaming.
        """
        known = {*self.input_names, self.target.name, *self.ignored}
        missing = [name for name in self.input_names if name not in frame.columns]
        extra = [name for name in frame.columns if name not in known]
        if missing:
            renamed = [
                f"'{close}' looks like '{name}' renamed"
                for name in missing
                if (close := _closest(name, extra)) is not None
            ]
            hint = f" {'; '.join(renamed)}: rename it back." if renamed else ""
            raise TableError(
                f"The table lacks {len(missing)} column(s) that the model needs: {_listed(missing)}.{hint} "
                f"Columns that the model does not know: {_listed(extra) or 'none'}."
            )
        if extra and not ignore_extra:
            raise TableError(
                f"The table has {len(extra)} column(s) that the model does not know: {_listed(extra)}. "
                "Remove them, or pass ignore_extra=True (--ignore-extra) to leave them unused."
            )

    def to_json(self) -> dict[str, Any]:
        """The schema as plain lists, texts and dictionaries."""
        return {
            "inputs": [
                {"name": column.name, "kind": column.kind, "categories": list(column.categories)}
                for column in self.inputs
            ],
            "target": {
                "name": self.target.name,
                "task": self.target.task,
                "classes": list(self.target.classes),
            },
            "ignored": list(self.ignored),
        }

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> "Schema":
        """The inverse of `to_json`."""
        target = description["target"]
        return cls(
            inputs=tuple(
                Column(column["name"], column["kind"], tuple(column["categories"]))
                for column in description["inputs"]
            ),
            target=Target(target["name"], target["task"], tuple(target["classes"])),
            ignored=tuple(description["ignored"]),
        )


def infer_schema(
    frame: pl.DataFrame,
    target: str,
    *,
    task: Task | None = None,
    categorical: Iterable[str] = (),
    ignore: Iterable[str] = (),
) -> Schema:
    """Decide what each column is.

    Numeric columns are numbers, unless listed in `categorical`; text and boolean columns are categories;
    columns with a single value carry nothing and are left out. The task is classification for a text,
    boolean or categorical target and for an integer target with at most `MOST_CLASSES` values and on
    average at least `ROWS_PER_CLASS` rows per value; regression otherwise.

    Raises:
        TableError: for an unknown name, a column that cannot be used, or a target that does not vary.
    """
    categorical, ignore = tuple(categorical), tuple(ignore)
    check_column(frame, target)
    if target in ignore:
        raise TableError(f"The target '{target}' cannot also be ignored. Drop it from ignore (--ignore).")
    inputs, ignored = input_columns(frame, categorical=categorical, ignore=ignore, target=target)
    return Schema(inputs, _target(frame[target], task), ignored)


def input_columns(
    frame: pl.DataFrame,
    *,
    categorical: Iterable[str] = (),
    ignore: Iterable[str] = (),
    target: str | None = None,
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """The input columns, and the names of the columns left out: those to ignore, and those with a single value.

    Raises:
        TableError: for an unknown name, a column that cannot be used, or if no column is left.
    """
    categorical, ignore = tuple(categorical), tuple(ignore)
    for name in (*categorical, *ignore):
        check_column(frame, name)
    inputs: list[Column] = []
    ignored = list(ignore)
    for name in frame.columns:
        if name == target or name in ignore:
            continue
        column = _input_column(frame[name], as_category=name in categorical)
        if column is None:
            ignored.append(name)
        else:
            inputs.append(column)
    if not inputs:
        beside = "" if target is None else f" beside the target '{target}'"
        raise TableError(f"The table needs at least one input column that varies{beside}, got none.")
    return tuple(inputs), tuple(ignored)


def check_column(frame: pl.DataFrame, name: str) -> None:
    """Raise, with the closest name, unless the table has the column.

    Raises:
        TableError: if it has not.
    """
    if name not in frame.columns:
        close = _closest(name, frame.columns)
        hint = f" Did you mean '{close}'?" if close is not None else ""
        raise TableError(f"The table has no column '{name}'.{hint} It has: {_listed(frame.columns)}.")


def category_texts(values: pl.Series, categories: tuple[str, ...] = ()) -> pl.Series:
    """Category values as text; truth values are lower case, however the file writes them."""
    texts = values.cast(pl.String)
    is_truth = bool(categories) and set(categories) <= {"true", "false"}
    return texts.str.to_lowercase() if is_truth else texts


def _input_column(values: pl.Series, *, as_category: bool) -> Column | None:
    """The column's meaning, or None if it has fewer than two distinct values."""
    present = values.drop_nulls()
    if present.n_unique() < 2:
        return None
    if values.dtype.is_numeric() and not as_category:
        if values.dtype.is_float() and not present.is_finite().all():
            raise TableError(
                f"Column '{values.name}' holds infinite values. Remove those rows or ignore the column."
            )
        return Column(values.name, "number")
    if values.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum) or as_category:
        categories = tuple(sorted(category_texts(present).unique().to_list()))
        if len(categories) > MOST_CATEGORIES:
            raise TableError(
                f"Column '{values.name}' has {len(categories)} distinct texts, such as '{present[0]}': too many "
                f"categories (at most {MOST_CATEGORIES}). Leave it out with ignore (--ignore '{values.name}')."
            )
        return Column(values.name, "category", categories)
    raise TableError(
        f"Column '{values.name}' has type {values.dtype}, which is neither number, text nor truth value. "
        f"Convert it, or leave it out with ignore (--ignore '{values.name}')."
    )


def _target(values: pl.Series, task: Task | None) -> Target:
    """The target with its task, decided from its values where `task` is None."""
    present = values.drop_nulls()
    distinct = present.n_unique()
    if distinct < 2:
        raise TableError(f"The target '{values.name}' needs at least two distinct values, got {distinct}.")
    if task is None:
        few = distinct <= MOST_CLASSES and len(present) >= ROWS_PER_CLASS * distinct
        discrete = not values.dtype.is_numeric() or (values.dtype.is_integer() and few)
        task = "classification" if discrete else "regression"
    if task == "regression":
        if not values.dtype.is_numeric():
            raise TableError(
                f"Regression needs a numeric target, got '{values.name}' of type {values.dtype}. "
                "Use task='classification' (--task classification)."
            )
        if values.dtype.is_float() and not present.is_finite().all():
            raise TableError(f"The target '{values.name}' holds infinite values. Remove those rows.")
        return Target(values.name, "regression")
    if distinct > MOST_CATEGORIES:
        raise TableError(
            f"Classification needs a target with at most {MOST_CATEGORIES} classes, got {distinct} in "
            f"'{values.name}'. Use task='regression' (--task regression) for a number."
        )
    classes = (
        present.unique().sort().to_list()
        if values.dtype.is_numeric()
        else sorted(category_texts(present).unique())
    )
    return Target(values.name, "classification", tuple(category_texts(pl.Series(classes)).to_list()))


def _closest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of the names, upper and lower case being alike; None if none is similar."""
    folded = {other.casefold(): other for other in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def _listed(names: Iterable[str], most: int = 8) -> str:
    """Names in quotes, shortened when there are many."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
