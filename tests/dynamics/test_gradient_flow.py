"""Gradient flow in closed form against differential equations, matrix exponentials and sampled ensembles."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm
from tests.dynamics.problems import DEEP, KERNELS, TEST, TEST_Y, WEIGHTS, X, Y, start

from ntkit.dynamics import gradient_flow
from ntkit.errors import AccuracyWarning, NotPositiveDefiniteError
from ntkit.inference import blocks
from ntkit.kernels import NTK, RBF, Kernel

EPS = np.finfo(float).eps
TIMES = [1e-3, 0.1, 1.0, 20.0]

every_pair = pytest.mark.parametrize(("ntk", "prior"), KERNELS.values(), ids=KERNELS)
every_reduction = pytest.mark.parametrize("reduction", WEIGHTS)


class Given(Kernel):
    """A kernel between the points 0, 1, 2, ... with a given matrix."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, dtype=float)

    def __call__(self, x1, x2=None):
        x2 = x1 if x2 is None else x2
        return self.matrix[np.ix_(x1[:, 0].astype(int), x2[:, 0].astype(int))].astype(x1.dtype)

    def diag(self, x):
        return np.diag(self(x))


def indices(count):
    return np.arange(count, dtype=float)[:, None]


def learnt_operator(ntk, t):
    """`A = Θ(x, X) Θ^{-1} (I - exp(-Θ t))` by a matrix exponential, which the library never forms."""
    gram = ntk(X)
    return ntk(TEST, X) @ np.linalg.solve(gram, np.eye(len(X)) - expm(-gram * t))


@every_pair
@every_reduction
@pytest.mark.parametrize("given_network", [False, True], ids=["from zero", "from f0"])
def test_outputs_solve_the_differential_equation(ntk, prior, reduction, given_network):
    """`df/dt = -η c Θ(., X) (f(X) - Y)` on training and test points together."""
    rate = 0.5
    flow = gradient_flow(
        ntk, X, Y, f0=start if given_network else None, learning_rate=rate, reduction=reduction
    )
    points = np.concatenate([X, TEST])
    kernel = ntk(points)[:, :7]
    initial = start(points) if given_network else np.zeros((11, 2))

    def velocity(t, flat):
        outputs = flat.reshape(11, 2)
        return (-rate * WEIGHTS[reduction] * kernel @ (outputs[:7] - Y)).ravel()

    solution = solve_ivp(velocity, (0.0, TIMES[-1]), initial.ravel(), "DOP853", TIMES, rtol=1e-12, atol=1e-13)
    for t, flat in zip(TIMES, solution.y.T, strict=True):
        outputs = flat.reshape(11, 2)
        np.testing.assert_allclose(flow.at(t).mean(TEST), outputs[7:], rtol=0, atol=1e-8)
        np.testing.assert_allclose(flow.at(t).mean(X), outputs[:7], rtol=0, atol=1e-8)
        np.testing.assert_allclose(flow.training_outputs(t), outputs[:7], rtol=0, atol=1e-8)


@every_pair
@pytest.mark.parametrize("t", [0.1, 2.0, 30.0])
def test_the_covariance_is_that_of_the_trained_ensemble(ntk, prior, t):
    """`f_t(x) = f_0(x) - A f_0(X) + A Y` is linear in `f_0`, whose covariance is the prior's."""
    operator = learnt_operator(ntk, t)
    linear = np.concatenate([-operator, np.eye(4)], axis=1)
    expected = linear @ prior(np.concatenate([X, TEST])) @ linear.T
    trained = gradient_flow(ntk, X, Y, prior=prior).at(t)
    covariance = trained.covariance(TEST)
    # The reference solves with Θ, of condition number up to 200, twice.
    tolerance = 1e4 * EPS * np.abs(expected).max() * np.linalg.norm(operator, 2) ** 2
    np.testing.assert_allclose(trained.mean(TEST), operator @ Y, rtol=0, atol=1e-11)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(trained.variance(TEST), np.diag(expected), rtol=0, atol=tolerance)
    np.testing.assert_allclose(trained.std(TEST), np.sqrt(np.diag(expected)), rtol=1e-8)
    np.testing.assert_array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance)[0] >= -tolerance


