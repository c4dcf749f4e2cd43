"""The empirical neural tangent kernel of any JAX function, computed tile by tile inside a memory budget."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.empirical.function import (
    Function,
    Params,
    as_input_pair,
    as_inputs,
    as_params,
    check_function,
    count_outputs,
)
from ntkit.empirical.jacobian import Jacobian, contract_full, contract_traced, jacobian, square_norms
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, is_concrete, is_numpy, precision

COPIES = 4
"""Jacobian tiles alive at once: that of the row, that of the column, and two while one is computed."""

_jacobian = jax.jit(jacobian, static_argnums=0)
_contract_traced = jax.jit(contract_traced)
_contract_full = jax.jit(contract_full)
_square_norms = jax.jit(square_norms)


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["f", "memory_limit"])
@dataclass(frozen=True, eq=False, repr=False)
class EmpiricalNTK(Kernel):
    """The tangent kernel of a finite function at its parameters, traced over outputs.

    `Θ(x, x') = (1/O) Σ_o Σ_p ∂_p f_o(x; θ) ∂_p f_o(x'; θ)`, shape (n, m): the O x O block
    `J(x) J(x')ᵀ` (see `full`) traced and divided by the number of outputs, so that it tends to
    `NTK(network)` as the width grows, with O(1/√width) fluctuations. Jacot, Gabriel & Hongler
    (2018, "Neural tangent kernel", section 4).

    The Jacobians of one row of tiles are kept while the columns pass; a Gram matrix costs
    `n m O P` multiplications (P parameters) and about `memory_limit` bytes beside its result.

    The dtype is that of the inputs: the parameters are converted to it, so NumPy float64 inputs
    give a float64 kernel even of parameters drawn in float32, whatever the JAX configuration.
    Under `jit`, `grad` and `vmap` the kernel is a pure function.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, O); each point is treated alone (a function
            that mixes its batch, such as batch normalisation, is evaluated on batches of one).
        params: pytree of floating-point arrays.
        memory_limit: bytes that Jacobians may take (default 1 GiB).

    >>> import numpy as np
    >>> EmpiricalNTK(lambda w, x: x @ w, np.zeros((2, 1)))(np.array([[1.0, 2.0], [0.0, 3.0]]))
    array([[5., 6.],
           [6., 9.]])
    """

    f: Function
    params: Params
    memory_limit: int = 2**30

    def __post_init__(self):
        check_function("EmpiricalNTK", self.f)

    def __repr__(self) -> str:
        sizes = [np.size(leaf) for leaf in jax.tree_util.tree_leaves(self.params)]
        return (
            f"EmpiricalNTK({getattr(self.f, '__qualname__', type(self.f).__name__)}, {sum(sizes)} parameters)"
        )

    def __call__(
        self, x1: Float[Array, "n *d"], x2: Float[Array, "m *d"] | None = None
    ) -> Float[Array, "n m"]:
        """The output-traced kernel; with `x2=None` exactly symmetric, each Jacobian pair visited once.

        Raises:
            ValueError: when the Jacobian of a single point exceeds `memory_limit`, when f does not
                return (n, O), or when a derivative is not finite.
        """
        return self._gram(x1, x2, _contract_traced, (1, 0))

    def full(
        self, x1: Float[Array, "n *d"], x2: Float[Array, "m *d"] | None = None
    ) -> Float[Array, "n m k k"]:
        """`Θ_ab(x_i, x'_j) = Σ_p ∂_p f_a(x_i) ∂_p f_b(x'_j)`, shape (n, m, k, k), not divided by k."""
        return self._gram(x1, x2, _contract_full, (1, 0, 3, 2))

    def diag(self, x: Float[Array, "n *d"]) -> Float[Array, " n"]:
        """`(1/O) Σ_op (∂_p f_o(x_i))²` for each point, without the matrix."""
        x = as_inputs("EmpiricalNTK", x)
        concrete = is_concrete((self.params, x))
        numpy = concrete and is_numpy(x)
        with precision(x.dtype) if numpy else nullcontext():
            params, tile = self._prepare(x)
            if not concrete:
                return jax.lax.map(
                    lambda point: square_norms(jacobian(self.f, params, point[None]))[0],
                    jnp.asarray(x),
                    batch_size=tile,
                )
            parts = [
                _finished(_square_norms(_jacobian(self.f, params, jnp.asarray(part))), numpy)
                for part in _parts(x, tile)
            ]
            return _checked(np.concatenate(parts) if numpy else jnp.concatenate(parts))

    def _prepare(self, x: Array) -> tuple[Any, int]:
        """Parameters in the dtype of `x`, and how many points' Jacobians fit the budget."""
        points = jnp.asarray(x[:1])
        params = as_params("EmpiricalNTK", self.params, points.dtype)
        outputs = count_outputs("EmpiricalNTK", self.f, params, points)
        parameters = sum(leaf.size for leaf in jax.tree_util.tree_leaves(params))
        bytes_per_point = COPIES * outputs * parameters * points.dtype.itemsize
        tile = int(self.memory_limit) // bytes_per_point
        if tile == 0:
            raise ValueError(
                f"EmpiricalNTK needs memory_limit >= {bytes_per_point} bytes for the Jacobian of one point "
                f"({outputs} outputs x {parameters} parameters, {COPIES} copies), got {self.memory_limit}. "
                "Raise memory_limit, use float32 inputs, or a function with fewer outputs."
            )
        return params, tile

    def _gram(
        self,
        x1: Array,
        x2: Array | None,
        contract: Callable[[Jacobian, Jacobian], jax.Array],
        axes: tuple[int, ...],
    ) -> Any:
        """Contract the Jacobians of all pairs; `axes` is how a block of (x, x') becomes one of (x', x)."""
        x1, x2 = as_input_pair("EmpiricalNTK", x1, x2)
        concrete = is_concrete((self.params, x1, x2))
        numpy = concrete and is_numpy(x1, x2)
        with precision(x1.dtype) if numpy else nullcontext():
            params, tile = self._prepare(x1)
            if not concrete:
                right = None if x2 is None else jnp.asarray(x2)
                return self._traced_gram(params, jnp.asarray(x1), right, tile, contract, axes)
            rows, columns = _parts(x1, tile), _parts(x1 if x2 is None else x2, tile)
            blocks: list[list[Any]] = []
            for i, row in enumerate(rows):
                left = _jacobian(self.f, params, jnp.asarray(row))
                blocks.append([])
                for j, column in enumerate(columns):
                    if x2 is None and j < i:
                        block = blocks[j][i].transpose(axes)
                    elif x2 is None and j == i:
                        block = contract(left, left)
                        block = _finished((block + block.transpose(axes)) / 2, numpy)
                    else:
                        right = _jacobian(self.f, params, jnp.asarray(column))
                        block = _finished(contract(left, right), numpy)
                    blocks[i].append(block)
            library = np if numpy else jnp
            return _checked(
                library.concatenate([library.concatenate(line, axis=1) for line in blocks], axis=0)
            )

    def _traced_gram(self, params, x1, x2, tile, contract, axes) -> jax.Array:
        """The same under a JAX transformation: one block when it fits, else a sequential map over tiles."""
        right = x1 if x2 is None else x2
        if max(x1.shape[0], right.shape[0]) <= tile:
            left_rows = jacobian(self.f, params, x1)
            gram = contract(left_rows, left_rows if x2 is None else jacobian(self.f, params, x2))
        else:

            def line(point):
                row = jacobian(self.f, params, point[None])

                def entry(other):
                    return contract(row, jacobian(self.f, params, other[None]))[0, 0]

                return jax.lax.map(entry, right, batch_size=tile)

            gram = jax.lax.map(line, x1, batch_size=tile)
        return (gram + gram.transpose(axes)) / 2 if x2 is None else gram


def _parts(x: Array, size: int) -> list[Array]:
    return [x[start : start + size] for start in range(0, x.shape[0], size)]


def _finished(block: jax.Array, numpy: bool) -> Any:
    """Wait for a block, so that the Jacobians of many tiles do not pile up in the dispatch queue."""
    return np.array(block) if numpy else jax.block_until_ready(block)


def _checked(result: Any) -> Any:
    """Raise where a derivative was not finite, and say at which points."""
    if is_concrete(result) and not bool(np.isfinite(np.asarray(result)).all()):
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(np.asarray(result)))[0])
        raise ValueError(
            f"EmpiricalNTK needs f with finite derivatives, got {np.asarray(result)[where]} at entry {list(where)} "
            "of the kernel. Look at f(params, x) and its gradient at these points; float64 inputs widen the range."
        )
    return result
