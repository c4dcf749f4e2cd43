"""Write Gram matrices in the format that the file's suffix names."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from ntkit.errors import TableError
from ntkit.tables.files import atomic_file
from ntkit.tables.read import write_table

ARRAY_SUFFIXES = (".npy", ".npz")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")


def check_matrix_file(path: Path, *, both: bool) -> None:
    """Raise, before anything is computed, unless the suffix names a format that holds the result.

    Raises:
        TableError: for another suffix, or both kernels in a format that holds one matrix.
    """
    suffix = path.suffix.lower()
    if suffix not in (*ARRAY_SUFFIXES, *TABLE_SUFFIXES):
        known = ", ".join((*ARRAY_SUFFIXES, *TABLE_SUFFIXES))
        raise TableError(f"A matrix needs a file name that ends in one of {known}, got '{path}'.")
    if both and suffix != ".npz":
        raise TableError(
            f"Both kernels need a file that holds two matrices, got '{path}'. Use a name ending in .npz."
        )


def write_matrix(matrices: Mapping[str, np.ndarray], path: Path) -> None:
    """Write one matrix, or several by name into an .npz; the file appears complete or not at all."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with atomic_file(path) as part:
            np.savez(part, allow_pickle=False, **matrices)
        return
    (matrix,) = matrices.values()
    if suffix == ".npy":
        with atomic_file(path) as part:
            np.save(part, matrix, allow_pickle=False)
        return
    columns = {f"row_{number}": matrix[:, number] for number in range(matrix.shape[1])}
    write_table(pl.DataFrame(columns), path)
