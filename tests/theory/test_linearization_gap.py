"""Networks against their linearisation: exact where it can be known, and closing as the width grows."""

import jax
import numpy as np
import pytest
import scipy.special

from ntkit import linearize, nn
from ntkit.dynamics import train
from ntkit.theory import LinearizationGap, linearization_gap

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(4, 3)).astype(np.float32)
Y = GENERATOR.normal(size=(4, 1)).astype(np.float32)
WATCH = GENERATOR.normal(size=(5, 3)).astype(np.float32)


def erf(width):
    return nn.Serial(nn.Dense(width, w_std=1.5), nn.Erf(), nn.Dense(1))


def two_outputs(width):
    return nn.Serial(nn.Dense(width, w_std=1.5), nn.Erf(), nn.Dense(2))


def linear(width):
    return nn.Dense(1)


def test_a_network_that_is_linear_in_its_parameters_has_no_gap():
    found = linearization_gap(linear, X, Y, (1,), steps=20, networks=2, key=KEY)
    # Rounding of float32 in two orders of the same sums, over 20 steps.
    assert found.paths.max() < 1e-5
    assert found.paths.shape == (1, 2, 21)
    assert found.learning_rate > 0.0


def test_a_gap_is_that_of_both_trainings_by_hand():
    # f = v erf(1.5 W x / √3) / √8 and its gradient in NumPy; the linearisation is trained in its own parameters.
    x, y, watch = (array.astype(np.float64) for array in (X, Y, WATCH))
    found = linearization_gap(erf, x, y, (8,), watch=watch, steps=20, learning_rate=0.1, networks=2, key=KEY)
    with jax.enable_x64(True):
        draw = jax.random.split(jax.random.fold_in(KEY, 0), 2)[1]
        params = erf(8).init(draw, x.shape)
        start = np.concatenate([np.array(params[layer]["weight"]).ravel() for layer in (0, 2)])

    def outputs_and_jacobian(theta, points):
        first, last = theta[:24].reshape(3, 8), theta[24:]
        before = 1.5 * points @ first / 3**0.5
        slope = 2.0 / np.pi**0.5 * np.exp(-(before**2)) * last[None, :] / 8**0.5
        inner = (1.5 / 3**0.5 * points[:, :, None] * slope[:, None, :]).reshape(len(points), -1)
        outer = scipy.special.erf(before) / 8**0.5
        return outer @ last, np.concatenate([inner, outer], axis=1)

    (at, rows), (there, rows_there) = (outputs_and_jacobian(start, points) for points in (x, watch))
    theta, shift, expected = start.copy(), np.zeros_like(start), []
    for _ in range(21):
        gap = outputs_and_jacobian(theta, watch)[0] - there - rows_there @ shift
        expected.append(np.sqrt(np.mean(gap**2)))
        outputs, slopes = outputs_and_jacobian(theta, x)
        theta = theta - 0.1 * slopes.T @ (outputs - y[:, 0])
        shift = shift - 0.1 * rows.T @ (at + rows @ shift - y[:, 0])
    assert expected[-1] > 1e-3
    np.testing.assert_allclose(found.paths[0, 1], expected, rtol=1e-9, atol=1e-12)
    assert found.supremum[0, 1] == found.paths[0, 1].max()


@pytest.mark.slow
def test_outputs_interact_in_the_linearisation_as_in_the_full_kernel():
    # A kernel averaged over outputs would be wrong here: the linearised weights, trained by themselves.
    x, y = X.astype(np.float64), GENERATOR.normal(size=(4, 2))
    found = linearization_gap(two_outputs, x, y, (8,), steps=10, learning_rate=0.1, networks=2, key=KEY)
    network = two_outputs(8)
    with jax.enable_x64(True):
        draw = jax.random.split(jax.random.fold_in(KEY, 0), 2)[0]
        params = jax.tree_util.tree_map(np.asarray, network.init(draw, x.shape))
    lazy = linearize(network.apply, params)
    both = [
        train(f, params, x, y, learning_rate=0.1, steps=10, record=range(11), watch=x).outputs
        for f in (network.apply, lazy)
    ]
    expected = np.sqrt(np.square(both[0] - both[1]).mean(axis=(1, 2)))
    np.testing.assert_allclose(found.paths[0, 0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow  # the doctest of linearization_gap sees the like
def test_the_gap_closes_at_least_like_the_inverse_root_of_the_width():
    found = linearization_gap(erf, X, Y, (16, 256), steps=30, networks=20, key=KEY)
    decay = found.decay()
    assert decay.exponent < -0.5 + 2 * decay.standard_error
    assert decay.exponent + 3 * decay.standard_error < 0.0
    assert (found.paths[:, :, 0] == 0.0).all() and found.mean[0] > 0.005
    assert found.mean.shape == found.standard_error.shape == (2,)


def test_the_largest_gap_counts_not_the_last():
    found = LinearizationGap(np.array([2.0]), np.array([[[0.0, 3.0, 1.0], [0.0, 1.0, 1.0]]]), 1.0, False)
    np.testing.assert_array_equal(found.supremum, [[3.0, 1.0]])
    assert found.mean[0] == 2.0 and found.standard_error[0] == pytest.approx(1.0)


def stopping(width):
    if width == 99:
        raise KeyboardInterrupt
    return linear(width)


def test_an_interrupt_keeps_the_finished_widths():
    found = linearization_gap(stopping, X, Y, (4, 99), steps=2, networks=2, key=KEY)
    assert found.interrupted and found.widths.tolist() == [4.0] and found.paths.shape == (1, 2, 3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        linearization_gap(erf, X, Y, (4,), steps=0, key=KEY)
    with pytest.raises(ValueError, match="as many targets as outputs, got 1 and 2"):
        linearization_gap(two_outputs, X, Y, (4,), key=KEY)
    with pytest.raises(ValueError, match="the 3 features of x, got 2"):
        linearization_gap(erf, X, Y, (4,), watch=WATCH[:, :2], key=KEY)
    with pytest.raises(ValueError, match="widths of at least 1, got .*"):
        linearization_gap(erf, X, Y, (), key=KEY)
    with pytest.raises(ValueError, match="positive, finite learning_rate, got 0"):
        linearization_gap(erf, X, Y, (4,), learning_rate=0, key=KEY)
    with pytest.raises(ValueError, match="linearization_gap needs .* smaller learning_rate"):
        linearization_gap(erf, X, Y, (4,), learning_rate=1e6, steps=60, networks=2, key=KEY)
