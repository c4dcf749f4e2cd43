"""A Gram matrix that is known already, as a kernel of row numbers: folds cost no further kernel evaluations."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array


@dataclass(frozen=True, eq=False)
class RowKernel(Kernel):
    """`k(i, j) = gram[i, j]`: the points are row numbers, shape (n, 1), of a stored Gram matrix.

    Attributes:
        gram: The Gram matrix of all rows, shape (rows, rows).
        name: What to call it in messages.
    """

    gram: Float[np.ndarray, "rows rows"]
    name: str

    def __call__(
        self, x1: Float[Array, "n1 1"], x2: Float[Array, "n2 1"] | None = None
    ) -> Float[Array, "n1 n2"]:
        return self.gram[np.ix_(_numbers(x1), _numbers(x1 if x2 is None else x2))]

    def diag(self, x: Float[Array, "n 1"]) -> Float[Array, " n"]:
        return self.gram[_numbers(x), _numbers(x)]

    def __repr__(self) -> str:
        return self.name


def _numbers(x: Float[Array, "n 1"]) -> np.ndarray:
    return np.asarray(x)[:, 0].astype(np.int64)
