"""The tangent kernel estimated from random projections of Jacobians, with stated errors."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.empirical import projection
from ntkit.empirical.function import (
    Function,
    Params,
    as_example_pair,
    as_params,
    check_function,
    count_joined_outputs,
    reverse_derivatives,
    working_dtype,
)
from ntkit.empirical.function_kernel import FunctionKernel
from ntkit.numerics.dtypes import Array, at_once, is_concrete, is_numpy, precision, to_jax
from ntkit.numerics.trees import pytree

_forward = jax.jit(projection.project_forward, static_argnames=("f", "dimension", "memory_limit"))
_reverse = jax.jit(projection.project_reverse, static_argnames=("f", "dimension", "memory_limit"))

Features = Float[jax.Array, "_ k d"]


def _first(left: Features, right: Features) -> Features:
    del right
    return left


@jax.jit
def _traced(left: Features, right: Features) -> Float[jax.Array, "n m"]:
    flat_left, flat_right = left.reshape(left.shape[0], -1), right.reshape(right.shape[0], -1)
    return jnp.matmul(flat_left, flat_right.T, precision="highest") / left.shape[1]


@jax.jit
def _blocks(left: Features, right: Features) -> Float[jax.Array, "n m k k"]:
    return jnp.einsum("iad,jbd->ijab", left, right, precision="highest")


@jax.jit
def _norms(left: Features, right: Features) -> Float[jax.Array, " n"]:
    del right
    return jnp.sum(jnp.square(left), axis=(1, 2)) / left.shape[1]


@jax.jit
def _errors(left: Features, right: Features) -> Float[jax.Array, "n m"]:
    """The standard error of the mean of d estimates `t_j = (d/k) Σ_a Φ_aj(x) Φ_aj(x')`.

    `Σ_j t_j²` is a sum over pairs (a, b) of outputs of products of `Φ_a Φ_b`, so no array (n, m, d) is formed.
    """
    _, k, d = left.shape
    first, second = np.triu_indices(k)
    weights = np.where(first == second, 1.0, 2.0) / k**2

    def add(total: jax.Array, pair: tuple) -> tuple[jax.Array, None]:
        a, b, weight = pair
        squares = jnp.matmul(left[:, a] * left[:, b], (right[:, a] * right[:, b]).T, precision="highest")
        return total + weight * squares, None

    start = jnp.zeros((left.shape[0], right.shape[0]), left.dtype)
    pairs = (jnp.asarray(first), jnp.asarray(second), jnp.asarray(weights, left.dtype))
    mean_square = jax.lax.scan(add, start, pairs)[0] * d  # each feature carries 1/√d
    return jnp.sqrt(jnp.maximum(mean_square - jnp.square(_traced(left, right)), 0) / (d - 1))


@pytree("f", "dimension", "memory_limit", "method")
@dataclass(frozen=True, eq=False, repr=False)
class SketchedNTK(FunctionKernel):
    """The kernel of the features `Φ(x) = J(x) R / √d`, an unbiased estimate of `EmpiricalNTK(f, params)`.

    R is a P x d matrix of independent random signs, one for all points, so every Gram matrix is positive
    semi-definite, of rank at most k d, and two calls with the same key agree. For an entry of `full`, with
    `u = ∇f_a(x)`, `v = ∇f_b(x')`,

        E[Θ̂_ab] = Θ_ab,    Var[Θ̂_ab] = (‖u‖² ‖v‖² + (u·v)² − 2 Σ_p u_p² v_p²) / d,

    which is never more than with Gaussian R. `standard_error` estimates it for the traced kernel, and
    `dimension_for` bounds all entries at once (Johnson & Lindenstrauss 1984; for random signs Achlioptas 2003,
    "Database-friendly random projections", lemma 5.1).

    It pays where the features of a point (k d numbers) serve many entries and the exact kernel is too dear.
    The features cost d forward-mode passes of every point, or k reverse-mode passes and a product with R,
    whichever is fewer operations (see `projection.cheaper_projection`). R is drawn by columns when it is needed and
    never held whole.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k); each point is treated alone.
        params: pytree of floating-point arrays.
        dimension: d, the number of columns of R; the relative error of an entry is about `√(2/d)`.
        key: JAX random key; the same key, the same R, whatever the dtype and the points.
        memory_limit: bytes that the computation may take, features included (default 1 GiB).
        method: `"forward"`, `"reverse"`, or None for the cheaper one.

    >>> import jax, numpy as np
    >>> kernel = SketchedNTK(lambda w, x: x @ w, np.zeros((2, 1)), 4000, jax.random.key(0))
    >>> x = np.array([[1.0, 2.0], [0.0, 3.0]])                           # exact: [[5, 6], [6, 9]]
    >>> bool(np.abs(kernel(x) - x @ x.T).max() < 4 * kernel.standard_error(x).max() < 0.28)
    True
    """

    f: Function
    params: Params
    dimension: int
    key: Any
    memory_limit: int = field(default=2**30, kw_only=True)
    method: str | None = field(default=None, kw_only=True)

    def __post_init__(self):
        check_function("SketchedNTK", self.f)
        if self.dimension < 2:
            raise ValueError(
                f"SketchedNTK needs dimension >= 2, got {self.dimension}. "
                "SketchedNTK.dimension_for(error, confidence, points) says how many columns an error takes."
            )
        if self.method not in (None, "forward", "reverse"):
            raise ValueError(f"SketchedNTK needs method 'forward', 'reverse' or None, got {self.method!r}.")
        # two words of the given key, so that keys of every kind, old and new, lead to the same generator
        object.__setattr__(self, "key", jax.random.bits(self.key, (2,), jnp.uint32))

    def __repr__(self) -> str:
        name = getattr(self.f, "__qualname__", type(self.f).__name__)
        return f"SketchedNTK({name}, dimension={self.dimension})"

    @staticmethod
    def dimension_for(error: float, confidence: float, points: int, outputs: int = 1) -> int:
        """The dimension at which all entries on so many points are within `error`, with the given probability.

        `|Θ̂_ab(x, x') − Θ_ab(x, x')| <= error √(Θ_aa(x, x) Θ_bb(x', x'))` for all pairs of points and outputs at
        once, and so `|K̂ − K| <= error √(K(x, x) K(x', x'))` for the traced kernel K:

            d >= 2 ln(2 N² / (1 − confidence)) / (error²/2 − error³/3),    N = points · outputs,

        from the tail bound of one squared length and a union over the N² lengths `‖u‖`, `‖u ± v‖`. It is a
        guarantee for the worst entry and for any function; typical errors are three to five times smaller.

        >>> SketchedNTK.dimension_for(0.1, 0.99, points=1000)
        8192
        """
        return projection.dimension_for(error, confidence, points, outputs)

    def features(self, x: Any) -> Float[Array, "n k d"]:
        """`Φ(x) = J(x) R / √d`: the kernel of two points is `Φ(x) Φ(x')ᵀ`, traced and divided by k."""
        return self._with_features(x, None, _first)

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "n m"]:
        """The estimate of the output-traced kernel `(1/k) Σ_o Θ_oo`; with `x2=None` exactly symmetric.

        Raises:
            ValueError: when the features of the points exceed `memory_limit`.
        """
        return self._with_features(x1, x2, _traced, (1, 0))

    def full(self, x1: Any, x2: Any = None) -> Float[Array, "n m k k"]:
        """The estimate of `Θ_ab(x1_i, x2_j)`, not divided by k."""
        return self._with_features(x1, x2, _blocks, (1, 0, 3, 2))

    def diag(self, x: Any) -> Float[Array, " n"]:
        """The diagonal of the estimate, `‖Φ(x_i)‖² / k`."""
        return self._with_features(x, None, _norms)

    def standard_error(self, x1: Any, x2: Any = None) -> Float[Array, "n m"]:
        """The standard error of each entry of the traced kernel.

        Every column of R gives an independent estimate of the entry; this is the deviation of these d estimates
        from their mean, divided by √d. It costs k (k + 1) / 2 products of features.
        """
        return self._with_features(x1, x2, _errors, (1, 0))

    def _with_features(self, x1: Any, x2: Any, function: Any, axes: tuple[int, ...] = ()) -> Any:
        """`function` of the features of both sets; `axes` is how a block of (x, x') becomes one of (x', x)."""
        n, m = as_example_pair("SketchedNTK", x1, x2)
        numpy = is_numpy(x1, x2) and is_concrete(self.params)
        dtype = working_dtype(self.params, x1)
        with precision(dtype) if numpy else nullcontext(), at_once() if numpy else nullcontext():
            left = to_jax(x1)
            params = as_params("SketchedNTK", self.params, dtype)
            outputs = count_joined_outputs("SketchedNTK", self.f, params, left)
            examples = n + (0 if x2 is None else m)
            needed = examples * outputs * self.dimension * dtype.itemsize
            if needed > self.memory_limit:
                raise ValueError(
                    f"SketchedNTK needs memory_limit >= {needed} bytes for the features of {examples} points "
                    f"({outputs} outputs x {self.dimension} dimensions), got {self.memory_limit}. Raise memory_limit, "
                    "lower dimension, or take fewer points."
                )
            left = self._features(params, left)
            right = left if x2 is None else self._features(params, to_jax(x2))
            result = function(left, right)
            if x2 is None and axes:
                result = (result + result.transpose(axes)) / 2
            return np.array(result) if numpy else result

    def _features(self, params: Params, x: Any) -> jax.Array:
        arguments = (self.f, params, x)
        method = self.method or projection.cheaper_projection(*arguments, self.dimension, self.memory_limit)
        project = _forward if method == "forward" else _reverse
        with reverse_derivatives("SketchedNTK", 'method="forward"'):
            result = project(*arguments, self.key, dimension=self.dimension, memory_limit=self.memory_limit)
        return result / np.sqrt(self.dimension).astype(result.dtype)
