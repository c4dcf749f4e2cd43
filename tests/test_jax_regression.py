"""JAX itself computes correctly what ntkit relies on; tried against the releases that pyproject.toml excludes.

The product test is the reproducer of jax-ml/jax#39103: JAX 0.10.2 fails it for both dtypes. The LayerNorm
gradient has the same ingredients in the order a network has them; it guards the sizes in use here, though
0.10.2 happens to pass it. (jax-ml/jax#39264, an abort in 0.10.0 and 0.10.1, needs an attention model to show.)
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(("dtype", "rows"), [(np.float64, 16_385), (np.float32, 32_769)], ids=["f64", "f32"])
def test_a_jitted_vmapped_product_and_reduction_equals_numpy(dtype, rows):
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((3, 3)).astype(dtype)
    points = generator.standard_normal((rows, 3)).astype(dtype)
    expected = np.sum((points.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2, axis=1)

    with jax.enable_x64(dtype is np.float64):
        function = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.asarray(matrix) @ row) ** 2)))
        result = np.asarray(function(jnp.asarray(points)))

    assert result.dtype == dtype
    # Nine products and a handful of sums of positive terms, whose inner cancellation is bounded by |matrix||row|.
    scale = np.sum((np.abs(points).astype(np.float64) @ np.abs(matrix).T.astype(np.float64)) ** 2, axis=1)
    assert np.all(np.abs(result - expected) <= 16 * np.finfo(dtype).eps * scale)


def layer_norm_loss(points, gain, weights):
    """A LayerNorm, a dense layer and a squared loss, one row at a time."""

    def one(row):
        centred = row - jnp.mean(row)
        normalised = gain * centred / jnp.sqrt(jnp.mean(centred**2) + 1e-5)
        return jnp.sum((weights @ normalised) ** 2)

    return jnp.sum(jax.vmap(one)(points))


@pytest.mark.parametrize("points", [pytest.param(16, marks=pytest.mark.slow), 64])
def test_the_backward_pass_of_layer_norm_equals_eager_float64(points):
    features, outputs = 64, 32
    generator = np.random.default_rng(1)
    arguments = (
        generator.standard_normal((points, features)),
        generator.standard_normal(features),
        generator.standard_normal((outputs, features)) / np.sqrt(features),
    )
    gradient = jax.grad(layer_norm_loss, argnums=(0, 1, 2))

    with jax.enable_x64(True), jax.disable_jit():
        expected = gradient(*(jnp.asarray(argument) for argument in arguments))
    with jax.enable_x64(False):
        compiled = jax.jit(gradient)(*(jnp.asarray(argument, dtype=jnp.float32) for argument in arguments))

    for reached, reference in zip(compiled, expected, strict=True):
        assert reached.dtype == jnp.float32
        # Sums of at most `points * outputs` terms of either sign: a random walk of roundings, with a factor 8 to spare.
        bound = 8 * np.sqrt(points * outputs) * np.finfo(np.float32).eps * np.abs(reference).max()
        assert np.abs(np.asarray(reached, dtype=np.float64) - np.asarray(reference)).max() <= bound
