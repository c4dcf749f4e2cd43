"""Real tables that scikit-learn brings along, as a user would have them."""

import numpy as np
import polars as pl
from sklearn.datasets import load_diabetes, load_digits

from ntkit.tables.split import limit_rows


def bundled_tables(digits_rows: int, seed: int) -> dict[str, tuple[pl.DataFrame, str]]:
    """Diabetes (442 rows, in original units) and a random part of the digits, each with its target's name."""
    diabetes = load_diabetes(scaled=False)
    frame = pl.DataFrame(dict(zip(diabetes.feature_names, diabetes.data.T, strict=True)))
    # Two codes of unknown meaning are a category, which also shows how categories are treated.
    frame = frame.with_columns(pl.Series("sex", [f"code {int(code)}" for code in frame["sex"]]))
    frame = frame.with_columns(pl.Series("progression", diabetes.target))
    digits = load_digits()
    rows = limit_rows(len(digits.data), digits_rows, seed)
    pixels = dict(zip(digits.feature_names, digits.data[rows].T.astype(np.int64), strict=True))
    return {
        "diabetes": (frame, "progression"),
        "digits": (pl.DataFrame({**pixels, "digit": digits.target[rows]}), "digit"),
    }
