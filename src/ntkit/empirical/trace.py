"""The trace of a tangent kernel estimated from products with random vectors."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float, Num
from matfree import stochtrace

from ntkit.empirical.function import Function, Params
from ntkit.empirical.products import PRECISION, kernel_product
from ntkit.empirical.tiles import Inputs
from ntkit.numerics.points import number_of_points


@dataclass(frozen=True)
class TraceEstimate:
    """An estimate of a trace, its standard error, and the number of products it took.

    The standard error comes from the spread of leave-one-out estimates, which depend on each other: against
    matrices with flat, algebraic and exponential spectra it is up to a third too small, and with 32 products the
    truth lies within three of it for 93 to 99 of 100 keys. It is 0 where the estimate is exact.
    """

    value: float
    standard_error: float
    products: int


@partial(jax.jit, static_argnames=("f", "samples", "outputs", "memory_limit"))
def xtrace(
    f: Function,
    params: Params,
    x: Inputs,
    key: jax.Array,
    samples: int,
    outputs: int,
    memory_limit: int,
) -> tuple[Num[jax.Array, ""], Num[jax.Array, ""]]:
    """XTrace with `samples` Gaussian vectors, fewer than half of n k, and twice as many products."""

    def product(v: Float[jax.Array, " nk"], *arguments: Params) -> Float[jax.Array, " nk"]:
        return several(v[None], *arguments)[0]

    def several(v: Float[jax.Array, "r nk"], params: Params, x: Inputs) -> Float[jax.Array, "r nk"]:
        weights = v.reshape(len(v), number_of_points(x), outputs)
        return kernel_product(f, params, x, x, weights, memory_limit).reshape(v.shape)

    # matfree maps a product over all vectors at once; this hands them over to the product's own chunks.
    chunked = jax.custom_batching.custom_vmap(product)

    @chunked.def_vmap
    def _(axis_size: int, in_batched: list, v: jax.Array, *arguments: Params) -> tuple[jax.Array, bool]:
        del axis_size, in_batched
        return several(v, *arguments), True

    like = jnp.zeros(number_of_points(x) * outputs, jax.tree_util.tree_leaves(params)[0].dtype)
    sampler = stochtrace.sampler_normal(like, num=samples)
    estimator = stochtrace.estimator_leave_one_out_mean_and_sem(stochtrace.leave_one_out_xtrace(), sampler)
    # matfree divides a matrix by a vector
    with jax.numpy_rank_promotion("allow"), jax.default_matmul_precision(PRECISION):
        value, error = estimator(chunked, key, params, x)
    # matfree divides the squared spread by the number of samples; an unbiased variance divides by one less
    return value, error * jnp.sqrt(samples / max(samples - 1, 1))