def test_mean_and_covariance_are_those_of_trained_draws_of_the_prior():
    ntk, prior = KERNELS["relu"]
    count, t = 20_000, 0.7
    points = np.concatenate([X, TEST])
    root = np.linalg.cholesky(prior(points))
    initial = np.random.default_rng(6).normal(size=(count, 11)) @ root.T
    operator = learnt_operator(ntk, t)
    trained = initial[:, 7:] + (Y[None, :, 0] - initial[:, :7]) @ operator.T
    predictive = gradient_flow(ntk, X, Y, prior=prior).at(t)
    mean, covariance = predictive.mean(TEST)[:, 0], predictive.covariance(TEST)
    variances = np.diag(covariance)
    # Five standard errors on 4 means and 10 covariances: a false alarm once in 100,000 seeds.
    assert (np.abs(trained.mean(axis=0) - mean) <= 5 * np.sqrt(variances / count)).all()
    centred = trained - mean[None, :]
    error = np.sqrt((covariance**2 + np.outer(variances, variances)) / count)
    assert (np.abs(centred.T @ centred / count - covariance) <= 5 * error).all()


def test_samples_are_drawn_from_the_trained_ensemble():
    ntk, prior = KERNELS["relu"]
    predictive = gradient_flow(ntk, X, Y, prior=prior).at(0.7)
    count = 5_000
    draws = predictive.sample(jax.random.key(1), TEST, count)
    assert draws.shape == (count, 4, 2)
    variance = predictive.variance(TEST)
    assert (
        np.abs(draws.mean(axis=0) - predictive.mean(TEST)) <= 5 * np.sqrt(variance / count)[:, None]
    ).all()
    assert (np.abs(draws.var(axis=0) / variance[:, None] - 1) <= 5 * np.sqrt(2 / count)).all()


@every_pair
def test_it_starts_at_the_prior_exactly(ntk, prior):
    trained = gradient_flow(ntk, X, Y, prior=prior).at(0)
    np.testing.assert_array_equal(trained.mean(TEST), np.zeros((4, 2)))
    np.testing.assert_array_equal(trained.variance(TEST), prior.diag(TEST))
    np.testing.assert_array_equal(trained.covariance(TEST), prior(TEST))
    np.testing.assert_array_equal(gradient_flow(ntk, X, Y, f0=start).at(0.0).mean(TEST), start(TEST))


@every_pair
def test_it_ends_at_kernel_regression(ntk, prior):
    flow = gradient_flow(ntk, X, Y, prior=prior)
    end = flow.at(np.inf)
    tolerance = 1e3 * EPS * np.linalg.cond(ntk(X))
    np.testing.assert_allclose(
        end.mean(TEST), ntk(TEST, X) @ np.linalg.solve(ntk(X), Y), rtol=0, atol=tolerance
    )
    np.testing.assert_allclose(end.mean(X), Y, rtol=0, atol=tolerance)
    # Every member of the ensemble passes through the data.
    assert end.variance(X).max() <= tolerance * prior.diag(X).max()
    assert flow.loss(np.inf) == 0.0
    assert flow.loss_rate(np.inf) == 0.0
    late = flow.at(1e6)
    np.testing.assert_allclose(late.mean(TEST), end.mean(TEST), rtol=0, atol=tolerance)
    np.testing.assert_allclose(late.covariance(TEST), end.covariance(TEST), rtol=0, atol=100 * tolerance)


@every_pair
def test_the_first_instant_has_every_digit(ntk, prior):
    """`f_t = t Θ(x, X) Y + O(t²)`; the next term is smaller by `λ_max t < 1e-10`."""
    t = 1e-12
    trained = gradient_flow(ntk, X, Y).at(t)
    for points in (TEST, X):
        first = t * ntk(points, X) @ Y
        # Products of 7 terms, kernels evaluated on other blocks: relative to the size of the terms.
        scale = t * np.abs(ntk(points, X)) @ np.abs(Y)
        second = t**2 / 2 * ntk(points, X) @ ntk(X) @ Y
        assert (np.abs(trained.mean(points) - first + second) <= 1e-12 * scale).all()


def test_a_smooth_kernel_moves_test_points_at_once_even_along_null_directions():
    x = np.linspace(-1, 1, 30)[:, None]
    y = np.sign(x)
    far = np.array([[3.0], [-2.0]])
    flow = gradient_flow(RBF(2.0), x, y)
    assert flow.rank < 15
    t = 1e-9
    exact = t * RBF(2.0)(far, x) @ y
    # Next order: λ_max t / 2 = 1.5e-8.
    np.testing.assert_allclose(flow.at(t).mean(far), exact, rtol=2e-8)


