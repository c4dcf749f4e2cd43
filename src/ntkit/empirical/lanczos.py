"""Extreme eigenvalues of a tangent kernel by Lanczos's method, from products only, with bounds on their errors."""

import warnings
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matfree import decomp

from ntkit.empirical.function import Function, Params
from ntkit.empirical.products import kernel_product
from ntkit.empirical.tiles import Inputs
from ntkit.errors import AccuracyWarning
from ntkit.numerics.dtypes import Array
from ntkit.numerics.points import number_of_points
from ntkit.numerics.trees import pytree


@pytree("products")
@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Extreme eigenvalues of a symmetric operator.

    `values`, shape (count,), come the most extreme first; `vectors` are orthonormal columns. `bounds` are
    `‖Θ v − λ v‖` for each pair: Θ has an eigenvalue no further than that from each value, up to the rounding of
    one product; the error is usually of the order of the bound's square over the distance to the next
    eigenvalue. `products` says how many products with Θ were made.
    """

    values: Float[Array, " count"]
    vectors: Float[Array, "size count"]
    bounds: Float[Array, " count"]
    products: int


def extreme_eigenpairs(
    f: Function,
    params: Params,
    x: Inputs,
    outputs: int,
    wanted: int,
    which: str,
    steps: int | None,
    seed: int,
    rtol: float,
    memory_limit: int,
) -> tuple[Eigenpairs, float]:
    """The pairs, and the largest magnitude of all Ritz values, an estimate of ‖Θ‖.

    Runs of Lanczos, each on the complement of what is known, until one finds nothing more extreme.

    One run finds every eigenvalue once, however often it occurs. The result is a Rayleigh-Ritz step on all that
    was kept, in float64 on the host.
    """
    size = number_of_points(x) * outputs
    if not 1 <= wanted <= size:
        raise ValueError(f"NTKOperator.eigenvalues needs count between 1 and {size}, got {wanted}.")
    if which not in ("largest", "smallest"):
        raise ValueError(f"NTKOperator.eigenvalues needs which as 'largest' or 'smallest', got {which!r}.")
    sign = 1.0 if which == "largest" else -1.0
    default = 4 * wanted + 40 if which == "largest" else 20 * wanted + 200
    steps = max(1, min(size, default if steps is None else steps))
    dtype = np.dtype(jax.tree_util.tree_leaves(params)[0].dtype)
    generator = np.random.default_rng(seed)

    kept, ranks = np.zeros((size, wanted), dtype), np.zeros(0)
    products, norm = 0, 0.0
    while True:
        start = generator.normal(size=size).astype(dtype)
        ritz, basis = _run(f, params, x, outputs, start, kept, steps, memory_limit)
        products += len(ritz)
        norm = max(norm, float(np.abs(ritz).max()))
        order = np.argsort(-sign * ritz)[:wanted]
        full = len(ranks) == wanted
        nothing_new = full and sign * ritz[order[0]] <= ranks[-1] + rtol * norm
        candidates = np.concatenate([kept[:, : len(ranks)], basis[:, order]], axis=1)
        candidate_ranks = np.concatenate([ranks, sign * ritz[order]])
        best = np.argsort(-candidate_ranks, kind="stable")[: min(wanted, size)]
        ranks = candidate_ranks[best]
        kept[:, : len(best)] = candidates[:, best]
        if nothing_new or (len(ranks) == wanted == size):
            break
    return _rayleigh_ritz(f, params, x, outputs, kept, sign, products, memory_limit), norm


def warn_when_loose(pairs: Eigenpairs, rtol: float, norm: float) -> None:
    """Warn of a bound above `rtol` times the norm of the operator."""
    bounds, values = np.asarray(pairs.bounds), np.asarray(pairs.values)
    worst = int(np.argmax(bounds))
    if not bounds[worst] <= rtol * norm:
        warnings.warn(
            f"NTKOperator.eigenvalues: value {worst}, {values[worst]:.4g}, is known to {bounds[worst]:.2g} only, above "
            f"rtol={rtol:g} times the norm of the operator, {norm:.4g}. Raise steps, or rtol.",
            AccuracyWarning,
            stacklevel=3,
        )


def _run(
    f: Function,
    params: Params,
    x: Inputs,
    outputs: int,
    start: np.ndarray,
    kept: np.ndarray,
    steps: int,
    memory_limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values and vectors of one run; fewer than `steps` where the Krylov space was exhausted.

    There the next vector of the basis consists of rounding errors: not a number, or not orthogonal to the others.
    """
    basis, tridiagonal = _tridiagonalise(
        f, params, x, jnp.asarray(start), jnp.asarray(kept), steps, outputs, memory_limit
    )
    basis, tridiagonal = np.asarray(basis), np.asarray(tridiagonal, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        overlap = np.abs(np.triu(basis.T @ basis, 1)).max(axis=0)
    broken = ~(overlap <= np.sqrt(np.finfo(basis.dtype).eps))
    length = int(np.argmax(broken)) if broken.any() else steps
    ritz, mix = np.linalg.eigh(tridiagonal[:length, :length])
    return ritz, basis[:, :length] @ mix.astype(basis.dtype)


@partial(jax.jit, static_argnames=("f", "steps", "outputs", "memory_limit"))
def _tridiagonalise(
    f: Function,
    params: Params,
    x: Inputs,
    start: Float[jax.Array, " size"],
    kept: Float[jax.Array, "size count"],
    steps: int,
    outputs: int,
    memory_limit: int,
) -> tuple[Float[jax.Array, "size steps"], Float[jax.Array, "steps steps"]]:
    """Lanczos's basis and its tridiagonal matrix, of Θ between projections away from the columns of `kept`."""

    def outside(v: jax.Array) -> jax.Array:
        for _ in range(2):  # the second projection removes what rounding left of the first
            v = v - jnp.matmul(kept, jnp.matmul(kept.T, v, precision="highest"), precision="highest")
        return v

    def product(v: jax.Array) -> jax.Array:
        weights = outside(v).reshape(1, number_of_points(x), outputs)
        return outside(kernel_product(f, params, x, x, weights, memory_limit).reshape(-1))

    with jax.default_matmul_precision("highest"):
        result = decomp.tridiag_sym(steps, reortho="full")(product, outside(start))
    return result.Q_tall.T, result.J_small  # matfree has a vector per row


def _rayleigh_ritz(
    f: Function,
    params: Params,
    x: Inputs,
    outputs: int,
    kept: np.ndarray,
    sign: float,
    products: int,
    memory_limit: int,
) -> Eigenpairs:
    basis = np.linalg.qr(kept.astype(np.float64))[0]
    weights = basis.T.reshape(-1, number_of_points(x), outputs).astype(kept.dtype)
    image = np.asarray(_several(f, params, x, jnp.asarray(weights), memory_limit), dtype=np.float64)
    image = image.reshape(len(weights), -1).T
    small = basis.T @ image
    values, mix = np.linalg.eigh((small + small.T) / 2)
    order = np.argsort(-sign * values)
    values, mix = values[order], mix[:, order]
    vectors = basis @ mix
    bounds = np.linalg.norm(image @ mix - vectors * values, axis=0)
    dtype = kept.dtype
    return Eigenpairs(
        values.astype(dtype), vectors.astype(dtype), bounds.astype(dtype), products + len(weights)
    )


@partial(jax.jit, static_argnames=("f", "memory_limit"))
def _several(
    f: Function, params: Params, x: Inputs, weights: Float[jax.Array, "r n k"], memory_limit: int
) -> Float[jax.Array, "r n k"]:
    return kernel_product(f, params, x, x, weights, memory_limit)
