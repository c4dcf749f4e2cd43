"""Read a table from CSV or Parquet, and write one without ever leaving a half-written file."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ntkit.errors import TableError
from ntkit.tables.files import atomic_file

MISSING_TEXTS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""The texts that a CSV file may use for a missing value."""

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET_SUFFIXES = (".parquet", ".pq")


def read_table(path: str | Path, *, as_text: Iterable[str] = ()) -> pl.DataFrame:
    """Read a CSV (`.csv`, `.tsv`) or Parquet (`.parquet`, `.pq`) file, chosen by its suffix.

    Column types of a CSV file are inferred from all its rows; `NaN` and the texts in `MISSING_TEXTS`
    count as missing.

    Args:
        path: The file.
        as_text: Columns of a CSV file to keep as text (categories written as numbers, such as "007").

    Returns:
        The table; at least one row and one column.

    Raises:
        TableError: if the file does not exist, has another suffix, cannot be parsed or is empty.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SEPARATORS and suffix not in PARQUET_SUFFIXES:
        known = ", ".join((*SEPARATORS, *PARQUET_SUFFIXES))
        raise TableError(
            f"read_table needs a file that ends in one of {known}, got '{path}'. Convert the file first."
        )
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise TableError(f"read_table needs an existing file, got '{path}' ({what}). Check the path.")
    try:
        frame = (
            _read_csv(path, SEPARATORS[suffix], as_text) if suffix in SEPARATORS else pl.read_parquet(path)
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError, csv.Error) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TableError(f"read_table cannot parse '{path}' as {suffix[1:]}: {first_line}") from error
    if frame.width == 0 or frame.height == 0:
        raise TableError(f"read_table needs at least one column and one row, got {frame.shape} in '{path}'.")
    return frame.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))


def _read_csv(path: Path, separator: str, as_text: Iterable[str]) -> pl.DataFrame:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        header = next(csv.reader(stream, delimiter=separator), [])
    if not header:
        raise TableError(f"read_table needs a header line with column names, got an empty file '{path}'.")
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise TableError(
            f"read_table needs distinct column names, got '{repeated[0]}' more than once in '{path}'."
        )
    return pl.read_csv(
        path,
        separator=separator,
        null_values=list(MISSING_TEXTS),
        infer_schema_length=None,
        schema_overrides={name: pl.String for name in as_text if name in header},
    )


def write_table(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a table as CSV or Parquet, chosen by the suffix; the file appears complete or not at all.

    Raises:
        TableError: for another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    with atomic_file(path) as part:
        if suffix in SEPARATORS:
            frame.write_csv(part, separator=SEPARATORS[suffix])
        elif suffix in PARQUET_SUFFIXES:
            frame.write_parquet(part)
        else:
            known = ", ".join((*SEPARATORS, *PARQUET_SUFFIXES))
            raise TableError(f"write_table needs a file name that ends in one of {known}, got '{path}'.")