@every_pair
@every_reduction
@pytest.mark.parametrize("of", ["mean", "ensemble", "f0"])
def test_the_training_loss_is_that_of_the_outputs(ntk, prior, reduction, of):
    settings = {"mean": {}, "ensemble": {"prior": prior}, "f0": {"f0": start}}[of]
    flow = gradient_flow(ntk, X, Y, learning_rate=0.8, reduction=reduction, **settings)
    for t in (0.0, 0.3, 5.0):
        remaining = expm(-0.8 * WEIGHTS[reduction] * ntk(X) * t)
        error = remaining @ ((start(X) if of == "f0" else 0.0) - Y)
        expected = 0.5 * WEIGHTS[reduction] * (error**2).sum()
        if of == "ensemble":  # two outputs, each with the covariance of the trained prior
            expected += WEIGHTS[reduction] * np.trace(remaining @ prior(X) @ remaining.T)
        assert flow.loss(t) == pytest.approx(expected, rel=1e-10)
        gradient = WEIGHTS[reduction] * error
        rate = -0.8 * np.trace(gradient.T @ ntk(X) @ gradient)
        if of == "ensemble":
            spread = remaining @ prior(X) @ remaining.T
            rate -= 0.8 * WEIGHTS[reduction] ** 2 * 2 * np.trace(ntk(X) @ spread)
        assert flow.loss_rate(t) == pytest.approx(rate, rel=1e-10)


@every_reduction
def test_the_loss_rate_integrates_to_the_loss(reduction):
    ntk, prior = KERNELS["erf"]
    flow = gradient_flow(ntk, X, Y, prior=prior, learning_rate=2.0, reduction=reduction)
    fallen, error = quad(flow.loss_rate, 0.2, 3.0, epsabs=1e-13, epsrel=1e-12)
    assert flow.loss(3.0) - flow.loss(0.2) == pytest.approx(fallen, abs=10 * error + 1e-12)


@every_pair
@every_reduction
def test_the_test_loss_is_that_of_the_predictions(ntk, prior, reduction):
    weight = {"sum": 1.0, "mean": 1 / 8, "mean_points": 1 / 4}[reduction]
    ensemble = gradient_flow(ntk, X, Y, prior=prior, reduction=reduction)
    alone = gradient_flow(ntk, X, Y, reduction=reduction)
    times = np.array([0.0, 0.5, np.inf])
    losses = ensemble.test_loss(times, TEST, TEST_Y)
    assert losses.shape == (3,)
    for t, loss in zip(times, losses, strict=True):
        trained = ensemble.at(t)
        bias = 0.5 * weight * ((trained.mean(TEST) - TEST_Y) ** 2).sum()
        assert loss == pytest.approx(bias + weight * trained.variance(TEST).sum(), rel=1e-12)
        assert alone.test_loss(t, TEST, TEST_Y) == pytest.approx(bias, rel=1e-12)
    # On the training points it is the training loss, except that rounding shows where that is zero.
    assert ensemble.test_loss(0.5, X, Y) == pytest.approx(ensemble.loss(0.5), rel=1e-9)


def test_a_trajectory_is_the_predictions_at_several_times(monkeypatch):
    ntk, prior = KERNELS["relu"]
    flow = gradient_flow(ntk, X, Y, prior=prior)
    times = np.array([0.0, 1e-3, 2.0, np.inf])
    monkeypatch.setattr(blocks, "LARGEST_BLOCK", 3 * len(X))  # in blocks of three points
    path = flow.trajectory(times, TEST)
    assert path.mean.shape == (4, 4, 2)
    assert path.variance.shape == (4, 4)
    for i, t in enumerate(times):
        np.testing.assert_allclose(path.mean[i], flow.at(t).mean(TEST), rtol=0, atol=1e-12)
        np.testing.assert_allclose(path.variance[i], flow.at(t).variance(TEST), rtol=0, atol=1e-12)
    assert gradient_flow(ntk, X, Y).trajectory(times, TEST).variance is None
    started = gradient_flow(ntk, X, Y, f0=start).trajectory(times, TEST).mean
    np.testing.assert_array_equal(started[0], start(TEST))


