"""Experiments with finite networks: what they measure is what they say, and the laws of large width show."""

import jax
import numpy as np
import pytest

from ntkit import NTK, EmpiricalNTK, nn
from ntkit.dynamics import train
from ntkit.theory import (
    OutputDistribution,
    experiments,
    kernel_fluctuation,
    kernel_motion,
    output_distribution,
)

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(4, 3)).astype(np.float32)
Y = GENERATOR.normal(size=(4, 1)).astype(np.float32)


def relu(width):
    return nn.Serial(nn.Dense(width, w_std=2**0.5), nn.Relu(), nn.Dense(1))


def erf(width):
    return nn.Serial(nn.Dense(width, w_std=1.5), nn.Erf(), nn.Dense(width), nn.Erf(), nn.Dense(1))


def one_erf(width):
    return nn.Serial(nn.Dense(width, w_std=1.5), nn.Erf(), nn.Dense(1))


def linear(width):
    return nn.Dense(1)


@pytest.fixture(scope="module")
def distribution():
    return output_distribution(relu, X[:1], (4, 32), networks=20_000, key=KEY)


def test_the_kurtosis_of_one_hidden_relu_layer_is_15_over_width(distribution):
    # f given the hidden layer is Gaussian of variance Σ relu²/n; E[relu⁴] / E[relu²]² = 6, so kurtosis 3 (6 - 1) / n. A
    # standard error estimated from heavy tails is itself uncertain, hence 4.
    off = np.abs(distribution.excess_kurtosis - 15.0 / distribution.widths)
    assert (off < 4 * distribution.kurtosis_standard_error).all()
    decay = distribution.kurtosis_decay()
    assert abs(decay.exponent + 1.0) < 4 * decay.standard_error < 0.6


def test_the_variance_is_that_of_the_limit_at_every_width(distribution):
    # Exactly so for ReLU; 4 standard errors.
    assert (np.abs(distribution.variance - 1.0) < 4 * distribution.variance_standard_error).all()
    assert distribution.std**2 == pytest.approx(float(NTK(relu(8)).diag(X[:1])[0]) / 2, rel=1e-5)


def test_outputs_become_gaussian(distribution):
    assert distribution.distance[0] > 3 * distribution.smallest_distance
    assert distribution.distance[1] < distribution.distance[0] / 3
    assert distribution.outputs.shape == (2, 20_000)
    assert distribution.outputs.dtype == np.float64


def test_the_standard_error_of_a_kurtosis_is_its_scatter():
    # For Gaussian samples the variance of the excess kurtosis is 24 / N up to order 1/N² (Fisher 1930). The mean of 200
    # estimates of it scatters by about 1 %, their own deviation by 1/sqrt(400) = 5 %: 4 deviations of either.
    samples = np.random.default_rng(0).normal(size=(200, 2000))
    found = OutputDistribution(np.ones(200), samples, 1.0, False)
    assert np.mean(found.kurtosis_standard_error) == pytest.approx((24 / 2000) ** 0.5, rel=0.04)
    assert np.std(found.excess_kurtosis) == pytest.approx((24 / 2000) ** 0.5, rel=0.2)


def test_a_linear_network_is_gaussian_at_once():
    found = output_distribution(linear, X[:1], (1,), networks=4000, key=KEY)
    assert found.distance[0] < found.smallest_distance
    assert abs(found.excess_kurtosis[0]) < 4 * found.kurtosis_standard_error[0]
    with pytest.raises(ValueError, match="at least 2 points to fit a power law"):
        found.kurtosis_decay()


@pytest.mark.slow
def test_the_batches_in_which_networks_are_drawn_do_not_matter(monkeypatch):
    whole = output_distribution(relu, X[:1], (8,), networks=100, key=KEY)
    monkeypatch.setattr(experiments, "BATCH_BYTES", 8 * 41 * 33)  # 41 parameters a network: 33 at a time
    parts = output_distribution(relu, X[:1], (8,), networks=100, key=KEY)
    np.testing.assert_allclose(parts.outputs, whole.outputs, rtol=1e-4, atol=1e-5)
    assert len(np.unique(whole.outputs)) == 100


@pytest.mark.slow
def test_the_tangent_kernel_fluctuates_like_the_inverse_root_of_the_width():
    found = kernel_fluctuation(relu, X, (16, 256), networks=80, key=KEY)
    decay = found.decay()
    assert abs(decay.exponent + 0.5) < 3 * decay.standard_error < 0.15
    assert (np.diff(found.mean) < 0).all()


