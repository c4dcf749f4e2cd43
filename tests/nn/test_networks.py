"""Layers as values, the finite network, parametrisations, and clear refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit import NNGP, NTK, nn


def test_networks_print_compare_and_hash():
    build = lambda w: nn.Serial(nn.Dense(8, w_std=w), nn.Relu(), nn.Dense(1))  # noqa: E731
    assert build(1.5) == build(1.5)
    assert build(1.5) != build(1.4)
    assert hash(build(1.5)) == hash(build(1.4)), "numbers are not structure"
    assert "Dense(width=8, w_std=1.5" in repr(build(1.5)) and "Relu()" in repr(build(1.5))
    assert nn.Scale([1.0, 2.0]) == nn.Scale(np.array([1.0, 2.0]))


def test_nested_serials_are_one_chain():
    inner = nn.Serial(nn.Dense(8), nn.Relu())
    assert nn.Serial(inner, nn.Dense(1)) == nn.Serial(nn.Dense(8), nn.Relu(), nn.Dense(1))


def test_networks_are_immutable():
    network = nn.Serial(nn.Dense(1))
    with pytest.raises(AttributeError, match="immutable"):
        network.layers = ()
    with pytest.raises(AttributeError):
        network.layers[0].w_std = 2.0


def test_numbers_are_leaves_and_widths_structure():
    network = nn.Serial(nn.Scale([1.0, 2.0]), nn.Dense(8, w_std=2, b_std=1), nn.LeakyRelu(0.2), nn.Dense(1))
    leaves = jax.tree_util.tree_leaves(network)
    assert [np.shape(leaf) for leaf in leaves] == [(2,), (), (), (), (), ()]
    doubled = jax.tree_util.tree_map(lambda leaf: 2 * leaf, network)
    assert doubled.layers[1].w_std == 4.0 and doubled.layers[1].width == 8


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_both_parametrisations_are_the_same_function_at_initialisation(parametrization):
    """The sample variance of one output over 4,000 networks is the NNGP diagonal to 5 standard errors."""
    network = nn.Serial(
        nn.Dense(64, 1.3, 0.5, parametrization), nn.Relu(), nn.Dense(1, 1.1, 0.2, parametrization)
    )
    x = np.array([[0.5, -1.0, 2.0]], dtype=np.float32)

    def output(key):
        return network.apply(network.init(key, x.shape), jnp.asarray(x))[0, 0]

    outputs = np.asarray(jax.jit(jax.vmap(output))(jax.random.split(jax.random.key(0), 4000)))
    variance = NNGP(network).diag(x)[0]
    # Var[s^2] = (kurtosis - 1) sigma^4 / n, and the kurtosis of this sum over 64 units is below 4.
    assert abs(outputs.var() / variance - 1) < 5 * np.sqrt(3 / 4000)


def test_the_standard_parametrisation_weighs_layers_by_their_fan_in():
    """One hidden identity layer by hand: theta = n K2 + 1 + w^2 (d K1 + 1)."""
    x = np.random.default_rng(0).standard_normal((5, 3))
    network = nn.Serial(nn.Dense(40, 1.5, 0.5, "standard"), nn.Identity(), nn.Dense(1, 0.7, 0.2, "standard"))
    first = x @ x.T / 3
    hidden = 2.25 * first + 0.25
    expected = 40 * hidden + 1 + 0.49 * (3 * first + 1)
    np.testing.assert_allclose(NTK(network)(x), expected, rtol=1e-13)
    without_bias = nn.Serial(nn.Dense(40, 1.5, 0.0, "standard"))
    np.testing.assert_allclose(NTK(without_bias)(x), 3 * first, rtol=1e-13)


def test_scales_act_on_the_inputs_and_are_learnable():
    x = np.random.default_rng(0).standard_normal((6, 3))
    scales = np.array([2.0, 0.0, 0.5])
    network = nn.Serial(nn.Dense(8, 1.2, 0.3), nn.Relu(), nn.Dense(1))
    scaled = nn.Serial(nn.Scale(scales), network)
    np.testing.assert_allclose(NTK(scaled)(x), NTK(network)(x * scales), rtol=1e-14)
    params = scaled.init(jax.random.key(0), x.shape)
    np.testing.assert_allclose(
        scaled.apply(params, jnp.asarray(x, jnp.float32)),
        network.apply(params[1:], jnp.asarray(x * scales, jnp.float32)),
        rtol=1e-6,
    )
    slope = jax.jit(jax.grad(lambda net: NTK(net)(jnp.asarray(x, jnp.float32)).sum()))(scaled)
    assert (np.asarray(slope.layers[0].scales)[[0, 2]] != 0).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Dense(0), "width of at least 1, got 0"),
        (lambda: nn.Dense(1, w_std=-1.0), "w_std as a finite number of at least 0"),
        (lambda: nn.Dense(1, b_std=float("inf")), "b_std as a finite number"),
        (lambda: nn.Serial(), "at least one layer"),
        (lambda: nn.Serial(nn.Dense(1), nn.Scale([1.0])), "Scale needs to stand first"),
        (lambda: nn.Scale([[1.0]]), r"scales of shape \(features,\)"),
        (lambda: nn.Scale([np.nan]), "finite scales"),
        (lambda: NTK(nn.Serial(nn.Scale([1.0, 2.0]), nn.Dense(1)))(np.ones((2, 3))), "one scale per feature"),
    ],
)
def test_impossible_networks_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
