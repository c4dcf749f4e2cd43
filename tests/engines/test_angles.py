"""Networks of the angle alone: the table says what the layers say, and is used where that holds."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.table import CLOSED, named

from ntkit import nn
from ntkit.engines import choice, reference
from ntkit.engines.angles import TOLERANCE, tabulated
from ntkit.numerics.chebyshev import BLOCK, chebyshev_series
from ntkit.numerics.dtypes import precision
from ntkit.numerics.gaussian_pair import GaussianPair

HOMOGENEOUS = [activation for activation in CLOSED if activation.homogeneity is not None]


def network(depth, bias, *activations, w_std=1.3):
    hidden = [
        layer for k in range(depth) for layer in (nn.Dense(8, w_std, bias), activations[k % len(activations)])
    ]
    return nn.Serial(*hidden, nn.Dense(1, w_std, bias))


def points(dtype, sphere=False):
    """Points with a duplicate, an opposite, a multiple, a near-duplicate and, off the sphere, a zero row."""
    x = np.random.default_rng(0).standard_normal((40, 6))
    x[1], x[2], x[3], x[4] = x[0], -x[0], 3 * x[0], x[0] + 1e-5
    x[5] = x[6] if sphere else 0.0
    return (x / np.linalg.norm(x, axis=1, keepdims=True) * 2.0 if sphere else x).astype(dtype)


def check_table(net, x, other=None):
    prepared = reference.prepare(net, x, other, ntk=True)
    table = tabulated(prepared)
    assert table is not None
    exact = reference.concrete(net, x.astype(float), None if other is None else other.astype(float), ntk=True)
    own = reference.concrete_diagonal(net, x.astype(float), ntk=True)
    others = own if other is None else reference.concrete_diagonal(net, other.astype(float), ntk=True)
    for through_engine in (reference.concrete, lambda *a, **k: choice.concrete(*a, **k, engine="fused")):
        found = through_engine(table if through_engine is reference.concrete else net, x, other, ntk=True)
        for name in ("nngp", "ntk"):
            scale = np.sqrt(getattr(own, name)[:, None] * getattr(others, name))
            # The table's own tolerance, and rounding of angles: the kernel's slope grows with the depth.
            allowed = (TOLERANCE + 4.0 * len(net.layers)) * np.finfo(x.dtype).eps * scale
            assert (np.abs(getattr(found, name) - getattr(exact, name)) <= allowed).all()


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
@pytest.mark.parametrize("depth", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_homogeneous_networks_are_tabulated_for_points_of_any_norm(depth, dtype):
    x = points(dtype)
    check_table(network(depth, 0.0, nn.Relu(), nn.LeakyRelu(0.2)), x)
    check_table(network(depth, 0.0, nn.Relu()), x[:7], x[3:])


@pytest.mark.slow
@pytest.mark.parametrize("activation", [nn.Relu(), nn.Gelu()])
def test_points_of_one_norm_are_tabulated_for_networks_with_biases(activation):
    check_table(network(2, 0.3, activation), points("float64", sphere=True))
    check_table(network(2, 0.3, activation), points("float32", sphere=True))


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 12),
    st.floats(0.8, 1.8),
    st.floats(0.0, 1.0),
    st.sampled_from([nn.Relu(), nn.Erf(), nn.Gelu(), nn.RectifiedMonomial(2), nn.Sin()]),
)
def test_tables_hold_for_drawn_networks_on_the_sphere(depth, w_std, bias, activation):
    depth = min(depth, 3) if isinstance(activation, nn.RectifiedMonomial) else depth
    net, x = network(depth, bias, activation, w_std=w_std), points("float64", sphere=True)
    if tabulated(reference.prepare(net, x, None, ntk=True)) is not None:
        check_table(net, x)


def test_where_more_than_the_angle_counts_there_is_no_table():
    x = points("float64")
    assert tabulated(reference.prepare(network(2, 0.1, nn.Relu()), x, None, ntk=True)) is None
    assert tabulated(reference.prepare(network(2, 0.0, nn.Erf()), x, None, ntk=True)) is None
    assert tabulated(reference.prepare(network(1, 0.0, nn.Relu()), np.zeros((3, 2)), None, ntk=True)) is None
    # Norms that differ by more than rounding.
    sphere = points("float64", sphere=True)
    sphere[0] *= 1.0 + 1e-12
    assert tabulated(reference.prepare(network(2, 0.1, nn.Relu()), sphere, None, ntk=True)) is None


def test_kernels_that_are_not_smooth_in_the_angle_are_left_to_the_layers():
    """Two layers of signs have a root's infinite slope at angle 0: no polynomial follows it."""
    net, x = network(2, 0.2, nn.Sign()), points("float64", sphere=True)
    assert tabulated(reference.prepare(net, x, None, ntk=False)) is None


def test_the_choice_says_that_a_table_is_used():
    prepared = reference.prepare(network(2, 0.0, nn.Relu()), points("float64"), None, ntk=True)
    assert "a function of the angle between two points" in choice.choose(prepared, "fused").reason


@pytest.mark.parametrize("activation", HOMOGENEOUS, ids=named(HOMOGENEOUS))
def test_homogeneity_is_what_it_says(activation):
    with precision(np.float64):
        cov, var1, var2 = (jnp.asarray(value) for value in (0.3, 0.8, 1.1))
        near = float(activation.dual(GaussianPair.of(cov, var1, var2)))
        far = float(activation.dual(GaussianPair.of(6.0 * cov, 4.0 * var1, 9.0 * var2)))
    np.testing.assert_allclose(far, 6.0**activation.homogeneity * near, rtol=1e-13)


def test_chebyshev_series_are_exact_functions_of_the_turn_near_the_end_of_the_interval():
    """There `1 - 2 turn` would lose the turn's digits, and every term multiply the loss by the square of its order."""
    coefficients = np.random.default_rng(3).standard_normal(8 * BLOCK + 1)
    turns = np.concatenate([np.geomspace(1e-12, 1.0, 30), [0.0]])
    with precision(np.float64):
        found = np.asarray(chebyshev_series(jnp.asarray(coefficients), jnp.asarray(turns)))
    with mpmath.workdps(50):
        for value, turn in zip(found, turns.tolist(), strict=True):
            angle = mpmath.acos(1 - 2 * mpmath.mpf(turn))
            exact = mpmath.fsum(c * mpmath.cos(k * angle) for k, c in enumerate(coefficients.tolist()))
            # Sums of the coefficients round as they are; what rounds with the turn grows as the order squared.
            growth = 1.0 + min(turn * len(coefficients) ** 2, len(coefficients))
            assert abs(value - exact) <= 4 * growth * np.finfo(float).eps * np.abs(coefficients).sum()


def test_a_table_has_no_finite_network():
    table = tabulated(reference.prepare(network(1, 0.0, nn.Relu()), points("float64"), None, ntk=True))
    assert table is not None
    with pytest.raises(
        ValueError, match="needs layers with weights, got an AngleTable.*Call `init` and `apply` of"
    ):
        table.init(jax.random.key(0), (1, 6))
    with pytest.raises(ValueError, match="needs layers with weights, got an AngleTable"):
        table.apply((), jnp.ones((1, 6)))
