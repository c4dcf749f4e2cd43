"""Fixed matrices along a spatial axis against the same matrices around arrays over all pairs of pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit import NTK, nn
from ntkit.kernels import nngp_and_ntk

MATRIX = np.array([[0.5, 0.5, 0.0], [0.0, -1.0, 2.0]])


def test_it_acts_on_both_sides_of_both_kernels_along_its_axis():
    x = np.random.default_rng(0).standard_normal((2, 2, 3, 4))
    net = nn.Serial(nn.Dense(8, 1.2, 0.3), nn.LinearMap(MATRIX, 2), nn.GlobalAvgPool())
    nngp = 1.44 * np.einsum("aijc,bklc->aijbkl", x, x) / 4 + 0.09
    expected = np.einsum("pj,ql,aijbkl->ab", MATRIX, MATRIX, nngp) / 16
    # One layer of weights: what they change is what they are, so both kernels are one.
    np.testing.assert_allclose(nngp_and_ntk(net, x), [expected, expected], rtol=1e-13)


@pytest.mark.slow
def test_activations_after_it_see_the_variances_that_it_leaves():
    x = np.random.default_rng(1).standard_normal((3, 3, 2))
    conv, head = nn.Conv(8, (2,), w_std=1.3, b_std=0.2), (nn.Relu(), nn.Flatten(), nn.Dense(1))
    averaged = nn.Serial(conv, nn.AvgPool((2,), (1,)), conv, *head)
    mapped = nn.Serial(conv, nn.LinearMap([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]), conv, *head)
    np.testing.assert_allclose(NTK(mapped)(x), NTK(averaged)(x), rtol=1e-13)


def test_the_finite_layer_is_the_matrix():
    x = jnp.asarray(np.random.default_rng(2).standard_normal((2, 3, 2, 4)), jnp.float32)
    layer = nn.LinearMap(MATRIX)
    out = layer.apply(layer.init(jax.random.key(0), x.shape), x)
    assert out.shape == layer.output_shape(x.shape) == (2, 2, 2, 4)
    np.testing.assert_allclose(out, np.einsum("pi,nijc->npjc", MATRIX, x), rtol=1e-5, atol=1e-6)


def test_masked_pixels_carry_nothing_through_it():
    x = np.random.default_rng(3).standard_normal((2, 3, 2))
    shorter = x.copy()
    shorter[:, 2] = -9.0
    net = nn.Serial(nn.Dense(8, 1.0, 0.5), nn.LinearMap(MATRIX), nn.Flatten())
    masked = nn.Serial(nn.Mask(-9.0), *net.layers)
    part = nn.Serial(nn.Dense(8, 1.0, 0.5), nn.LinearMap(MATRIX[:, :2]), nn.Flatten())
    np.testing.assert_allclose(NTK(masked)(shorter), NTK(part)(x[:, :2]), rtol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LinearMap([1.0, 2.0]), "needs a matrix"),
        (lambda: nn.LinearMap([[np.nan]]), "finite matrix"),
        (lambda: nn.LinearMap(MATRIX, 0), "spatial axis"),
        (lambda: nn.LinearMap(MATRIX).output_shape((5, 4, 2)), "needs 3 pixels along axis 1"),
        (lambda: nn.LinearMap(MATRIX, 2).output_shape((5, 3, 2)), "spatial axis 2"),
    ],
    ids=range(5),
)
def test_mistakes_say_what_is_needed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