@every_reduction
def test_timescales_and_the_largest_learning_rate(reduction):
    ntk, _ = KERNELS["relu"]
    flow = gradient_flow(ntk, X, Y, learning_rate=0.3, reduction=reduction)
    eigenvalues = np.linalg.eigvalsh(ntk(X))[::-1]
    np.testing.assert_allclose(flow.eigenvalues, eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(flow.timescales, 1 / (0.3 * WEIGHTS[reduction] * eigenvalues), rtol=1e-12)
    assert flow.max_learning_rate == pytest.approx(2 / (WEIGHTS[reduction] * eigenvalues[0]), rel=1e-12)
    assert flow.rank == 7
    assert flow.null_directions.shape == (7, 0)


def test_a_zero_eigenvalue_gives_finite_predictions_at_every_time():
    """The defect of another library: duplicates make an eigenvalue exactly zero, and its test predictions NaN."""
    ntk, prior = KERNELS["relu"]
    x = np.concatenate([X, X[:1], np.zeros((2, 3))])
    y = np.concatenate([Y, Y[:1] + 2.0, np.array([[1.0, 0.0], [3.0, 0.0]])])
    flow = gradient_flow(ntk, x, y, prior=prior)
    assert flow.rank == 8
    assert np.isinf(flow.timescales[8:]).all()
    for t in (0.0, 1e-12, 1.0, 1e6, 1e15, 1e300, np.inf):
        trained = flow.at(t)
        assert np.isfinite(trained.mean(TEST)).all()
        assert np.isfinite(trained.variance(TEST)).all()
        assert np.isfinite(trained.covariance(TEST)).all()
        assert np.isfinite(flow.loss(t))
    # In the end conflicting targets are averaged, at any late time, and what cannot be learnt remains.
    for t in (1e6, 1e15, np.inf):
        outputs = flow.at(t).mean(x)
        for i, j in ((0, 7), (8, 9)):
            np.testing.assert_allclose(outputs[i], (y[i] + y[j]) / 2, rtol=0, atol=1e-6)
    conflict = 0.5 * (((y[0] - y[7]) ** 2).sum() + ((y[8] - y[9]) ** 2).sum()) / 2
    assert flow.loss(np.inf) == pytest.approx(conflict, rel=1e-10)
    null = flow.null_directions
    np.testing.assert_allclose(null.T @ ntk(x), 0.0, atol=100 * EPS * flow.eigenvalues[0])


@given(
    rows=st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=5, max_size=5),
    targets=st.lists(st.floats(-10, 10, width=16), min_size=5, max_size=5),
)
def test_any_points_are_trained_downhill_and_finitely(rows, targets):
    x, y = np.array(rows, dtype=float), np.array(targets)[:, None]
    flow = gradient_flow(RBF(1.0), x, y, prior=RBF(2.0))
    assert flow.rank == len(np.unique(x, axis=0))
    times = np.array([0.0, 1e-6, 1e-2, 1.0, 1e2, 1e8, np.inf])
    losses = flow.loss(times)
    assert (np.diff(losses) <= 1e-12 * losses[0]).all()
    assert (flow.loss_rate(times) <= 0).all()
    path = flow.trajectory(times, np.concatenate([x, [[0.5, 3.0]]]))
    assert np.isfinite(path.mean).all()
    assert (path.variance >= 0).all()
    # In the end every point has the average of its duplicates' targets.
    for i in range(5):
        average = y[(x == x[i]).all(axis=1)].mean()
        # Condition number on distinct grid points at most 100; fading null directions leave 1e-8.
        assert path.mean[-1, i, 0] == pytest.approx(average, abs=1e-10)
        assert path.mean[-2, i, 0] == pytest.approx(average, abs=1e-6)


def test_a_kernel_with_a_negative_eigenvalue_is_refused():
    with pytest.raises(
        NotPositiveDefiniteError, match=r"gradient_flow needs .* eigenvalue of -1 beside a largest of 3"
    ):
        gradient_flow(Given([[1.0, 2.0], [2.0, 1.0]]), indices(2), np.ones((2, 1)))


def test_a_slightly_negative_eigenvalue_is_frozen_and_reported():
    kernel = Given([[1.0, 1.0 + 1e-9], [1.0 + 1e-9, 1.0]])
    with pytest.warns(AccuracyWarning, match="gradient_flow: .* eigenvalue of -1e-09"):
        flow = gradient_flow(kernel, indices(2), np.array([[0.0], [2.0]]))
    assert flow.rank == 1
    assert flow.eigenvalues[1] == 0.0
    np.testing.assert_allclose(flow.at(np.inf).mean(indices(2)), 1.0, rtol=1e-8)
    assert np.abs(np.sum(flow.null_directions)) < 1e-12  # (1, -1) / sqrt(2)


