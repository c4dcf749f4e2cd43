"""The waist of the library: a `Kernel` is a function of two sets of points, whatever lies behind it."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from jaxtyping import Float

from ntkit.numerics.dtypes import Array, as_inputs
from ntkit.numerics.trees import Value

if TYPE_CHECKING:
    from ntkit.kernels.algebra import Product, Scaled, Sum


class Kernel(Value, ABC):
    """A symmetric positive semi-definite function `k(x, x')`, evaluated on blocks of points.

    NumPy arrays in give NumPy arrays out in the same dtype; JAX arrays in give JAX arrays out, and
    under `jit`, `grad` and `vmap` a kernel is a pure function. Points are floating arrays, unless the kernel is one of
    functions that take others, tokens or pytrees of arrays with one first axis: `as_inputs` says which.
    """

    @abstractmethod
    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "n1 n2"]:
        """The Gram matrix `k(x1_i, x2_j)`; `x2=None` means `x1` against itself, symmetric, exact diagonal."""

    @abstractmethod
    def diag(self, x: Any) -> Float[Array, " n"]:
        """`k(x_i, x_i)` without the matrix."""

    def as_inputs(self, who: str, x: Any, name: str = "x") -> Any:
        """Check points for this kernel: here vectors, shape (n, d), or images, floating and finite.

        NumPy integers and booleans become float64.

        Raises:
            ValueError: naming `who`, the argument and the remedy.
        """
        return as_inputs(who, x, name)

    def __add__(self, other: "Kernel") -> "Sum":
        from ntkit.kernels.algebra import Sum

        return Sum(self, other)

    def __mul__(self, other: "Kernel | float") -> "Product | Scaled":
        from ntkit.kernels.algebra import Product, Scaled

        return Product(self, other) if isinstance(other, Kernel) else Scaled(self, other)

    def __rmul__(self, other: float) -> "Product | Scaled":
        return self * other
