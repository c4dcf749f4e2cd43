"""Sums and products of branches that end in activations: their means enter the covariances."""

import itertools
from functools import partial

import numpy as np
import pytest
from tests.nn.finite_networks import assert_tend_to_both_kernels, of_last_units

from ntkit import NNGP, NTK, nn
from ntkit.engines import reference
from ntkit.engines.choice import choose, execution
from ntkit.errors import FusionError

RELU, SOFT, EXP = nn.Relu(), nn.Softplus(degree=64), nn.Exp(0.8, 0.5)


def test_the_covariance_of_a_sum_is_that_of_a_brute_force_integral():
    """E of (phi(u) + psi(v)) (phi(u') + psi(v')) over four Gaussian variables, 24 nodes each, no formula of means."""
    x = np.random.default_rng(0).standard_normal((2, 3))
    weights = (1.1, 0.4), (0.7, 0.6)
    summands = [nn.Serial(nn.Dense(8, *w), phi) for w, phi in zip(weights, (EXP, SOFT), strict=True)]
    network = nn.Serial(nn.Parallel(*summands), nn.Dense(1))
    z, weight = np.polynomial.hermite_e.hermegauss(24)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(z, z, z, z)])
    measure = np.prod(np.meshgrid(*[weight / weight.sum()] * 4), axis=0).ravel()
    covariances = [w**2 * x @ x.T / 3 + b**2 for w, b in weights]
    u, v = (
        np.linalg.cholesky(cov) @ part for cov, part in zip(covariances, (grid[:2], grid[2:]), strict=True)
    )
    values = 0.8 * np.exp(0.5 * u) + np.logaddexp(0.0, v)
    # Softplus by 24 nodes and by its expansion of 64 terms agree to 1e-8.
    np.testing.assert_allclose(NNGP(network)(x), (values * measure) @ values.T, rtol=1e-8)


DENSE = nn.Dense(128, 1.2, 0.3)
CONV = nn.Conv(128, (3,), None, "same", 1.3, 0.3)
END = nn.Dense(1, 1.2)
NETWORKS = {
    "a residual block that ends in an activation": nn.Serial(
        DENSE, RELU, nn.Residual(nn.Serial(DENSE, RELU)), DENSE, RELU, END
    ),
    "three branches": nn.Serial(
        nn.Parallel(nn.Serial(DENSE, RELU), nn.Serial(DENSE, nn.Gelu()), nn.Serial(DENSE, nn.Cos())), END
    ),
    "a product in a sum": nn.Serial(
        DENSE, RELU,
        nn.Parallel(nn.Parallel(nn.Serial(DENSE, RELU), nn.Serial(DENSE, SOFT), merge="product"), nn.Identity()),
        DENSE, RELU, END,
    ),
    "pixels and pooling": nn.Serial(
        CONV, RELU, nn.Residual(nn.Serial(CONV, RELU, nn.AvgPool((3,), (1,), "same"))), nn.AvgPool((2,)),
        CONV, RELU, nn.GlobalAvgPool(), nn.Residual(nn.Serial(DENSE, RELU)), DENSE, RELU, END,
    ),
    "pixels that are flattened": nn.Serial(
        CONV, RELU, nn.Index((slice(1, None),)),
        nn.Residual(nn.Serial(nn.ConvLocal(128, (3,), None, "same", 1.3, 0.3), RELU)), nn.Flatten(), END,
    ),
}  # fmt: skip


def points(name, count, seed=0):
    shape = (count, 5, 2) if name.startswith("pixels") else (count, 3)
    return np.random.default_rng(seed).standard_normal(shape)


