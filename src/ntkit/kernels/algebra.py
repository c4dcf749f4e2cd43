"""Sums, products and positive multiples of kernels, which are kernels again."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array
from ntkit.numerics.trees import as_leaf, pytree


@pytree()
@dataclass(frozen=True, eq=False)
class Sum(Kernel):
    """`k(x, x') = left(x, x') + right(x, x')`."""

    left: Kernel
    right: Kernel

    def __call__(
        self, x1: Float[Array, "n1 *d"], x2: Float[Array, "n2 *d"] | None = None
    ) -> Float[Array, "n1 n2"]:
        return self.left(x1, x2) + self.right(x1, x2)

    def diag(self, x: Float[Array, "n *d"]) -> Float[Array, " n"]:
        return self.left.diag(x) + self.right.diag(x)


@pytree()
@dataclass(frozen=True, eq=False)
class Product(Kernel):
    """`k(x, x') = left(x, x') right(x, x')`, positive semi-definite by Schur's product theorem."""

    left: Kernel
    right: Kernel

    def __call__(
        self, x1: Float[Array, "n1 *d"], x2: Float[Array, "n2 *d"] | None = None
    ) -> Float[Array, "n1 n2"]:
        return self.left(x1, x2) * self.right(x1, x2)

    def diag(self, x: Float[Array, "n *d"]) -> Float[Array, " n"]:
        return self.left.diag(x) * self.right.diag(x)


@pytree()
@dataclass(frozen=True, eq=False)
class Scaled(Kernel):
    """`k(x, x') = factor kernel(x, x')` for a factor of at least 0.

    Raises:
        ValueError: for a negative or infinite factor, which would not leave a kernel.
    """

    kernel: Kernel
    factor: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", as_leaf("A multiple of a kernel", "the factor", self.factor, 0.0))

    def __call__(
        self, x1: Float[Array, "n1 *d"], x2: Float[Array, "n2 *d"] | None = None
    ) -> Float[Array, "n1 n2"]:
        return self.factor * self.kernel(x1, x2)

    def diag(self, x: Float[Array, "n *d"]) -> Float[Array, " n"]:
        return self.factor * self.kernel.diag(x)
