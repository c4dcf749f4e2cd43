"""A Gram matrix that is known already, as a kernel of row numbers: folds and times cost no further evaluations."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array


@dataclass(frozen=True, eq=False)
class RowKernel(Kernel):
    """`k(i, j) = gram[i, j]`: the points are row numbers, shape (n, 1), of a stored Gram matrix.

    Of all pairs of points, only those with one of the first `columns` points (the training points) need be known.

    Attributes:
        gram: The kernel between all points and the first ones, shape (rows, columns).
        name: What to call it in messages.
        own: The kernel of every point with itself, shape (rows,); needed only where there are more rows than columns.
    """

    gram: Float[np.ndarray, "rows columns"]
    name: str
    own: Float[np.ndarray, " rows"] | None = None

    def __call__(
        self, x1: Float[Array, "n1 1"], x2: Float[Array, "n2 1"] | None = None
    ) -> Float[Array, "n1 n2"]:
        rows = _numbers(x1)
        columns = rows if x2 is None else _numbers(x2)
        known = self.gram.shape[1]
        if (columns < known).all():
            return self.gram[np.ix_(rows, columns)]
        if (rows < known).all():
            return self.gram[np.ix_(columns, rows)].T
        raise ValueError(
            f"{self.name} is stored between all points and the first {known}, got pairs of others. Ask for "
            "the diagonal."
        )

    def diag(self, x: Float[Array, "n 1"]) -> Float[Array, " n"]:
        return (np.diag(self.gram) if self.own is None else self.own)[_numbers(x)]

    def __repr__(self) -> str:
        return self.name


def _numbers(x: Float[Array, "n 1"]) -> np.ndarray:
    return np.asarray(x)[:, 0].astype(np.int64)
