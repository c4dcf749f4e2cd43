"""What the two kernels of every network owe, whatever its activation."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.table import (
    ALIKE,
    CLOSED,
    DISCONTINUOUS,
    EXPANDED,
    KIN,
    named,
    one_hidden_layer,
    some_slow,
    two_hidden_layers,
)

from ntkit import NNGP, NTK, nn
from ntkit.engines import reference
from ntkit.errors import KernelOverflowError, KernelUndefinedError
from ntkit.kernels import nngp_and_ntk

ALL = CLOSED + EXPANDED

BENDING = (*(value for value in CLOSED if value not in (nn.Erf(), nn.Sin())), nn.Tanh())
"""One of each family: all expansions differentiate through the same code."""

SOME = [
    pytest.param(nn.Relu(), id="relu"),
    pytest.param(nn.Gelu(), id="gelu"),
    pytest.param(nn.Tanh(), id="tanh", marks=pytest.mark.slow),
]
"""A kink, a smooth closed form, and an expansion, which takes long to compile."""


def inputs(count=9, features=4, seed=0):
    """Points with a duplicate, a near-duplicate, an opposite, a multiple and a zero row."""
    x = np.random.default_rng(seed).standard_normal((count, features))
    x[1] = x[0]
    x[2] = x[0] * (1 + 1e-9 * np.arange(features))
    x[3] = -x[0]
    x[4] = 2 * x[0]
    x[5] = 0
    return x


@pytest.mark.parametrize("activation", some_slow(ALL, ALIKE + KIN), ids=named(ALL))
def test_grams_are_symmetric_semi_definite_and_have_the_diagonal_of_diag(activation):
    network, x = one_hidden_layer(activation), inputs()
    diagonals = reference.concrete_diagonal(network, x, ntk=True)
    for gram, diagonal in zip(nngp_and_ntk(network, x), diagonals, strict=True):
        assert isinstance(gram, np.ndarray) and gram.dtype == np.float64
        np.testing.assert_array_equal(gram, gram.T)
        np.testing.assert_allclose(np.diag(gram), diagonal, rtol=1e-13)
        eigenvalues = np.linalg.eigvalsh(gram)
        # Rounding of n entries, and what a truncated expansion may take from an eigenvalue.
        slack = 1e-14 if activation in CLOSED else 1e-9
        slack = 2e-4 if isinstance(activation, nn.Selu) else 1e-6 if isinstance(activation, nn.Elu) else slack
        assert eigenvalues[0] >= -len(x) * slack * eigenvalues[-1]
        # Exact duplicates are exactly as correlated as a point with itself.
        np.testing.assert_allclose(gram[0, 1], gram[0, 0], rtol=1e-13)


QUICK_TO_BEND = (nn.Relu(), nn.Gelu(), nn.HardTanh(), nn.RectifiedMonomial(2))


@pytest.mark.slow
@pytest.mark.parametrize("activation", BENDING, ids=named(BENDING))
def test_gradients_are_finite_at_duplicates_and_zero_inputs(activation):
    """Operation by operation: what is infinite in between is not optimised away."""
    assert_finite_gradients(activation, lambda slopes: slopes)


@pytest.mark.parametrize(
    "activation",
    some_slow(BENDING, [value for value in BENDING if value not in QUICK_TO_BEND]),
    ids=named(BENDING),
)
def test_gradients_are_finite_at_duplicates_and_zero_inputs_under_jit(activation):
    assert_finite_gradients(activation, jax.jit)


def assert_finite_gradients(activation, transform):
    if activation in EXPANDED:
        activation = replace(activation, degree=16)
    network = one_hidden_layer(activation)
    with jax.enable_x64(True):
        slopes = transform(jax.grad(lambda network, x: NTK(network)(x).sum(), argnums=(0, 1)))
        for leaf in jax.tree_util.tree_leaves(slopes(network, inputs())):
            assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
    "activation",
    (
        nn.Relu(),
        nn.Rbf(0.4),
        pytest.param(nn.Erf(1.1, 0.8, 0.1), marks=pytest.mark.slow),
        pytest.param(nn.Tanh(degree=32), marks=pytest.mark.slow),
    ),
    ids=repr,
)
def test_gradients_are_those_of_finite_differences(activation):
    """Central differences at step 1e-5 have an error of 1e-10 relative to the third derivative, a few units here."""
    network = two_hidden_layers(activation)
    x = np.random.default_rng(1).standard_normal((4, 3))
    with jax.enable_x64(True):
        weights = jnp.asarray(np.random.default_rng(2).standard_normal((4, 4)))
        leaves, structure = jax.tree_util.tree_flatten((network, x))
        # All of them arrays, as what is moved will be: one compiled function serves every leaf.
        leaves = [np.asarray(leaf) for leaf in leaves]

        # The slopes' program tells the value too: a second one would take as long to compile.
        @jax.jit
        @jax.value_and_grad
        def value_and_slopes(leaves):
            network, x = jax.tree_util.tree_unflatten(structure, leaves)
            return (weights * NTK(network)(x)).sum()

        slopes = value_and_slopes(leaves)[1]
        for position, slope in enumerate(map(np.asarray, slopes)):
            direction = np.random.default_rng(position).standard_normal(np.shape(slope))
            ends = []
            for step in (1e-5, -1e-5):
                moved = list(leaves)
                moved[position] = np.asarray(leaves[position] + step * direction)
                ends.append(float(value_and_slopes(moved)[0]))
            np.testing.assert_allclose(
                (slope * direction).sum(), (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-8
            )


@pytest.mark.parametrize(
    "activation", some_slow([nn.Relu(), nn.Gelu(), nn.Tanh()], [nn.Gelu(), nn.Tanh()]), ids=repr
)
@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_tiles_of_any_size_give_the_same_matrix(activation, dtype):
    """To rounding: a matrix product's sums may be grouped differently."""
    network, x = two_hidden_layers(activation), inputs(37).astype(dtype)
    whole = reference.concrete(network, x, None, ntk=True, tile=64)
    rounding = 16 * np.finfo(dtype).eps
    for tile in (5, 16):
        for part, full in zip(reference.concrete(network, x, None, ntk=True, tile=tile), whole, strict=True):
            np.testing.assert_allclose(part, full, rtol=rounding, atol=rounding * np.abs(full).max())
    block = reference.concrete(network, x[:7], x[3:], ntk=True, tile=5)
    np.testing.assert_allclose(
        block.ntk, whole.ntk[:7, 3:], rtol=rounding, atol=rounding * np.abs(whole.ntk).max()
    )


