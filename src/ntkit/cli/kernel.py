"""`ntkit kernel`: the Gram matrix of a table's rows."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ntkit.cli import options
from ntkit.cli.errors import explained


class Which(StrEnum):
    """Which kernels to write."""

    nngp = "nngp"
    ntk = "ntk"
    both = "both"


class Precision(StrEnum):
    """The numbers' type."""

    float32 = "float32"
    float64 = "float64"


@explained
def kernel(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Table whose rows are the points: CSV or Parquet.")
    ],
    out: Annotated[Path, typer.Option(help="File for the matrix: .npy, .npz, .csv, .tsv or .parquet.")],
    which: Annotated[Which, typer.Option("--kernel", help="Which kernel; both needs .npz.")] = Which.nngp,
    depth: options.Depth = 1,
    activation: options.ActivationName = "relu",
    w_std: options.WeightScale = 1.0,
    b_std: options.BiasScale = 0.0,
    dtype: Annotated[Precision, typer.Option(help="Precision of kernel and file.")] = Precision.float64,
    standardise: Annotated[
        bool, typer.Option(help="Standardise number columns; otherwise they are used as they are.")
    ] = True,
    categorical: options.Categorical = None,
    ignore: options.Ignore = None,
    missing: options.MissingChoice = options.Missing.error,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write the kernel matrix of a table's rows under an infinitely wide network.

    The network has DEPTH fully connected hidden layers with the given activation and a linear readout.
    Rows and columns of the matrix are the table's rows in order. An .npz file holds nngp and ntk by name.
    """
    import numpy as np

    from ntkit.cli.matrix import check_matrix_file, write_matrix
    from ntkit.kernels import NNGP, NTK, evaluate
    from ntkit.tables.encode import encode_points
    from ntkit.tables.files import check_file_is_free
    from ntkit.tables.read import read_table

    check_file_is_free(out, overwrite=overwrite)
    check_matrix_file(out, both=which is Which.both)
    network = options.dense_network(depth, activation, w_std, b_std)
    points = encode_points(
        read_table(table, as_text=categorical or ()),
        categorical=categorical or (),
        ignore=ignore or (),
        missing=missing.value,
        standardise=standardise,
    ).astype(dtype.value)
    kernels = {"nngp": NNGP(network), "ntk": NTK(network)}
    wanted = ("nngp", "ntk") if which is Which.both else (which.value,)
    grams = evaluate(tuple(kernels[name] for name in wanted), points)
    write_matrix({str(name): np.asarray(gram) for name, gram in zip(wanted, grams, strict=True)}, out)
    typer.echo(f"{len(points)} x {len(points)} {' and '.join(wanted)} matrix: {out}", err=True)
