"""Missing values: say where they are and what can be done, drop rows, or leave them to be imputed."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Bool

from ntkit.errors import TableError

Missing = Literal["error", "drop", "impute"]


def complete_rows(
    frame: pl.DataFrame, inputs: Sequence[str], target: str | None, missing: Missing
) -> Bool[np.ndarray, " n"]:
    """Which rows can be used: all, unless values are missing.

    Args:
        frame: The table.
        inputs: The input columns.
        target: The target column, or None where none is needed. A row without a target is never
            imputed; it is dropped under both "drop" and "impute".
        missing: "error" raises when a value is missing, "drop" leaves out incomplete rows, "impute"
            keeps rows with incomplete inputs (the encoder fills in the training median or the most
            frequent category).

    Returns:
        A mask over the rows.

    Raises:
        TableError: under "error", naming every column and count with the remedies; otherwise if no row is left.
    """
    names = [*inputs, *([target] if target is not None else [])]
    counts = {name: count for name in names if (count := frame[name].null_count())}
    if counts and missing == "error":
        listed = ", ".join(f"'{name}' ({count} of {frame.height})" for name, count in counts.items())
        raise TableError(
            f"Values are missing in {listed}. Drop those rows with missing='drop' (--missing drop), fill inputs with "
            "the training median or most frequent category with missing='impute' (--missing impute), or leave "
            "the column out with ignore (--ignore COLUMN)."
        )
    required = names if missing == "drop" else [target] if target is not None else []
    keep = np.ones(frame.height, dtype=bool)
    for name in required:
        keep &= frame[name].is_not_null().to_numpy()
    if not keep.any():
        raise TableError(
            f"Dropping the rows with missing values leaves none of {frame.height}: missing in {', '.join(counts)}. "
            "Use missing='impute' (--missing impute) or leave the emptiest column out with ignore (--ignore COLUMN)."
        )
    return keep
