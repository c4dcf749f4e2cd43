"""The Taylor expansion in the parameters: exact for polynomials, and made of the true derivatives of others."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkit.empirical import linearize, taylor_expand

X = np.array([[1.0], [-0.5], [2.0]])


def cubic(params, x):
    """Of degree 3 in the parameters, two of them interacting, two outputs."""
    a, b = params["a"], params["b"]
    return jnp.concatenate([x * a**2 * b + a, x**2 * (a * b - b**3)], axis=1)


def cubic_terms(origin, step, x):
    """The homogeneous parts of `cubic(origin + step)` of degree 0 to 3 in the step, multiplied out by hand."""
    (a, b), (u, v) = origin, step
    first = [
        x * a**2 * b + a,
        x * (2 * a * u * b + a**2 * v) + u,
        x * (u**2 * b + 2 * a * u * v),
        x * u**2 * v,
    ]
    second = [
        x**2 * (a * b - b**3),
        x**2 * (a * v + b * u - 3 * b**2 * v),
        x**2 * (u * v - 3 * b * v**2),
        x**2 * -(v**3),
    ]
    return [np.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)]


@given(values=st.lists(st.floats(-3, 3), min_size=4, max_size=4), degree=st.integers(0, 5))
@settings(max_examples=5)
def test_a_polynomial_is_cut_at_the_degree_and_is_exact_from_its_own_on(values, degree):
    a, b, u, v = values
    origin, target = {"a": np.array(a), "b": np.array(b)}, {"a": np.array(a + u), "b": np.array(b + v)}
    step = (float(target["a"]) - a, float(target["b"]) - b)
    terms = cubic_terms((a, b), step, X)
    result = taylor_expand(cubic, origin, degree)(target, X)
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float64
    # a few tens of roundings of terms of at most 4 * (3 + 6)^3
    np.testing.assert_allclose(result, sum(terms[: degree + 1]), rtol=1e-12, atol=1e-11)


def test_a_network_has_the_derivatives_that_mpmath_finds():
    """`tanh(w x) v` along a line: 40-digit numerical differentiation in the step, order by order."""
    w, v, dw, dv = 0.7, -1.3, 0.4, 0.6

    def network(params, x):
        return jnp.tanh(x * params[0]) * params[1]

    origin, target = (np.array(w), np.array(v)), (np.array(w + dw), np.array(v + dv))
    exact = []
    with mpmath.workdps(40):
        for x in X[:, 0]:

            def along(s, x=x):
                return mpmath.tanh(x * (w + s * dw)) * (v + s * dv)

            exact.append([mpmath.diff(along, 0, j) / math.factorial(j) for j in range(5)])
    terms = np.array([[float(term) for term in row] for row in exact])
    for degree in range(5):
        result = taylor_expand(network, origin, degree)(target, X)[:, 0]
        np.testing.assert_allclose(result, terms[:, : degree + 1].sum(axis=1), rtol=1e-13, atol=1e-14)


def test_degree_one_is_the_linearisation_and_degree_zero_ignores_the_parameters():
    origin, target = {"a": np.array(1.5), "b": np.array(0.5)}, {"a": np.array(-2.0), "b": np.array(7.0)}
    np.testing.assert_array_equal(
        taylor_expand(cubic, origin, 1)(target, X), linearize(cubic, origin)(target, X)
    )
    constant = taylor_expand(cubic, origin, 0)
    np.testing.assert_array_equal(constant(target, X), constant(origin, X))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_remainder_falls_as_the_next_power_of_the_step(degree):
    """Halving the step divides the error by 2^(degree + 1), up to a correction of order step = 2 %."""
    generator = np.random.default_rng(3)
    origin = (generator.normal(size=(3, 4)), generator.normal(size=(4, 2)))
    direction = (generator.normal(size=(3, 4)), generator.normal(size=(4, 2)))
    x = generator.normal(size=(3, 3))

    def network(params, x):
        return jnp.matmul(
            jnp.sin(jnp.matmul(x, params[0], precision="highest")), params[1], precision="highest"
        )

    errors = []
    for step in (2e-2, 1e-2):
        moved = tuple(a + step * b for a, b in zip(origin, direction, strict=True))
        with jax.enable_x64(True):
            exact = np.array(network(moved, jnp.asarray(x)))
        errors.append(np.linalg.norm(taylor_expand(network, origin, degree)(moved, x) - exact))
    assert errors[0] / errors[1] == pytest.approx(2.0 ** (degree + 1), rel=0.1)


def test_a_rectifier_and_a_loop_can_be_expanded():
    """Piecewise cubic in the scale; the loop multiplies three times."""

    def looped(scale, x):
        def body(state, _):
            return (jax.nn.relu(scale * state), None)

        return jax.lax.scan(body, jnp.abs(x), None, length=3)[0]

    expanded = taylor_expand(looped, np.array(1.0), 3)
    np.testing.assert_allclose(expanded(np.array(1.5), X), np.abs(X) * 1.5**3, rtol=1e-13)


def test_jax_arrays_give_jax_arrays_also_under_jit_and_grad():
    origin = {"a": jnp.float32(1.5), "b": jnp.float32(0.5)}
    target = {"a": jnp.float32(2.0), "b": jnp.float32(0.25)}
    quadratic = taylor_expand(cubic, origin, 2)
    x = jnp.asarray(X, jnp.float32)
    jitted = jax.jit(quadratic)(target, x)
    assert jitted.dtype == jnp.float32
    expected = sum(cubic_terms((1.5, 0.5), (0.5, -0.25), X)[:3])
    np.testing.assert_allclose(np.array(jitted), expected, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda params: quadratic(params, x)[0, 0])(target)["b"]
    # d/dv of x (2 a u b + a² v + 2 a u v) at x = 1: a² + 2 a u
    assert float(slope) == pytest.approx(1.5**2 + 2 * 1.5 * 0.5, rel=1e-5)


@pytest.mark.parametrize("degree", [-1, True])
def test_a_degree_that_is_no_whole_number_is_refused(degree):
    with pytest.raises(ValueError, match="degree as a whole number of at least 0"):
        taylor_expand(cubic, {"a": np.array(1.0), "b": np.array(1.0)}, degree)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"a": np.array(1.0)}, "parameters of the structure expanded at"),
        ({"a": np.ones(1), "b": np.array(1.0)}, r"shapes expanded at, \(\) at params\['a'\], got \(1,\)"),
    ],
)
def test_parameters_of_another_kind_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        taylor_expand(cubic, {"a": np.array(1.0), "b": np.array(1.0)}, 2)(target, X)
