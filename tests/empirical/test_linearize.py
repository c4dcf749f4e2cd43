"""The linearised network: linear, tangent at the origin, and of the same kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit.empirical import EmpiricalNTK, linearize


def network(params, x):
    w, v = params
    return jnp.matmul(jnp.tanh(jnp.matmul(x, w, precision="highest")), v, precision="highest")


def draw(seed, scale=1.0):
    generator = np.random.default_rng(seed)
    return (scale * generator.normal(size=(3, 8)), scale * generator.normal(size=(8, 2)))


X = np.random.default_rng(9).normal(size=(5, 3))
ORIGIN = draw(0)


def moved(step, direction):
    return tuple(a + step * b for a, b in zip(ORIGIN, direction, strict=True))


def test_at_the_origin_it_is_the_network():
    with jax.enable_x64(True):
        expected = np.array(network(ORIGIN, jnp.asarray(X)))
    result = linearize(network, ORIGIN)(ORIGIN, X)
    assert result.dtype == np.float64
    assert isinstance(result, np.ndarray)
    np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-14)


def test_it_is_affine_in_the_parameters():
    """f_lin(θ0 + 1000 δ) − f_lin(θ0) is 1000 times that of δ; a network of tanh would saturate."""
    linear, direction = linearize(network, ORIGIN), draw(1)
    at_origin = linear(ORIGIN, X)
    near, far = linear(moved(1.0, direction), X) - at_origin, linear(moved(1000.0, direction), X) - at_origin
    np.testing.assert_allclose(far, 1000 * near, rtol=1e-11)


def test_it_errs_from_the_network_by_the_square_of_the_step():
    """Second-order remainder: halving the step divides the error by 4, up to O(step) = 1e-3 relative."""
    linear, direction = linearize(network, ORIGIN), draw(2)
    errors = []
    for step in (1e-3, 5e-4):
        with jax.enable_x64(True):
            exact = np.array(network(moved(step, direction), jnp.asarray(X)))
        errors.append(np.abs(linear(moved(step, direction), X) - exact).max())
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=2e-2)


def test_its_kernel_is_that_of_the_network_wherever_it_is_evaluated():
    linear = linearize(network, ORIGIN)
    expected = EmpiricalNTK(network, ORIGIN).full(X)
    for seed in (3, 4):
        np.testing.assert_allclose(EmpiricalNTK(linear, draw(seed)).full(X), expected, rtol=1e-12, atol=1e-12)


def test_jax_arrays_give_jax_arrays_and_jit():
    linear, x = linearize(network, ORIGIN), jnp.asarray(X.astype(np.float32))
    params = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, dtype=jnp.float32), draw(5))
    eager, jitted = linear(params, x), jax.jit(linear)(params, x)
    assert isinstance(eager, jax.Array)
    assert eager.dtype == jnp.float32
    # float32 sums of 8 terms of size up to about 10
    np.testing.assert_allclose(np.array(eager), np.array(jitted), atol=1e-4)
    np.testing.assert_allclose(np.array(eager), linear(draw(5), X), atol=1e-4)


def test_a_vector_of_outputs_is_refused():
    with pytest.raises(ValueError, match=r"linearize needs f\(params, x\) of shape \(points, outputs\)"):
        linearize(lambda w, x: x @ w, np.ones(3))(np.ones(3), X)