QUICK = "a residual block that ends in an activation"


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_finite_networks_tend_to_both_kernels(name):
    """Means over 300 networks of width 128: five standard errors and 6/width; without means NNGPs err by a third."""
    assert_tend_to_both_kernels(
        NETWORKS[name], points(name, 2), 300, bias=6 / 128, most=0.25, covariance=of_last_units
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_diagonals_and_nearly_equal_inputs_agree_with_the_gram_matrix(name):
    """An input meets itself to rounding; one that differs by 1e-9 shows it by no more than that in the NTK."""
    network, x = NETWORKS[name], points(name, 3)
    for kernel in (NNGP(network), NTK(network)):
        gram = kernel(x)
        np.testing.assert_allclose(np.diag(gram), kernel.diag(x), rtol=1e-13)
        np.testing.assert_allclose(np.diag(kernel(x, x.copy())), kernel.diag(x), rtol=1e-13)
        assert np.linalg.eigvalsh(gram)[0] > -1e-13 * gram.max()
    if not any(isinstance(layer, nn.AvgPool) for layer in network.layers):
        near = x * (1.0 + 1e-9 * points(name, 3, 5))
        np.testing.assert_allclose(np.diag(NTK(network)(x, near)), NTK(network).diag(x), rtol=2e-8)


def test_correlations_after_a_sum_are_those_of_its_covariances():
    """The defect without cancellation against 1 - K12 / sqrt(K11 K22), both signs of the covariance."""
    network = NETWORKS["three branches"].layers[0]
    x = points("three branches", 6)
    values = NNGP(nn.Serial(network, nn.Dense(1)))(x)
    deeper = nn.Serial(network, DENSE, nn.Erf(), nn.Dense(1))
    root = np.sqrt(1 + 2 * (1.44 * np.diag(values) + 0.09))
    expected = 2 / np.pi * np.arcsin(2 * (1.44 * values + 0.09) / np.outer(root, root))
    np.testing.assert_allclose(NNGP(deeper)(x), expected, rtol=1e-12)


def test_a_sum_of_centred_activations_is_the_plain_sum():
    x = points("dense", 4)
    branches = [nn.Serial(nn.Dense(8, 1.2, 0.3), phi) for phi in (nn.Erf(), nn.Tanh(degree=64))]
    network = nn.Serial(nn.Parallel(*branches), nn.Dense(1))
    plain = sum(NNGP(nn.Serial(branch, nn.Dense(1)))(x) for branch in branches)
    np.testing.assert_allclose(NNGP(network)(x), plain, rtol=1e-14)


@pytest.mark.slow
def test_repeated_blocks_that_end_in_activations_run_as_a_loop():
    block = nn.Residual(nn.Serial(nn.Dense(16, 0.5), RELU))
    x = points("dense", 4)
    repeated = nn.Serial(nn.Dense(16), RELU, nn.Repeat(block, 7), nn.Dense(1))
    nested = nn.Serial(nn.Dense(16), RELU, *itertools.repeat(block, 7), nn.Dense(1))
    unrolled = NNGP(nn.Serial(nn.Dense(16), RELU, nn.Dense(1))).diag(x)
    np.testing.assert_allclose(NTK(repeated)(x), NTK(nested)(x), rtol=1e-14)
    # By hand for one input with itself: variance v of mean m grows by v/8 and twice the product of means.
    mean = np.sqrt(2 * unrolled / (2 * np.pi))
    for _ in range(7):
        body = 0.25 * unrolled / 2
        body_mean = np.sqrt(0.25 * unrolled / (2 * np.pi))
        unrolled, mean = unrolled + body + 2 * mean * body_mean, mean + body_mean
    np.testing.assert_allclose(NNGP(repeated).diag(x), unrolled, rtol=1e-13)


def test_the_fused_engine_says_where_it_cannot_follow_means():
    run = partial(execution, x2=None, ntk=True, engine="fused")
    with pytest.raises(FusionError, match="needs the means of its summands"):
        run(NETWORKS["a residual block that ends in an activation"], points("dense", 4))
    head = nn.Residual(nn.Serial(nn.Dense(8), RELU))
    pixels = nn.Serial(nn.Conv(8, (3, 3)), RELU, nn.GlobalAvgPool(), head, nn.Dense(1))
    with pytest.raises(FusionError, match="needs the means of its summands"):
        run(pixels, np.ones((2, 4, 4, 1)))
    many = reference.prepare(pixels, np.ones((128, 4, 4, 1)), None, ntk=True)
    chosen = choose(many, "auto")
    assert chosen.engine == "reference" and "means of its summands" in chosen.reason
