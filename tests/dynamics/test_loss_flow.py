"""Flows of general losses against the closed form, an ODE solver in other coordinates, and the laws of a cost."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp
from tests.dynamics.problems import KERNELS, TEST, TEST_Y, X, Y, start

from ntkit.dynamics import LossFlow, PiecewiseConstant, gradient_flow
from ntkit.dynamics.losses import as_loss, loss_and_gradient
from ntkit.errors import IntegrationError
from ntkit.kernels import NNGP, RBF

NTK = KERNELS["relu"][0]
GRAM, CROSS = NTK(X), NTK(TEST, X)
LABELS = np.eye(2)[[0, 1, 1, 0, 1, 0, 0]]
SIGNS = np.sign(Y[:, :1])
TIMES = np.array([0.0, 0.02, 0.4, 3.0, 40.0])

# Loss, targets, and the gradient in the outputs, written out by hand.
LOSSES = {
    "softmax": (
        optax.softmax_cross_entropy,
        LABELS,
        lambda f: np.exp(f) / np.exp(f).sum(axis=1, keepdims=True) - LABELS,
    ),
    "logistic": (
        optax.sigmoid_binary_cross_entropy,
        (SIGNS + 1) / 2,
        lambda f: 1 / (1 + np.exp(-f)) - (SIGNS + 1) / 2,
    ),
    "huber": (partial(optax.huber_loss, delta=0.3), Y, lambda f: np.clip(f - Y, -0.3, 0.3)),
}


@pytest.mark.parametrize(
    "friction", [None, pytest.param(0.9, marks=pytest.mark.slow)], ids=["flow", "heavy ball"]
)
def test_the_integrated_squared_loss_is_the_closed_form(friction):
    arguments = {"f0": start, "learning_rate": 0.6, "reduction": "mean", "ridge": 0.05, "friction": friction}
    closed = gradient_flow(NTK, X, Y, **arguments)
    path = gradient_flow(NTK, X, Y, loss=optax.l2_loss, **arguments)
    assert isinstance(path, LossFlow)
    exact, found = closed.trajectory(TIMES, TEST), path.trajectory(TIMES, TEST)
    # A few hundred steps of relative error 1e-9, not all of one sign; outputs are of size 1.
    np.testing.assert_allclose(found.mean, exact.mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(path.loss(TIMES), closed.loss(TIMES), rtol=0, atol=1e-8)
    np.testing.assert_allclose(path.loss_rate(TIMES), closed.loss_rate(TIMES), rtol=0, atol=1e-7)
    np.testing.assert_allclose(path.penalty(TIMES), closed.penalty(TIMES), rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        path.test_loss(TIMES, TEST, TEST_Y), closed.test_loss(TIMES, TEST, TEST_Y), rtol=0, atol=1e-8
    )
    np.testing.assert_allclose(path.at(3.0).mean(TEST), found.mean[3], rtol=0, atol=1e-14)
    np.testing.assert_allclose(path.training_outputs(0.4), closed.training_outputs(0.4), rtol=0, atol=1e-8)
    assert path.rank == closed.rank
    np.testing.assert_array_equal(path.eigenvalues, closed.eigenvalues)


# The logistic loss is as smooth as the softmax, and the command line's tests integrate it, too.
@pytest.mark.parametrize(
    "name", ["softmax", *(pytest.param(name, marks=pytest.mark.slow) for name in ("logistic", "huber"))]
)
def test_any_loss_follows_the_flow_of_train_and_test_outputs(name):
    loss, targets, gradient = LOSSES[name]
    k = targets.shape[1]
    schedule = PiecewiseConstant((0.5, 2.0), (1.0,))
    flow = gradient_flow(
        NTK, X, targets, loss=loss, learning_rate=schedule, reduction="mean_points", ridge=0.02
    )

    def outputs_and_moves(_, state, rate):
        # Outputs of train and test points together, and the coefficients that the ridge needs.
        f, a = state[: 7 * k].reshape(7, k), state[11 * k :].reshape(7, k)
        move = -rate * (gradient(f) / 7 + 0.02 * a)
        return np.concatenate([(GRAM @ move).ravel(), (CROSS @ move).ravel(), move.ravel()])

    state, at = np.zeros(18 * k), 0.0
    for rate, end in ((0.5, 1.0), (2.0, 3.0), (2.0, 40.0)):
        state = solve_ivp(
            outputs_and_moves, (at, end), state, "LSODA", args=(rate,), rtol=1e-11, atol=1e-12
        ).y[:, -1]
        at = end
        # Huber's gradient has a corner, across which both solvers lose an order: their tolerances are 1e-9.
        np.testing.assert_allclose(flow.at(end).mean(TEST).ravel(), state[7 * k : 11 * k], rtol=0, atol=3e-8)
        np.testing.assert_allclose(flow.training_outputs(end).ravel(), state[: 7 * k], rtol=0, atol=3e-8)


def test_the_cost_falls_at_the_rate_of_its_gradient_in_the_kernels_norm():
    loss, targets, gradient = LOSSES["softmax"]
    flow = gradient_flow(NTK, X, targets, loss=loss, learning_rate=0.7)
    for t in (0.0, 0.4, 3.0):
        slope = gradient(flow.training_outputs(t))
        assert flow.loss_rate(t) == pytest.approx(-0.7 * np.sum(slope * (GRAM @ slope)), rel=1e-9)
    losses = flow.loss(np.linspace(0, 3, 20))
    assert (np.diff(losses) < 0).all()
    change = flow.loss(0.41) - flow.loss(0.39)
    assert flow.loss_rate(0.4) == pytest.approx(change / 0.02, rel=1e-3)


def test_the_time_to_a_loss_is_the_time_of_that_loss():
    loss, targets, _ = LOSSES["softmax"]
    flow = gradient_flow(NTK, X, targets, loss=loss, learning_rate=0.7)
    t = flow.time_to_loss(0.3)
    assert flow.loss(t) == pytest.approx(0.3, rel=1e-8)
    assert flow.time_to_loss(100.0) == 0.0
    bounded = gradient_flow(NTK, X, targets, loss=loss, learning_rate=0.7, ridge=0.5)
    with pytest.raises(ValueError, match="a target above the loss's floor, got 0.3"):
        bounded.time_to_loss(0.3)


@pytest.mark.slow
def test_stiff_flows_finish():
    # Two nearly equal points: condition number above 1e8, time far beyond the slowest direction's.
    x = np.array([[0.0], [1.0], [1.0 + 1e-4], [2.5]])
    y = np.array([[1.0], [-1.0], [-1.002], [0.5]])
    flow = gradient_flow(RBF(), x, y)
    assert flow.eigenvalues[0] / flow.eigenvalues[-1] > 1e8
    times = np.array([1.0, 1e4, 1e9, 1e12])
    path = gradient_flow(RBF(), x, y, loss=optax.l2_loss)
    # Coefficients in an orthonormal basis, of size |y| / sqrt(λ_min) = 10, to a relative 1e-9.
    np.testing.assert_allclose(
        path.trajectory(times, x + 0.3).mean, flow.trajectory(times, x + 0.3).mean, rtol=0, atol=1e-7
    )


def test_answers_do_not_depend_on_the_order_of_questions():
    loss, targets, _ = LOSSES["softmax"]
    forward = gradient_flow(NTK, X, targets, loss=loss, learning_rate=0.7)
    backward = gradient_flow(NTK, X, targets, loss=loss, learning_rate=0.7)
    there = [forward.loss(t) for t in (0.1, 1.0, 5.0)]
    back = [backward.loss(t) for t in (5.0, 1.0, 0.1)]
    np.testing.assert_allclose(there, back[::-1], rtol=1e-8)
    assert forward.path.reached == backward.path.reached == pytest.approx(0.7 * 5.0)


def test_a_flow_that_cannot_go_on_keeps_what_it_has():
    def breaks(outputs, targets):
        # -log(1.5 - f): pushed toward the pole at 1.5, beyond which there is no logarithm.
        return 5.0 * jnp.log(1.5 - outputs) + 0.0 * targets

    flow = gradient_flow(RBF(), np.array([[0.0]]), np.array([[1.0]]), loss=breaks)
    # ḟ = 5 / (1.5 - f) reaches the pole at t = 1.5² / 10.
    early = flow.at(0.2).mean(np.array([[0.0]])).item()
    assert early == pytest.approx(1.5 - np.sqrt(1.5**2 - 2.0), rel=1e-7)
    with pytest.raises(IntegrationError, match="got stuck at 0.2"):
        flow.at(0.3)
    assert flow.at(0.2).mean(np.array([[0.0]])).item() == early


def test_float32_and_jax_points_are_answered_in_kind():
    flow = gradient_flow(NTK, X, LABELS, loss=optax.softmax_cross_entropy)
    exact = flow.at(1.0).mean(TEST)
    single = gradient_flow(
        NTK, X.astype(np.float32), LABELS.astype(np.float32), loss=optax.softmax_cross_entropy
    )
    found = single.at(1.0).mean(jnp.asarray(TEST, jnp.float32))
    assert isinstance(found, jnp.ndarray) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (optax.softmax_cross_entropy, Y, "probabilities summing to 1 for softmax_cross_entropy"),
        (optax.softmax_cross_entropy, np.ones((7, 1)), "one column of y per class"),
        (optax.softmax_cross_entropy_with_integer_labels, np.ones((7, 1)), "one-hot targets"),
        (optax.sigmoid_binary_cross_entropy, SIGNS, "between 0 and 1 for sigmoid_binary_cross_entropy"),
        (optax.hinge_loss, LABELS, "-1 and 1 for hinge_loss"),
        (lambda f, y: jnp.sum(f - y, axis=0), Y, r"returns shape \(7,\), \(7, 2\) or a scalar"),
        (lambda f, y: jnp.log(f) + y, Y, "finite and differentiable"),
        (lambda f, y: jnp.sqrt(jnp.abs(f)) + y, Y, "finite and differentiable"),
    ],
)
def test_losses_that_do_not_fit_are_refused(loss, targets, message):
    with pytest.raises(ValueError, match=message):
        gradient_flow(NTK, X, targets, loss=loss)


def test_what_only_the_squared_loss_has_is_refused():
    with pytest.raises(ValueError, match="no prior for a loss other than the squared loss"):
        gradient_flow(NTK, X, Y, loss=optax.huber_loss, prior=NNGP(NTK.network))
    with pytest.raises(ValueError, match="tolerance between"):
        gradient_flow(NTK, X, Y, loss=optax.huber_loss, tolerance=0.0)
    with pytest.raises(ValueError, match='reduction="sum" for a loss that returns a single value'):
        gradient_flow(NTK, X, Y, loss=lambda f, y: jnp.sum((f - y) ** 2), reduction="mean")
    flow = gradient_flow(NTK, X, Y, loss=optax.huber_loss)
    with pytest.raises(ValueError, match="finite times"):
        flow.at(np.inf)
    with pytest.raises(ValueError, match="times of at least 0"):
        flow.at(-1.0)
    with pytest.raises(ValueError, match="2 outputs as in training"):
        flow.test_loss(1.0, TEST, TEST_Y[:, :1])
    with pytest.raises(ValueError, match="loss as a callable of outputs and targets, got 'mse'"):
        as_loss("A test", "mse", Y)


def test_losses_per_point_per_output_and_in_all_are_summed():
    per_output = loss_and_gradient(as_loss("A test", optax.l2_loss, Y), X[:, :2], Y)
    per_point = loss_and_gradient(lambda f, y: jnp.sum(optax.l2_loss(f, y), axis=1), X[:, :2], Y)
    in_all = loss_and_gradient(lambda f, y: jnp.sum(optax.l2_loss(f, y)), X[:, :2], Y)
    for value, gradient in (per_output, per_point, in_all):
        assert value == pytest.approx(0.5 * np.sum((X[:, :2] - Y) ** 2), rel=1e-14)
        np.testing.assert_allclose(gradient, X[:, :2] - Y, rtol=1e-14)
        assert gradient.dtype == np.float64


@pytest.mark.slow
def test_flows_with_many_unknowns_use_krylov_and_agree():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(120, 6)), rng.normal(size=(120, 3))
    closed, path = gradient_flow(NTK, x, y), gradient_flow(NTK, x, y, loss=optax.l2_loss)
    times = np.array([0.01, 1.0, 100.0])
    np.testing.assert_allclose(
        path.trajectory(times, x[:5] + 0.1).mean, closed.trajectory(times, x[:5] + 0.1).mean, atol=1e-7
    )