@pytest.mark.parametrize("activation", SOME)
def test_the_traced_kernel_is_the_concrete_one(activation):
    """Away from near-duplicates, where a traced angle has lost half its digits, to rounding or the bound."""
    network, x = two_hidden_layers(activation), np.delete(inputs(), 2, axis=0)
    with jax.enable_x64(True):
        traced = jax.jit(lambda network, x: nngp_and_ntk(network, x))(network, jnp.asarray(x))
        batched = jax.jit(jax.vmap(lambda x: NTK(network)(x)))(jnp.asarray([x, 2 * x]))
        other = jax.jit(lambda x1, x2: NTK(network)(x1, x2))(jnp.asarray(x[:3]), jnp.asarray(x))
    for value, expected in zip(traced, nngp_and_ntk(network, x), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(batched[1], NTK(network)(2 * x), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(other, NTK(network)(x[:3], x), rtol=1e-8, atol=1e-10)


def test_arrays_of_either_library_come_back_as_they_came():
    network, x = two_hidden_layers(nn.Relu()), inputs()
    for kernel in (NNGP(network), NTK(network)):
        for dtype in (np.float32, np.float64):
            assert kernel(x.astype(dtype)).dtype == dtype
            assert kernel.diag(x.astype(dtype)).dtype == dtype
            assert isinstance(kernel.diag(x.astype(dtype)), np.ndarray)
        single = kernel(jnp.asarray(x))
        assert isinstance(single, jax.Array) and single.dtype == np.float32
        np.testing.assert_allclose(single, kernel(x), rtol=1e-5, atol=1e-5)
    assert jnp.ones(1).dtype == np.float32, "the user's configuration is left alone"


@pytest.mark.parametrize("activation", DISCONTINUOUS, ids=named(DISCONTINUOUS))
def test_jumps_give_an_nngp_but_no_ntk(activation):
    network = two_hidden_layers(activation)
    assert np.isfinite(NNGP(network)(inputs())).all()
    with pytest.raises(KernelUndefinedError, match="square-integrable"):
        NTK(network)(inputs())


def test_overflow_is_an_error_that_names_the_point_and_the_remedy():
    network = nn.Serial(
        *[layer for _ in range(6) for layer in (nn.Dense(1, w_std=1e4), nn.Relu())], nn.Dense(1)
    )
    with pytest.raises(KernelOverflowError, match=r"point \d+ .*float64"):
        NTK(network)(inputs().astype(np.float32))
    assert np.isfinite(NTK(network)(inputs())).all()


def test_depth_fifty_keeps_its_diagonal():
    """The recursion by hand on the diagonal: q' = w^2 q / 2 + b^2, theta' = q' + w^2 theta / 2."""
    x = inputs()
    network = nn.Serial(
        *[layer for _ in range(50) for layer in (nn.Dense(1, 1.4, 0.1), nn.Relu())], nn.Dense(1)
    )
    var, ntk = (x * x).sum(axis=1) / x.shape[1], 0.0
    for layer in range(51):
        w2, b2 = (1.96, 0.01) if layer < 50 else (1.0, 0.0)
        var, ntk = (var if layer == 0 else var / 2), (ntk if layer == 0 else ntk / 2)
        var = w2 * var + b2
        ntk = var + w2 * ntk
    np.testing.assert_allclose(np.diag(NTK(network)(x)), ntk, rtol=1e-13)


@pytest.mark.parametrize("activation", (nn.Elu(), nn.Selu()), ids=["elu", "selu"])
def test_expansions_that_would_cancel_are_refused(activation):
    with pytest.raises(ValueError, match=r"variance up to 1e\+08.*Standardise"):
        NTK(one_hidden_layer(activation))(1e20 * inputs())


def test_opposite_inputs_stay_opposite_or_fall_together_exactly():
    """At depth 20, |x| makes x and -x one input; without the surplus 1 + rho an angle of 1e-8 would open."""
    x = np.array([[1.0, 2.0, 0.3], [-1.0, -2.0, -0.3], [0.2, -1.0, 1.0]])
    network = nn.Serial(*[layer for _ in range(20) for layer in (nn.Dense(1), nn.Abs())], nn.Dense(1))
    gram = NTK(network)(x)
    assert abs(gram[0, 1] / gram[0, 0] - 1) < 1e-13
    np.testing.assert_allclose(
        NNGP(nn.Serial(nn.Dense(1), nn.Sign(), nn.Dense(1)))(x)[0, 1], -1.0, rtol=1e-15
    )


def test_nearly_opposite_inputs_are_as_exact_as_nearly_equal_ones():
    """A network of |x| without biases sees y and -y as one input: two angles, 1e-7 from 0 and from pi, one kernel."""
    rng = np.random.default_rng(0)
    x, turn = rng.standard_normal((2, 1, 30))
    y = x + 1e-7 * turn
    kernel = NTK(nn.Serial(nn.Dense(1), nn.Abs(), nn.Dense(1), nn.Abs(), nn.Dense(1)))
    np.testing.assert_allclose(kernel(x, -y), kernel(x, y), rtol=1e-13)