@pytest.mark.slow
def test_so_does_that_of_two_smooth_layers():
    decay = kernel_fluctuation(erf, X, (32, 128, 512), networks=100, key=KEY).decay()
    assert abs(decay.exponent + 0.5) < 3 * decay.standard_error < 0.12


def test_a_deviation_is_that_of_the_network_drawn():
    found = kernel_fluctuation(relu, X, (8,), networks=3, key=KEY)
    draw = jax.random.split(jax.random.fold_in(KEY, 0), 3)[1]
    network = relu(8)
    gram, limit = EmpiricalNTK(network.apply, network.init(draw, X.shape))(X), NTK(network)(X)
    expected = np.linalg.norm(gram - limit) / np.linalg.norm(limit)
    assert found.deviations[0, 1] == pytest.approx(expected, rel=1e-4)
    assert found.standard_error[0] == pytest.approx(np.std(found.deviations[0], ddof=1) / 3**0.5)


def test_the_kernel_of_a_linear_network_neither_fluctuates_nor_moves():
    assert kernel_fluctuation(linear, X, (1,), networks=2, key=KEY).deviations.max() < 1e-6
    assert kernel_motion(linear, X, Y, (1,), networks=2, key=KEY).deviations.max() < 1e-6


@pytest.mark.slow
def test_training_moves_the_kernels_of_wide_networks_less():
    # Bounded by width^(-1/2) (Huang & Yau 2020), and measurably moved.
    found = kernel_motion(one_erf, X, Y, (16, 256), steps=30, networks=20, key=KEY)
    decay = found.decay()
    assert decay.exponent < -0.5 + 2 * decay.standard_error
    assert found.mean[0] > 0.01


@pytest.mark.slow
def test_a_motion_is_that_of_training_the_network_drawn():
    x, y = X.astype(np.float64), Y.astype(np.float64)
    found = kernel_motion(relu, x, y, (8,), steps=20, learning_rate=0.05, networks=2, key=KEY)
    network = relu(8)
    with jax.enable_x64(True):
        draw = jax.random.split(jax.random.fold_in(KEY, 0), 2)[1]
        params = jax.tree_util.tree_map(np.asarray, network.init(draw, x.shape))
    after = train(network.apply, params, x, y, learning_rate=0.05, steps=20).params
    before, moved = (EmpiricalNTK(network.apply, each)(x) for each in (params, after))
    expected = np.linalg.norm(moved - before) / np.linalg.norm(before)
    assert found.deviations[0, 1] == pytest.approx(expected, rel=1e-9)


def stopping(width):
    if width == 99:
        raise KeyboardInterrupt
    return linear(width)


def test_an_interrupt_keeps_the_finished_widths():
    outputs = output_distribution(stopping, X[:1], (4, 99), networks=100, key=KEY)
    assert outputs.interrupted and outputs.widths.tolist() == [4.0]
    kernels = kernel_fluctuation(stopping, X, (4, 99), networks=2, key=KEY)
    assert kernels.interrupted and kernels.deviations.shape == (1, 2)
    with pytest.raises(KeyboardInterrupt):
        kernel_fluctuation(stopping, X, (99,), networks=2, key=KEY)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="one input, shape .1, d., got 4"):
        output_distribution(relu, X, (4,), networks=100, key=KEY)
    with pytest.raises(ValueError, match="at least 100 networks of each width, got 99"):
        output_distribution(relu, X[:1], (4,), networks=99, key=KEY)
    with pytest.raises(ValueError, match="widths of at least 1, got .0"):
        kernel_fluctuation(relu, X, (0,), networks=5, key=KEY)
    with pytest.raises(ValueError, match="outputs vary"):
        output_distribution(lambda width: nn.Dense(1, w_std=0.0), X[:1], (4,), networks=100, key=KEY)
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        kernel_motion(relu, X, Y, (4,), steps=0, networks=2, key=KEY)
    with pytest.raises(ValueError, match="positive, finite learning_rate, got -1"):
        kernel_motion(relu, X, Y, (4,), learning_rate=-1, networks=2, key=KEY)
    with pytest.raises(ValueError, match="needs a smaller learning_rate"):
        kernel_motion(relu, X, Y, (4,), learning_rate=1e6, networks=2, key=KEY)
