"""The figures of Jacot et al. (2018): what is measured is what it says, and the limit is where it should be."""

import jax
import numpy as np
import pytest

from ntkit import NNGP, NTK, EmpiricalNTK, nn
from ntkit.theory import FunctionsOnCircle, KernelOnCircle, functions_on_circle, kernel_on_circle
from ntkit.theory.circle_experiments import on_circle, relu_network

KEY = jax.random.key(0)
X0 = np.array([[1.0, 0.0]])


@pytest.fixture(scope="module")
def kernels():
    return kernel_on_circle(widths=(16, 256), networks=6, steps=30, key=KEY)


@pytest.fixture(scope="module")
def functions():
    return functions_on_circle(widths=(64,), networks=20, steps=200, key=KEY)


def test_the_network_is_that_of_the_paper():
    # By the recursion on the unit circle, x0 = x: Σ¹ = 1/2 + β², then relu halves: Σ' = Σ/2 + β², Θ' = Σ' + Θ/2.
    sigma = theta = 0.5 + 0.01
    for _ in range(3):
        sigma = sigma / 2 + 0.01
        theta = sigma + theta / 2
    network = relu_network(7)
    assert float(NTK(network).diag(X0)[0]) == pytest.approx(theta, rel=1e-12)
    assert float(NNGP(network).diag(X0)[0]) == pytest.approx(sigma, rel=1e-12)
    assert network.init(KEY, (1, 2))[2]["weight"].shape == (7, 7)


@pytest.mark.slow
def test_the_first_kernels_are_those_of_the_networks_drawn(kernels):
    width_key = jax.random.fold_in(jax.random.split(KEY)[1], 1)
    params = relu_network(256).init(jax.random.split(width_key, 6)[2], (100, 2))
    expected = EmpiricalNTK(relu_network(256).apply, params)(
        X0.astype(np.float32), on_circle(kernels.angles).astype(np.float32)
    )[0]
    np.testing.assert_allclose(kernels.before[1, 2], expected, rtol=2e-5)


@pytest.mark.slow
def test_the_limit_is_the_infinite_kernel(kernels):
    expected = NTK(relu_network(8))(X0, on_circle(kernels.angles))[0]
    np.testing.assert_allclose(kernels.limit, expected, rtol=1e-13)
    assert kernels.angles[60] == 0.0 and kernels.limit.argmax() == 60
    assert kernels.limit[0] == pytest.approx(kernels.limit[-1], rel=1e-12)
    # The mean over 6 networks, whose deviation is `spread`, within 4 standard errors at the wider width.
    off = np.abs(kernels.before[1].mean(axis=0) - kernels.limit).max() / kernels.limit.max()
    assert off < 4 * kernels.spread[1] / 6**0.5


@pytest.mark.slow
def test_wide_networks_agree_on_the_kernel_and_move_it_less(kernels):
    assert kernels.spread[1] < kernels.spread[0] / 1.5
    assert kernels.motion[1] < kernels.motion[0] / 1.5
    assert kernels.motion[1] > 1e-3
    assert kernels.before.shape == kernels.after.shape == (2, 6, 121) and kernels.steps == 30


def test_the_numbers_of_a_kernel_by_hand():
    before = np.array([[[1.0, 1.0], [3.0, 3.0]]])
    found = KernelOnCircle(np.zeros(2), np.ones(1), before, 2.0 * before, np.full(2, 4.0), 1, False)
    assert found.spread[0] == 0.25 and found.inflation[0] == 2.0
    assert found.motion[0] == pytest.approx(5**0.5 / 4)


@pytest.mark.slow
def test_trained_networks_pass_through_the_points_and_follow_the_law(functions):
    at = [np.abs(functions.angles - angle).argmin() for angle in functions.train_angles]
    # Grid points are within 0.03 rad of the training points, and the mean's slope is below 1.
    assert np.abs(functions.mean[at] - functions.targets).max() < 0.05
    # 20 networks of width 64: each quantile's share is 0.1 to a deviation of 0.07 or less, and the finite width adds.
    assert 0.55 < functions.inside[0] < 0.95
    off = np.abs(functions.outputs[0].mean(axis=0) - functions.mean)
    assert (off < 4 * functions.outputs[0].std(axis=0, ddof=1) / 20**0.5 + 0.02).all()


@pytest.mark.slow
def test_quantiles_are_those_of_a_gaussian(functions):
    np.testing.assert_array_equal(functions.quantile(0.5), functions.mean)
    np.testing.assert_allclose(functions.quantile(0.9) - functions.mean, 1.2815515655446004 * functions.std)


@pytest.mark.slow
def test_the_law_is_the_closed_form_of_as_many_steps(functions):
    # On the loss averaged over 4 points: Θ(x, X) Θ⁻¹ (1 − (1 − Θ/4)²⁰⁰) y, by powers of a matrix.
    x, y = on_circle(functions.train_angles), functions.targets
    kernel = NTK(relu_network(4))
    gram = kernel(x)
    learnt = np.eye(4) - np.linalg.matrix_power(np.eye(4) - gram / 4, 200)
    expected = kernel(on_circle(functions.angles), x) @ np.linalg.solve(gram, learnt @ y)
    np.testing.assert_allclose(functions.mean, expected, rtol=0, atol=1e-10)


def test_the_share_inside_by_hand():
    outputs = np.array([[[0.0, 5.0], [-1.0, 1.0]]])
    found = FunctionsOnCircle(
        np.zeros(2), np.ones(1), outputs, np.zeros(2), np.ones(2), np.zeros(1), np.zeros(1), 1, False
    )
    assert found.inside[0] == 0.75


def stopping(width):
    if width == 99:
        raise KeyboardInterrupt
    return nn.Dense(1)


def test_an_interrupt_keeps_the_finished_widths():
    kernels = kernel_on_circle(stopping, (4, 99), networks=2, steps=1, key=KEY)
    assert kernels.interrupted and kernels.before.shape == (1, 2, 121)
    outputs = functions_on_circle(stopping, (4, 99), networks=2, steps=1, key=KEY)
    assert outputs.interrupted and outputs.widths.tolist() == [4.0]
    with pytest.raises(KeyboardInterrupt):
        functions_on_circle(stopping, (99,), networks=2, steps=1, key=KEY)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="kernel_on_circle needs widths of at least 1"):
        kernel_on_circle(widths=(), key=KEY)
    with pytest.raises(ValueError, match="at least 1 sample, got 0"):
        kernel_on_circle(samples=0, key=KEY)
    with pytest.raises(ValueError, match="got 2 angles and 1 targets"):
        functions_on_circle(train_angles=(0.0, 1.0), targets=(1.0,), key=KEY)
    with pytest.raises(ValueError, match="at least 2 networks of each width, got 1"):
        functions_on_circle(networks=1, key=KEY)
