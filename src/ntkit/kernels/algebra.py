"""Sums, products and positive multiples of kernels, which are kernels again."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array
from ntkit.numerics.trees import as_leaf, pytree


class Composed(Kernel, ABC):
    """A kernel made of others at the same points: it takes what all its parts take."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Kernel, ...]:
        """The kernels it is made of."""

    def as_inputs(self, who: str, x: Any, name: str = "x") -> Any:
        """Check points for every part."""
        for part in self.parts:
            x = part.as_inputs(who, x, name)
        return x


@pytree()
@dataclass(frozen=True, eq=False)
class Sum(Composed):
    """`k(x, x') = left(x, x') + right(x, x')`."""

    left: Kernel
    right: Kernel

    @property
    def parts(self) -> tuple[Kernel, ...]:
        return self.left, self.right

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "n1 n2"]:
        return self.left(x1, x2) + self.right(x1, x2)

    def diag(self, x: Any) -> Float[Array, " n"]:
        return self.left.diag(x) + self.right.diag(x)


@pytree()
@dataclass(frozen=True, eq=False)
class Product(Composed):
    """`k(x, x') = left(x, x') right(x, x')`, positive semi-definite by Schur's product theorem."""

    left: Kernel
    right: Kernel

    @property
    def parts(self) -> tuple[Kernel, ...]:
        return self.left, self.right

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "n1 n2"]:
        return self.left(x1, x2) * self.right(x1, x2)

    def diag(self, x: Any) -> Float[Array, " n"]:
        return self.left.diag(x) * self.right.diag(x)


@pytree()
@dataclass(frozen=True, eq=False)
class Scaled(Composed):
    """`k(x, x') = factor kernel(x, x')` for a factor of at least 0.

    Raises:
        ValueError: for a negative or infinite factor, which would not leave a kernel.
    """

    kernel: Kernel
    factor: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", as_leaf("A multiple of a kernel", "the factor", self.factor, 0.0))

    @property
    def parts(self) -> tuple[Kernel, ...]:
        return (self.kernel,)

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "n1 n2"]:
        return self.factor * self.kernel(x1, x2)

    def diag(self, x: Any) -> Float[Array, " n"]:
        return self.factor * self.kernel.diag(x)
