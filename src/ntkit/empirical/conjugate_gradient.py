"""Linear systems `(Θ + noise I) v = b` by conjugate gradients, with products only."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jaxtyping import Float, Int

from ntkit.empirical.function import Function, Params
from ntkit.empirical.products import kernel_product
from ntkit.empirical.tiles import Inputs, map_chunks, plan
from ntkit.errors import ConvergenceError
from ntkit.numerics.dtypes import Array, is_concrete
from ntkit.numerics.points import number_of_points
from ntkit.numerics.trees import pytree

SLACK = 2.0
"""The residual of the recurrence drifts from the true one between the steps at which it is multiplied out."""


@pytree()
@dataclass(frozen=True, eq=False)
class LinearSolution:
    """The solution of a linear system, and how well it solves it.

    `value` has the shape of the right-hand side; `residual` is the true relative residual
    `‖(Θ + noise I) v − b‖ / ‖b‖`, multiplied out, and `iterations` the number of steps, both for each of the r
    right-hand sides.
    """

    value: Float[Array, "..."]
    residual: Float[Array, " r"]
    iterations: Int[Array, " r"]

    def checked(self, rtol: float, noise: Any, max_steps: int) -> "LinearSolution":
        """This solution, or an error when it misses the tolerance; values traced by JAX pass."""
        if not is_concrete(self.residual):
            return self
        residual, iterations = np.asarray(self.residual), np.asarray(self.iterations)
        worst = int(np.argmax(np.where(np.isfinite(residual), residual, np.inf)))
        if residual[worst] <= SLACK * rtol:
            return self
        if iterations[worst] >= max_steps:
            why = f"stopped at max_steps={max_steps}"
        else:
            why = f"could not improve after {iterations[worst]} steps in {residual.dtype}"
        which = f" of right-hand side {worst}" if len(residual) > 1 else ""
        raise ConvergenceError(
            f"NTKOperator.solve needs a relative residual of {rtol:g}, got {residual[worst]:.2g}{which}: conjugate "
            f"gradients {why}. Raise noise (now {noise:g}), which improves the condition of the system, raise "
            "max_steps or rtol, or use float64 points."
        )


@partial(jax.jit, static_argnames=("f", "max_steps", "memory_limit"))
def conjugate_gradient(
    f: Function,
    params: Params,
    x: Inputs,
    b: Float[jax.Array, "r n k"],
    noise: Any,
    rtol: Any,
    max_steps: int,
    memory_limit: int,
) -> tuple[Float[jax.Array, "r n k"], Float[jax.Array, " r"], Int[jax.Array, " r"]]:
    """Solutions, true relative residuals and numbers of steps; right-hand sides in chunks that share products.

    The system is scaled for lineax: `b` to norm 1, and the matrix by its smallest eigenvalue as far as it is
    known, which is the noise. Then lineax's demand on the last change of the solution, `‖Δ‖ <= rtol`, follows
    from the demand on the residual, and its guard against a curvature `pᵀA p` that is lost in rounding, which
    is stated relative to `‖p‖²`, does not fire at small noise in float32.
    """
    dtype = b.dtype
    _, at_once = plan(f, params, x, len(b), memory_limit)
    scale = jnp.maximum(jnp.asarray(noise, dtype), jnp.finfo(dtype).eps)

    def apply(v: jax.Array) -> jax.Array:
        return kernel_product(f, params, x, x, v[None], memory_limit)[0] + noise * v

    operator = lineax.FunctionLinearOperator(
        lambda v: apply(v) / scale,
        jax.ShapeDtypeStruct((number_of_points(x), b.shape[2]), dtype),
        lineax.positive_semidefinite_tag,
    )
    method = lineax.CG(rtol=0.0, atol=rtol, norm=_euclidean, max_steps=max_steps)

    def solve(right: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        length = _euclidean(right)
        unit = right / jnp.where(length > 0, length, 1)
        answer = lineax.linear_solve(operator, unit, method, throw=False)
        return answer.value, _euclidean(apply(answer.value) / scale - unit), answer.stats["num_steps"]

    scaled, residuals, steps = map_chunks(solve, b, at_once)
    lengths = jnp.sqrt(jnp.sum(jnp.square(b), axis=(1, 2)))
    return scaled * (lengths / scale)[:, None, None], residuals, steps


def _euclidean(v: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(v)))
