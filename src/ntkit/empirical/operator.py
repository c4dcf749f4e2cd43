"""The tangent kernel on given points as a linear operator: products, solves and spectra without the matrix."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator

from ntkit.empirical.conjugate_gradient import LinearSolution, conjugate_gradient
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
from ntkit.empirical.lanczos import Eigenpairs, extreme_eigenpairs, warn_when_loose
from ntkit.empirical.ntk import EmpiricalNTK
from ntkit.empirical.products import kernel_product, squared_gradient_norms
from ntkit.empirical.trace import TraceEstimate, xtrace
from ntkit.numerics.dtypes import Array, at_once, is_concrete, is_numpy, precision, to_jax
from ntkit.numerics.points import number_of_points, points_of
from ntkit.numerics.trees import pytree

_product = jax.jit(kernel_product, static_argnames=("f", "memory_limit"))
_norms = jax.jit(squared_gradient_norms, static_argnames=("f", "memory_limit"))

FORWARD = "EmpiricalNTK(f, params).full(x), which takes forward mode where it must"


@pytree("f", "memory_limit", "outputs")
@dataclass(frozen=True, eq=False, repr=False)
class NTKOperator:
    """`Θ(x, x2) = J(x) J(x2)ᵀ`, the tangent kernel of a finite function, as a linear operator.

    Its rows are the pairs (point i, output a), point by point, its columns the pairs (j, b):
    `Θ[(i, a), (j, b)] = Σ_p ∂_p f_a(x_i) ∂_p f_b(x2_j)`, shape (n k, m k). This is `EmpiricalNTK(f,
    params).full` with its axes in this order, not divided by the number of outputs k; the traced kernel is not
    offered, because `Σ_o J_o(x) J_o(x2)ᵀ` takes k products where Θ takes one.

    A product costs one reverse pass of `f` over `x2` and one forward-mode pass over `x`, in the memory of a few
    copies of the parameters and of a tile of points; neither the matrix (n m k² numbers) nor a Jacobian
    (n k P numbers) is formed. Several vectors share the evaluation of `f`.

    NumPy points and vectors give NumPy results in the points' dtype, float64 whatever the JAX configuration;
    JAX arrays give JAX arrays. The operator is a pytree, and its product a pure function under `jit`, `grad`
    and `vmap`.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k); each point is treated alone.
        params: pytree of floating-point arrays.
        x: the points of the rows.
        x2: the points of the columns; None for those of the rows, a symmetric positive semi-definite operator.
        memory_limit: bytes that a product may take beside its arguments (default 1 GiB), as far as one point
            and one vector at a time allow.

    Raises:
        ValueError: for points, parameters or outputs that are not as described.

    >>> import numpy as np
    >>> operator = NTKOperator(lambda w, x: x @ w, np.zeros((2, 1)), np.array([[1.0, 2.0], [0.0, 3.0]]))
    >>> operator @ np.array([1.0, 1.0])                                 # Θ = [[5, 6], [6, 9]]
    array([11., 15.])
    >>> operator.solve(np.array([11.0, 15.0])).value.round(6)
    array([1., 1.])
    """

    f: Function
    params: Params
    x: Any
    x2: Any = None
    memory_limit: int = field(default=2**30, kw_only=True)
    outputs: int = field(init=False)

    def __post_init__(self):
        check_function("NTKOperator", self.f)
        as_example_pair("NTKOperator", self.x, self.x2)
        with self._setting(self._is_numpy()):
            params, x, _ = self._arrays()
            outputs = count_joined_outputs("NTKOperator", self.f, params, x)
        object.__setattr__(self, "outputs", outputs)

    def __repr__(self) -> str:
        name = getattr(self.f, "__qualname__", type(self.f).__name__)
        return f"NTKOperator({name}, shape={self.shape}, {self.dtype})"

    @property
    def shape(self) -> tuple[int, int]:
        """`(n k, m k)`."""
        return number_of_points(self.x) * self.outputs, number_of_points(self._columns) * self.outputs

    @property
    def dtype(self) -> np.dtype:
        """That of the points' floating arrays, or of the parameters where points are integers alone."""
        return working_dtype(self.params, self.x)

    @property
    def symmetric(self) -> bool:
        """Whether rows and columns belong to the same points, `x2=None`."""
        return self.x2 is None

    @property
    def T(self) -> "NTKOperator":
        """`Θ(x2, x)`, the transpose."""
        if self.symmetric:
            return self
        return NTKOperator(self.f, self.params, self.x2, self.x, memory_limit=self.memory_limit)

    def __matmul__(self, v: Float[Array, "..."]) -> Float[Array, "..."]:
        """`Θ v` for one vector, (m k,) or (m, k), or several, (m k, r) or (m, k, r); the result has that form."""
        blocks, form = self._blocks(v)
        numpy = self._is_numpy(v)
        with self._setting(numpy):
            params, x, columns = self._arrays()
            weights = jnp.asarray(blocks, self.dtype)
            result = _product(self.f, params, x, columns, weights, memory_limit=self.memory_limit)
            result = np.array(result) if numpy else result
            return result.transpose(1, 2, 0).reshape(*form(number_of_points(x)))

    def diagonal(self) -> Float[Array, "n k"]:
        """`Θ_aa(x_i, x_i) = Σ_p (∂_p f_a(x_i))²`, the squared norms of all gradients, exact; shape (n, k).

        Flattened it is the diagonal of the matrix. It costs k reverse passes of every point, whose gradients are
        formed only where `EmpiricalNTK` finds no layer to take them from.
        """
        self._require_symmetric("diagonal")
        kernel = self._layers
        point = points_of(self.x, slice(1))
        if kernel.plan(point, kind="per_output").method != "products":
            return kernel.diag_per_output(self.x)
        numpy = self._is_numpy()
        with self._setting(numpy):
            params, x, _ = self._arrays()
            result = _norms(self.f, params, x, memory_limit=self.memory_limit)
            return np.array(result) if numpy else result

    def trace(self) -> Any:
        """`tr Θ`, exact: the sum of the diagonal, at the price of k reverse passes of every point."""
        return self.diagonal().sum()

    def estimate_trace(self, key: jax.Array, products: int = 32) -> TraceEstimate:
        """An unbiased estimate of `tr Θ` with its standard error; cheaper than `trace()` for many outputs.

        XTrace of Epperly, Tropp & Webber (2024, "XTrace: making the most of every sample in stochastic trace
        estimation"), as matfree has it: half of the products find the large eigenvalues, whose trace is exact;
        the others estimate the remainder. With `products >= n k` it is `trace()`, no product, and error 0.

        Args:
            key: JAX random key; the same key gives the same estimate.
            products: how many products with Θ are spent, at least 4.
        """
        self._require_symmetric("estimate_trace")
        if products < 4:
            raise ValueError(f"estimate_trace needs products >= 4, got {products}. 32 are usually enough.")
        if products >= self.shape[0]:
            return TraceEstimate(float(self.trace()), 0.0, 0)
        with self._setting(self._is_numpy()):
            params, x, _ = self._arrays()
            value, error = xtrace(self.f, params, x, key, products // 2, self.outputs, self.memory_limit)
            return TraceEstimate(float(value), float(error), 2 * (products // 2))

    def solve(
        self,
        b: Float[Array, "..."],
        *,
        noise: float | int = 0.0,
        rtol: float | None = None,
        max_steps: int = 1000,
    ) -> LinearSolution:
        """`v` such that `(Θ + noise I) v = b`, by conjugate gradients (lineax); one or several right-hand sides.

        The number of steps grows like the square root of the condition number `(λ_max + noise)/(λ_min + noise)`,
        half its logarithm for each digit of `rtol`; every step costs one product.

        Args:
            b: shapes as in a product; the solution has the same.
            noise: the variance added to the diagonal, at least 0.
            rtol: the relative residual `‖(Θ + noise I) v − b‖ / ‖b‖` to reach, for every right-hand side;
                by default 1e-8 in float64 and 1e-4 in float32.
            max_steps: where to give up.

        Raises:
            ConvergenceError: when the residual, multiplied out at the end, is above `rtol`. Values traced by JAX
                cannot raise: look at `residual` of the result.
        """
        self._require_symmetric("solve")
        noise = float(noise) if is_concrete(noise) else noise
        if is_concrete(noise) and not 0 <= noise < np.inf:
            raise ValueError(f"NTKOperator.solve needs noise >= 0, got {noise}.")
        rtol = rtol if rtol is not None else (1e-8 if self.dtype == np.float64 else 1e-4)
        blocks, form = self._blocks(b)
        numpy = self._is_numpy(b)
        with self._setting(numpy):
            params, x, _ = self._arrays()
            value, residual, iterations = conjugate_gradient(
                self.f, params, x, jnp.asarray(blocks, self.dtype), noise, rtol, max_steps, self.memory_limit
            )
            found = (value, residual, iterations)
            value, residual, iterations = map(np.array, found) if numpy else found
            solution = LinearSolution(
                value.transpose(1, 2, 0).reshape(*form(number_of_points(x))), residual, iterations
            )
        return solution.checked(rtol, noise, max_steps)

    def eigenvalues(
        self,
        count: int,
        which: str = "largest",
        *,
        steps: int | None = None,
        rtol: float | None = None,
        seed: int = 0,
    ) -> Eigenpairs:
        """The largest or smallest eigenvalues of Θ and their vectors, by Lanczos (matfree), with error bounds.

        See `Eigenpairs` for what is returned. Lanczos's method with full reorthogonalisation is restarted on the
        complement of what it found until a random start finds nothing more extreme, so that eigenvalues that
        occur several times (Θ of a very wide network has each k times) are all found.

        Args:
            count: how many eigenvalues.
            which: `"largest"` or `"smallest"`. The smallest of a kernel lie close together and take many steps.
            steps: products of one run; by default `4 count + 40` for the largest and five times that for the
                smallest, at most n k. A basis of so many vectors of n k numbers is kept.
            rtol: bounds above `rtol` times the largest eigenvalue are warned of; by default 1e-6 in float64, 1e-3
                in float32.
            seed: of the random starts.

        Raises:
            ValueError: for a count outside 1 ... n k or another `which`.

        Warns:
            AccuracyWarning: when a bound is above its tolerance.
        """
        self._require_symmetric("eigenvalues")
        rtol = rtol if rtol is not None else (1e-6 if self.dtype == np.float64 else 1e-3)
        numpy = self._is_numpy()
        with self._setting(numpy):
            params, x, _ = self._arrays()
            pairs, norm = extreme_eigenpairs(
                self.f, params, x, self.outputs, count, which, steps, seed, rtol, self.memory_limit
            )
            pairs = pairs if numpy else jax.tree_util.tree_map(jnp.asarray, pairs)
        warn_when_loose(pairs, rtol, norm)
        return pairs

    def as_scipy(self) -> LinearOperator:
        """As an operator of `scipy.sparse.linalg`, on NumPy vectors in the dtype of the points."""

        def product(operator: NTKOperator, v: np.ndarray) -> np.ndarray:
            real = np.asarray(v, dtype=self.dtype)
            return np.asarray(operator @ real)

        return LinearOperator(
            shape=self.shape,
            dtype=self.dtype,
            matvec=lambda v: product(self, v),
            matmat=lambda v: product(self, v),
            rmatvec=lambda v: product(self.T, v),
            rmatmat=lambda v: product(self.T, v),
        )

    def as_lineax(self) -> lineax.FunctionLinearOperator:
        """As an operator of lineax on JAX vectors (m k,); positive semi-definite when symmetric.

        Its dtype is that of the points as JAX arrays: for float64 points enable 64 bits around all of its use.
        """
        params, x, columns = self._arrays()

        def product(v: jax.Array) -> jax.Array:
            weights = v.reshape(1, number_of_points(columns), self.outputs)
            with self._setting(numpy=False):
                return kernel_product(self.f, params, x, columns, weights, self.memory_limit).reshape(-1)

        vector = jax.ShapeDtypeStruct((self.shape[1],), self.dtype)
        tags = lineax.positive_semidefinite_tag if self.symmetric else ()
        return lineax.FunctionLinearOperator(product, vector, tags)

    @cached_property
    def _layers(self) -> EmpiricalNTK:
        """The same kernel, layer by layer."""
        return EmpiricalNTK(self.f, self.params, int(self.memory_limit))

    @property
    def _columns(self) -> Any:
        return self.x if self.x2 is None else self.x2

    def _is_numpy(self, *arrays: Any) -> bool:
        """Whether results are due as NumPy: no JAX array among points and vectors, nothing traced."""
        return is_numpy(self.x, self.x2, *arrays) and is_concrete((self.params, *arrays))

    @contextmanager
    def _setting(self, numpy: bool) -> Iterator[None]:
        """Where f is differentiated: for NumPy in the points' precision and at once, whatever JAX is tracing."""
        with reverse_derivatives("NTKOperator", FORWARD):
            if numpy:
                with precision(self.dtype), at_once():
                    yield
            else:
                yield

    def _arrays(self) -> tuple[Params, jax.Array, jax.Array]:
        """Parameters in the dtype of the points, the points of rows and of columns, as JAX arrays."""
        x = to_jax(self.x)
        columns = x if self.x2 is None else to_jax(self.x2)
        return as_params("NTKOperator", self.params, self.dtype), x, columns

    def _require_symmetric(self, method: str) -> None:
        if not self.symmetric:
            raise ValueError(
                f"NTKOperator.{method} needs an operator of one set of points, got x2 as well. "
                "Use NTKOperator(f, params, x)."
            )

    def _blocks(self, v: Any) -> tuple[Any, Any]:
        """Vectors as (r, m, k), and the form of the result for n points."""
        who, (m, k) = "NTKOperator", (number_of_points(self._columns), self.outputs)
        if not isinstance(v, jax.Array | np.ndarray):
            raise ValueError(f"{who} needs vectors as an array, got {type(v).__name__}. Use numpy.asarray.")
        if not jnp.issubdtype(v.dtype, jnp.floating):
            raise ValueError(f"{who} needs real vectors in floating point, got {v.dtype}.")
        if v.ndim in (1, 2) and v.shape[0] == m * k:
            several = v.shape[1:]
            form = lambda n: (n * k, *several)  # noqa: E731
        elif v.ndim in (2, 3) and v.shape[:2] == (m, k):
            several = v.shape[2:]
            form = lambda n: (n, k, *several)  # noqa: E731
        else:
            raise ValueError(
                f"{who} needs vectors of shape ({m * k},), ({m}, {k}), or these with an axis of several vectors "
                f"at the end, for {m} points and {k} outputs; got {v.shape}."
            )
        if 0 in v.shape:
            raise ValueError(f"{who} needs at least one vector, got shape {v.shape}.")
        return v.reshape(m, k, -1).transpose(2, 0, 1), form
