"""Functions in a reproducing kernel Hilbert space as finite sums of kernels at centres."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.inference.blocks import LARGEST_BLOCK, in_blocks
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_points, check_finite, is_concrete, is_numpy
from ntkit.numerics.host import like, on_host, working
from ntkit.numerics.trees import pytree
from ntkit.rkhs.centers import check_fit, identical, join, merge
from ntkit.rkhs.compression import Compressed, compress
from ntkit.rkhs.element import Element, check_same_space
from ntkit.rkhs.positivity import checked_square


@pytree()
@dataclass(frozen=True, eq=False, repr=False)
class Expansion(Element):
    """A function `f = Σ_i K(c_i, ·) α_i` in the reproducing kernel Hilbert space `H_K`, with k outputs.

    `⟨f, g⟩ = Σ_ij α_i·β_j K(c_i, c'_j)`, summed over the outputs; `⟨f, K(x, ·)⟩ = f(x)` (the reproducing
    property). Functions of one kernel are vectors: `f + g`, `f - g`, `-f`, `a * f`, `f / a`, and `f @ g` is the
    inner product. Sums count coinciding centres once. Values follow the dtype and library of the points asked
    about; sums over centres are taken in float64. Nothing is cached: a norm evaluates the kernel.

    Args:
        kernel: the kernel of the space, any `ntkit.kernels.Kernel`.
        centers: the centres c, shape (n, d).
        coefficients: α, shape (n, k).

    Raises:
        ValueError: for centres and coefficients that do not match, or values that are not finite.

    Source:
        Aronszajn (1950), Theory of reproducing kernels.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> f = Expansion(RBF(), np.array([[0.0], [1.0]]), np.array([[2.0], [1.0]]))
    >>> f, round(f @ f, 6), f(np.array([[0.0]])).round(6).item()   # 4 + 1 + 2·2·exp(-1/2)
    (Expansion(2 centres of 1 feature, 1 output, RBF(length_scale=1.0, variance=1.0)), 7.426123, 2.606531)
    """

    # NumPy scalars leave `number * f` to this class.
    __array_ufunc__ = None

    kernel: Kernel
    centers: Float[Array, "n d"]
    coefficients: Float[Array, "n k"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "centers", as_points("Expansion", self.centers, "centers"))
        weights = self.coefficients
        if not isinstance(weights, jax.Array | np.ndarray) or weights.ndim != 2:
            shape = getattr(weights, "shape", type(weights).__name__)
            raise ValueError(
                f"Expansion needs coefficients of shape (centres, outputs), got {shape}. "
                "A vector goes in as coefficients[:, None]."
            )
        if len(weights) != len(self.centers) or weights.shape[1] == 0:
            raise ValueError(
                f"Expansion needs one row of coefficients per centre: centers has {len(self.centers)}, coefficients "
                f"has shape {weights.shape}."
            )
        if isinstance(weights, np.ndarray) and weights.dtype.kind in "iub":
            object.__setattr__(self, "coefficients", weights.astype(np.float64))
        check_finite("Expansion", weights, "coefficients")

    def __repr__(self) -> str:
        count, features = self.centers.shape
        sizes = ((count, "centre"), (features, "feature"), (self.outputs, "output"))
        centres, dimension, outputs = (f"{size} {word}{'s' * (size != 1)}" for size, word in sizes)
        return f"Expansion({centres} of {dimension}, {outputs}, {self.kernel!r})"

    @classmethod
    def zero(cls, kernel: Kernel, x: Float[Array, "n d"], outputs: int = 1) -> "Expansion":
        """The function 0, with centres `x` ready to be given coefficients."""
        x = as_points("Expansion.zero", x)
        return cls(kernel, x, like(np.zeros((len(x), outputs)), x))

    @property
    def outputs(self) -> int:
        return self.coefficients.shape[1]

    def __call__(self, x: Float[Array, "m d"]) -> Float[Array, "m k"]:
        """`f(x) = Σ_i K(x, c_i) α_i`, in blocks of points."""
        if x is self.centers and x.shape[0] ** 2 <= LARGEST_BLOCK:
            values, weights = working(self.kernel(x), self.coefficients)
            return like(values @ weights, x)

        def block(points: Any) -> Any:
            cross, weights = working(self.kernel(points, self.centers), self.coefficients)
            return like(cross @ weights, points)

        return in_blocks(block, as_points("Expansion", x), len(self.centers))

    def evaluate(self, x: Float[Array, "m d"]) -> Float[Array, "m k"]:
        """`f(x)`, the same as calling the function."""
        return self(x)

    def __add__(self, other: Any) -> "Expansion":
        if not isinstance(other, Expansion):
            return NotImplemented
        check_same_space("A sum of expansions", self, other)
        check_fit("A sum of expansions", self.centers, other.centers)
        if identical(self.centers, other.centers):
            return Expansion(self.kernel, self.centers, self.coefficients + other.coefficients)
        joined = join(self.centers, other.centers), join(self.coefficients, other.coefficients)
        return Expansion(self.kernel, *merge(*joined))

    def __sub__(self, other: Any) -> "Expansion":
        return self + (-other) if isinstance(other, Expansion) else NotImplemented

    def __neg__(self) -> "Expansion":
        return Expansion(self.kernel, self.centers, -self.coefficients)

    def __mul__(self, factor: Any) -> "Expansion":
        if not isinstance(factor, bool | int | float | np.number | jax.Array | np.ndarray):
            return NotImplemented
        if np.shape(factor) != ():
            raise ValueError(f"A multiple of an expansion needs a number, got shape {np.shape(factor)}.")
        return Expansion(self.kernel, self.centers, factor * self.coefficients)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "Expansion":
        if is_concrete(divisor) and np.shape(divisor) == () and divisor == 0:
            raise ValueError("An expansion needs a divisor other than 0, got 0.")
        return self * (1.0 / divisor)

    def __matmul__(self, other: Any) -> Any:
        """`⟨f, g⟩ = Σ_ij α_i·β_j K(c_i, c'_j)`: a float, a JAX scalar for JAX arrays."""
        if not isinstance(other, Expansion):
            return NotImplemented
        check_same_space("An inner product", self, other)
        check_fit("An inner product", self.centers, other.centers)
        points = other.centers if identical(self.centers, other.centers) else self.centers
        values, weights = working(other(points), self.coefficients)
        return self._number((values * weights).sum())

    def squared_norm(self) -> Any:
        """`‖f‖² = Σ_ij α_i·α_j K(c_i, c_j)`, at least 0.

        Raises:
            NotPositiveDefiniteError: when it is more negative than rounding explains: then K is no kernel.
        """
        values, weights = working(self(self.centers), self.coefficients)
        square = (values * weights).sum()
        if not is_concrete(square):
            return jnp.maximum(square, 0.0)
        square = float(square)
        if square < 0:
            epsilon = float(np.finfo(self.centers.dtype).eps)
            square = checked_square(
                self.kernel, square, weights, on_host(self.kernel.diag(self.centers)), epsilon
            )
        return self._number(np.float64(square))

    def norm(self) -> Any:
        """`‖f‖ = √⟨f, f⟩`; `|f(x)| ≤ ‖f‖ √K(x, x)` for one output."""
        square = self.squared_norm()
        return float(np.sqrt(square)) if isinstance(square, float) else jnp.sqrt(square)

    def distance(self, other: "Expansion") -> Any:
        """`‖f − g‖`, as the norm of the difference, in which coinciding centres cancel exactly.

        Functions of different centres that nearly agree cancel inside the quadratic form, which resolves distances
        down to about `√ε (‖f‖ + ‖g‖)`, ε the rounding of the kernel's dtype.
        """
        return (self - other).norm()

    def compress(
        self, count: int | None = None, tolerance: float | int | None = None
    ) -> Compressed["Expansion"]:
        """The nearest function on fewer of the centres, with its error in the norm of the space.

        Centres are chosen greedily by a pivoted Cholesky factorisation, the function is projected orthogonally onto
        the span of those kept. Needs the Gram matrix of all centres, O(n²) memory and O(n³) time at most.

        Args:
            count: how many centres to keep at most.
            tolerance: the largest `‖f − g‖ / ‖f‖` allowed, between 0 and 1; the fewest centres that reach it.

        Raises:
            ValueError: unless exactly one of the two is given, for values out of range, or traced arrays.

        >>> import numpy as np
        >>> from ntkit.kernels.stationary import RBF
        >>> x = np.linspace(0.0, 1.0, 50)[:, None]
        >>> compressed = Expansion(RBF(), x, np.cos(x)).compress(tolerance=1e-6)
        >>> len(compressed.function.centers), compressed.relative_error < 1e-6
        (7, True)
        """
        if not is_concrete(self):
            raise ValueError("Expansion.compress needs concrete arrays, got values traced by JAX.")
        centers, weights = merge(self.centers, self.coefficients)
        gram = np.asarray(self.kernel(centers))
        found = compress("Expansion.compress", gram, on_host(weights), count, tolerance)
        function = Expansion(self.kernel, centers[found.kept], like(found.coefficients, weights))
        return Compressed(function, found.error, found.rounding, found.norm)

    def _number(self, value: Any) -> Any:
        """A float for NumPy arrays, a JAX scalar for JAX arrays."""
        return float(value) if is_numpy(self.centers) and is_concrete(value) else like(value, self.centers)


def representer(kernel: Kernel, x: Float[Array, "*one d"], output: int = 0, outputs: int = 1) -> Expansion:
    """The representer of evaluation `K(x, ·) e_o`: `⟨f, K(x, ·) e_o⟩ = f_o(x)`.

    Args:
        kernel: the kernel of the space.
        x: one point, shape (d,) or (1, d).
        output: which output o is evaluated, from 0.
        outputs: how many outputs functions of the space have.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> f = Expansion(RBF(), np.array([[0.0], [1.0]]), np.array([[2.0], [1.0]]))
    >>> point = np.array([0.5])
    >>> abs(f @ representer(RBF(), point) - f(point[None, :]).item()) < 1e-15
    True
    """
    point = as_point("representer", x)
    check_output("representer", output, outputs)
    unit = np.eye(outputs)[output : output + 1]
    return Expansion(kernel, point, like(unit, point))


def as_point(who: str, x: Any) -> Array:
    """One point of shape (d,) or (1, d), as shape (1, d).

    Raises:
        ValueError: for anything else.
    """
    if getattr(x, "ndim", None) == 1:
        x = x[None, :]
    x = as_points(who, x)
    if len(x) != 1:
        raise ValueError(f"{who} needs one point x of shape (features,), got {len(x)} points.")
    return x


def check_output(who: str, output: int, outputs: int) -> None:
    """Raise unless `output` numbers one of `outputs` outputs."""
    if not 0 <= output < outputs:
        raise ValueError(
            f"{who} needs output between 0 and {outputs - 1} for {outputs} outputs, got {output}."
        )
