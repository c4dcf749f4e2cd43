"""The algebra of kernels, RBF, shared passes, and the refusal of bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.table import two_hidden_layers

from ntkit import NNGP, NTK, RBF, nn
from ntkit.engines import reference
from ntkit.kernels import evaluate
from ntkit.numerics.dtypes import as_point_pair, as_points

NETWORK = two_hidden_layers(nn.Relu())
X = np.random.default_rng(0).standard_normal((6, 3))


def test_sums_products_and_multiples_act_entry_by_entry():
    a, b = NNGP(NETWORK), RBF(0.8)
    combined = 2.0 * a + a * b
    np.testing.assert_allclose(combined(X), 2 * a(X) + a(X) * b(X), rtol=1e-14)
    np.testing.assert_allclose(combined(X, X[:2]), combined(X)[:, :2], rtol=1e-12)
    np.testing.assert_allclose(combined.diag(X), np.diag(combined(X)), rtol=1e-13)
    with pytest.raises(ValueError, match="factor as a finite number of at least 0"):
        -1.0 * a


def test_rbf_is_the_gaussian_of_the_scaled_distance():
    scales = np.array([0.5, 1.0, 3.0])
    distances = (((X[:, None] - X[None]) / scales) ** 2).sum(-1)
    np.testing.assert_allclose(RBF(scales, variance=1.7)(X), 1.7 * np.exp(-distances / 2), rtol=1e-13)
    np.testing.assert_array_equal(np.diag(RBF(scales)(X)), np.ones(6))
    with pytest.raises(ValueError, match="positive length_scale"):
        RBF(0.0)


def test_both_kernels_of_one_network_take_one_pass(monkeypatch):
    passes = []
    prepare = reference.prepare
    monkeypatch.setattr(reference, "prepare", lambda *a, **k: passes.append(k) or prepare(*a, **k))
    ntk, rbf, nngp = evaluate((NTK(NETWORK), RBF(), NNGP(NETWORK)), X)
    assert len(passes) == 1
    np.testing.assert_array_equal(ntk, NTK(NETWORK)(X))
    np.testing.assert_allclose(nngp, NNGP(NETWORK)(X), rtol=1e-14)  # another program, other roundings
    np.testing.assert_array_equal(rbf, RBF()(X))
    passes.clear()
    evaluate((NNGP(NETWORK),), X)
    assert passes == [{"ntk": False}], "the tangent kernel is not computed for nothing"


def test_gradients_in_a_kernel_are_kernel_shaped():
    slope = jax.jit(jax.grad(lambda kernel: kernel(jnp.asarray(X, jnp.float32)).sum()))
    gradient = slope(2.0 * NTK(NETWORK))
    assert isinstance(gradient.kernel, NTK)
    assert gradient.kernel.network.layers[0].w_std != 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3), None), r"A kernel needs x1 of shape \(points, features\)"),
        (([[1.0]], None), "x1 as an array, got list"),
        ((np.ones((0, 3)), None), "at least one point"),
        ((np.array([[1.0, np.nan]]), None), r"finite values, got nan at x1\[0, 1\]"),
        ((np.ones((2, 3)), np.ones((2, 4))), "equally many features, got 3 and 4"),
        ((np.ones((2, 3)), np.ones((2, 3), np.float32)), "one dtype"),
        ((np.ones((2, 3), np.float16), None), "float32 or float64"),
        ((np.ones((2, 3), complex), None), "float32 or float64"),
    ],
)
def test_bad_inputs_are_named_with_a_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        as_point_pair("A kernel", *arguments)


@pytest.mark.parametrize("kernel", [NNGP(NETWORK), NTK(NETWORK), RBF()], ids=["nngp", "ntk", "rbf"])
def test_every_kernel_checks_its_inputs(kernel):
    with pytest.raises(ValueError, match="Drop or impute missing values"):
        kernel(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="Drop or impute missing values"):
        kernel.diag(np.array([[np.inf, 1.0]]))


def test_integers_count_as_float64():
    assert as_points("A kernel", np.arange(6).reshape(2, 3)).dtype == np.float64


def test_a_matrix_beyond_the_machine_is_refused_before_any_work(monkeypatch):
    from ntkit.engines import plan

    monkeypatch.setattr(plan, "physical_memory", lambda: 100)
    with pytest.raises(MemoryError, match="between 6 and 6 points needs .* Use fewer points"):
        NTK(NETWORK)(X)


@pytest.mark.parametrize("library", [np.asarray, pytest.param(jnp.asarray, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kernel", [NTK(NETWORK), NNGP(NETWORK), RBF()], ids=["ntk", "nngp", "rbf"])
def test_kernels_of_numbers_are_numbers_inside_a_traced_function(kernel, library):
    x = library(X.astype(np.float32))
    seen = []

    @jax.jit
    def scaled(factor):
        seen.extend([kernel(x), kernel(x, x[:2]), kernel.diag(x)])
        return factor * jnp.asarray(seen[0])

    inside = scaled(2.0)
    np.testing.assert_allclose(inside, 2 * np.asarray(kernel(x)), rtol=1e-5)
    if library is np.asarray:
        for gram, outside in zip(seen, (kernel(x), kernel(x, x[:2]), kernel.diag(x)), strict=True):
            # Inside, constants of the program are folded beforehand: sums may round in another order.
            np.testing.assert_allclose(gram, outside, rtol=4 * np.finfo(np.float32).eps)


def test_plan_and_bounds_can_be_had_inside_a_traced_function():
    seen = []
    jax.jit(lambda s: (seen.extend([NTK(NETWORK).plan(X).rows, NTK(NETWORK).bounds(X)]), s)[1])(1.0)
    assert seen == [6, ()]