def test_a_kernel_that_is_zero_learns_nothing():
    flow = gradient_flow(Given(np.zeros((2, 2))), indices(2), np.ones((2, 1)))
    assert flow.rank == 0
    assert flow.max_learning_rate == np.inf
    assert flow.loss(np.inf) == flow.loss(0.0) == 1.0
    np.testing.assert_array_equal(flow.at(np.inf).mean(indices(2)), np.zeros((2, 1)))


def test_the_answer_follows_the_points_library_and_dtype():
    ntk, prior = KERNELS["relu"]
    double = gradient_flow(ntk, X, Y, prior=prior).at(3.0)
    single = gradient_flow(ntk, X.astype(np.float32), Y.astype(np.float32), prior=prior)
    device = gradient_flow(ntk, jnp.asarray(X), jnp.asarray(Y), prior=prior)
    test = TEST.astype(np.float32)
    condition = np.linalg.cond(ntk(X))
    for name in ("mean", "variance", "std", "covariance"):
        exact = getattr(double, name)(TEST)
        assert type(exact) is np.ndarray
        assert exact.dtype == np.float64
        answer = getattr(single.at(3.0), name)(test)
        assert type(answer) is np.ndarray
        assert answer.dtype == np.float32
        # Float32 kernels, magnified by at most the condition number.
        np.testing.assert_allclose(answer, exact, rtol=0, atol=condition * np.finfo(np.float32).eps * 10)
        concrete = getattr(device.at(3.0), name)(jnp.asarray(test))
        assert isinstance(concrete, jax.Array)
        np.testing.assert_allclose(concrete, answer, rtol=1e-5, atol=1e-5)
    assert isinstance(device.training_outputs(1.0), jax.Array)
    assert isinstance(device.trajectory([0.0, 1.0], jnp.asarray(test)).mean, jax.Array)


def test_predictions_are_differentiable_in_the_inputs():
    ntk, prior = KERNELS["erf"]
    trained = gradient_flow(ntk, X, Y, prior=prior).at(2.0)
    with jax.enable_x64(True):
        slopes = jax.jit(
            lambda x: (
                jax.grad(lambda x: trained.mean(x)[0, 0])(x),
                jax.grad(lambda x: trained.variance(x)[0])(x),
            )
        )(jnp.asarray(TEST))
        slopes = [float(slope[0, 1]) for slope in slopes]
    h = 1e-5
    up, down = TEST.copy(), TEST.copy()
    up[0, 1] += h
    down[0, 1] -= h
    # Central differences: h^2 times third derivatives of order 1 to 10, rounding eps 1e3 / h.
    assert slopes[0] == pytest.approx((trained.mean(up) - trained.mean(down))[0, 0] / (2 * h), abs=1e-7)
    assert slopes[1] == pytest.approx((trained.variance(up) - trained.variance(down))[0] / (2 * h), abs=1e-7)


def test_wrong_arguments_are_refused():
    ntk, prior = KERNELS["relu"]
    flow = gradient_flow(ntk, X, Y)
    for t in (-1.0, np.nan, np.array([1.0, -2.0])):
        with pytest.raises(ValueError, match="times of at least 0, got"):
            flow.loss(t)
    with pytest.raises(ValueError, match=r"GradientFlow.at needs times of at least 0, got -1"):
        flow.at(-1.0)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"Use .trajectory|parameter 't'"):
        flow.at(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="vector of times, got shape"):
        flow.loss(np.ones((2, 2)))
    with pytest.raises(ValueError, match="an ensemble of initialisations, got a mean without"):
        flow.at(1.0).covariance(TEST)
    with pytest.raises(ValueError, match="got one given network f0"):
        gradient_flow(ntk, X, Y, f0=start).at(1.0).variance(TEST)
    with pytest.raises(ValueError, match="got both"):
        gradient_flow(ntk, X, Y, f0=start, prior=prior)
    with pytest.raises(ValueError, match=r"f0\(x\) of shape \(7, 2\), got \(7, 1\)"):
        gradient_flow(ntk, X, Y, f0=lambda x: start(x)[:, :1])
    with pytest.raises(ValueError, match="positive, finite learning_rate, got 0"):
        gradient_flow(ntk, X, Y, learning_rate=0.0)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r'"sum", "mean" or|reduction'):
        gradient_flow(ntk, X, Y, reduction="max")
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="needs 2 outputs"):
        flow.test_loss(1.0, TEST, TEST_Y[:, :1])
    with pytest.raises(ValueError, match="traced by JAX"):
        jax.jit(lambda x: gradient_flow(NTK(DEEP), x, jnp.ones((7, 1))).loss(1.0))(jnp.asarray(X))
