"""Gaussian processes against scikit-learn, SciPy's normal density, 50-digit arithmetic and plain linear algebra."""

import jax
import jax.numpy as jnp
import jaxtyping
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF as SklearnRBF
from sklearn.gaussian_process.kernels import ConstantKernel

from ntkit.dynamics import gradient_flow
from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference import GaussianProcess, blocks
from ntkit.kernels import NNGP, NTK, RBF, Kernel
from ntkit.nn import Conv, Dense, Erf, Flatten, Relu, Serial
from ntkit.solvers import Cholesky, Eigh

EPS = np.finfo(float).eps
random = np.random.default_rng(3)
X, Y, TEST = random.normal(size=(10, 3)), random.normal(size=(10, 2)), random.normal(size=(5, 3))
NOISE = 0.05
NETWORK = Serial(Dense(1, w_std=1.4, b_std=0.2), Relu(), Dense(1, w_std=1.1, b_std=0.1))
KERNELS = {
    "rbf": RBF(0.8, 1.5),
    "nngp-relu": NNGP(NETWORK),
    "ntk-relu": NTK(NETWORK),
    "nngp-erf": NNGP(Serial(Dense(1, w_std=1.4, b_std=0.2), Erf(), Dense(1))),
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
every_solver = pytest.mark.parametrize("solver", [Cholesky(), Eigh()], ids=["cholesky", "eigh"])


class PlainRbf(Kernel):
    """A kernel in plain NumPy that remembers which blocks it was asked for."""

    def __init__(self):
        self.shapes = []

    def __call__(self, x1, x2=None):
        x2 = x1 if x2 is None else x2
        self.shapes.append((len(x1), len(x2)))
        return np.exp(-0.5 * ((x1[:, None, :] - x2[None, :, :]) ** 2).sum(axis=2))

    def diag(self, x):
        return np.ones(len(x))


def test_it_agrees_with_scikit_learn():
    process = GaussianProcess(RBF(0.8, 1.5), NOISE)
    posterior = process.condition(X, Y)
    theirs = GaussianProcessRegressor(
        ConstantKernel(1.5, "fixed") * SklearnRBF(0.8, "fixed"), alpha=NOISE, optimizer=None
    ).fit(X, Y)
    mean, std = theirs.predict(TEST, return_std=True)
    covariance = theirs.predict(TEST, return_cov=True)[1]
    # Condition number 40 times 10 n eps is 1e-12; 1e-10 leaves room for the kernels' own rounding.
    np.testing.assert_allclose(posterior.mean(TEST), mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(posterior.std(TEST), std[:, 0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(posterior.covariance(TEST), covariance[:, :, 0], rtol=0, atol=1e-10)
    assert posterior.log_marginal_likelihood() == pytest.approx(
        theirs.log_marginal_likelihood_value_, abs=1e-9
    )


@every_kernel
@every_solver
def test_the_posterior_is_the_conditional_distribution(kernel, solver):
    posterior = GaussianProcess(kernel, NOISE).condition(X, Y, solver)
    matrix, cross, prior = kernel(X) + NOISE * np.eye(10), kernel(X, TEST), kernel(TEST)
    tolerance = 100 * EPS * np.linalg.cond(matrix) * prior.max()
    np.testing.assert_allclose(
        posterior.mean(TEST), cross.T @ np.linalg.solve(matrix, Y), rtol=0, atol=10 * tolerance
    )
    covariance = prior - cross.T @ np.linalg.solve(matrix, cross)
    np.testing.assert_allclose(posterior.covariance(TEST), covariance, rtol=0, atol=tolerance)
    np.testing.assert_allclose(posterior.variance(TEST), np.diag(covariance), rtol=0, atol=tolerance)
    np.testing.assert_allclose(posterior.std(TEST), np.sqrt(np.diag(covariance)), rtol=1e-9)
    np.testing.assert_array_equal(posterior.covariance(TEST), posterior.covariance(TEST).T)
    assert np.linalg.eigvalsh(posterior.covariance(TEST))[0] >= -tolerance


@every_kernel
@every_solver
def test_the_evidence_is_the_normal_density_of_every_output(kernel, solver):
    density = multivariate_normal(np.zeros(10), kernel(X) + NOISE * np.eye(10))
    expected = density.logpdf(Y[:, 0]) + density.logpdf(Y[:, 1])
    value = GaussianProcess(kernel, NOISE).log_marginal_likelihood(X, Y, solver)
    assert type(value) is float
    assert value == pytest.approx(expected, rel=1e-11)  # n eps times a condition number of up to 500


def test_the_evidence_and_its_gradient_are_right_to_twelve_digits():
    """Against 50-digit arithmetic: value, and derivatives in noise, variance and length scale."""

    def exact(length_scale, variance, noise):
        points, targets = mpmath.matrix(X.tolist()), mpmath.matrix(Y.tolist())
        size = len(X)
        matrix = mpmath.matrix(size)
        for i in range(size):
            for j in range(size):
                square = sum((points[i, f] - points[j, f]) ** 2 for f in range(3))
                matrix[i, j] = variance * mpmath.exp(-square / (2 * length_scale**2)) + (
                    noise if i == j else 0
                )
        lower = mpmath.cholesky(matrix)
        quadratic = sum(
            (targets[:, k].T * mpmath.cholesky_solve(matrix, targets[:, k]))[0] for k in range(Y.shape[1])
        )
        log_det = 2 * sum(mpmath.log(lower[i, i]) for i in range(size))
        return -(quadratic + Y.shape[1] * (log_det + size * mpmath.log(2 * mpmath.pi))) / 2

    with mpmath.workdps(50):
        arguments = [mpmath.mpf(0.8), mpmath.mpf(1.5), mpmath.mpf(NOISE)]
        reference = exact(*arguments)
        step = mpmath.mpf(10) ** -15
        slopes = []
        for i in range(3):
            up, down = list(arguments), list(arguments)
            up[i] += step
            down[i] -= step
            slopes.append(float((exact(*up) - exact(*down)) / (2 * step)))
    process = GaussianProcess(RBF(0.8, 1.5), NOISE)
    assert process.log_marginal_likelihood(X, Y) == pytest.approx(float(reference), rel=1e-12)
    with jax.enable_x64(True):
        value, slope = jax.jit(
            jax.value_and_grad(lambda p: p.log_marginal_likelihood(jnp.asarray(X), jnp.asarray(Y)))
        )(process)
    assert float(value) == pytest.approx(float(reference), rel=1e-12)
    # One factor of the condition number (40) more than the value.
    ours = [float(slope.kernel.length_scale), float(slope.kernel.variance), float(slope.noise)]
    assert ours == pytest.approx(slopes, rel=1e-11)


# What it is of an objective of selection is seen by every run, in test_search.py.
@pytest.mark.slow
@pytest.mark.parametrize("make", [NNGP, NTK])
def test_the_evidence_is_differentiable_in_the_network(make):
    def process(first, bias, last, noise):
        return GaussianProcess(
            make(Serial(Dense(1, w_std=first, b_std=bias), Relu(), Dense(1, w_std=last))), noise
        )

    at = np.array([1.4, 0.3, 1.1, 0.1])
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(lambda p: p.log_marginal_likelihood(jnp.asarray(X), jnp.asarray(Y))))(
            process(*at)
        )
    layers = slope.kernel.network.layers
    ours = [float(value) for value in (layers[0].w_std, layers[0].b_std, layers[2].w_std, slope.noise)]
    h = 1e-4
    for i, derivative in enumerate(ours):
        values = []
        for shift in (-2, -1, 1, 2):
            moved = at.copy()
            moved[i] += shift * h
            values.append(process(*moved).log_marginal_likelihood(X, Y))
        # Five points: h^4 f'''''/30 ~ 1e-16 * (1/0.1)^5 relative to f' plus rounding eps |f| 40 / h ~ 1e-10.
        difference = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        assert derivative == pytest.approx(difference, rel=1e-7, abs=1e-7)


def test_predictions_are_differentiable_in_the_inputs():
    posterior = GaussianProcess(KERNELS["ntk-relu"], NOISE).condition(X, Y)
    with jax.enable_x64(True):
        slopes = jax.jit(
            lambda x: (
                jax.grad(lambda x: posterior.mean(x)[0, 0])(x),
                jax.grad(lambda x: posterior.variance(x)[0])(x),
            )
        )(jnp.asarray(TEST))
        slopes = [float(slope[0, 1]) for slope in slopes]
    h = 1e-5
    up, down = TEST.copy(), TEST.copy()
    up[0, 1] += h
    down[0, 1] -= h
    # Central differences: h^2 times third derivatives of order 1 to 10, rounding eps 1e3 / h.
    assert slopes[0] == pytest.approx((posterior.mean(up) - posterior.mean(down))[0, 0] / (2 * h), abs=1e-7)
    assert slopes[1] == pytest.approx(
        (posterior.variance(up) - posterior.variance(down))[0] / (2 * h), abs=1e-7
    )


@pytest.mark.parametrize("kernel", [KERNELS["rbf"], KERNELS["ntk-relu"]], ids=["rbf", "ntk-relu"])
def test_traced_and_concrete_predictions_agree(kernel):
    def everything(process, x, y, test):
        posterior = process.condition(x, y)
        left_out = posterior.leave_one_out()
        return (
            posterior.mean(test), posterior.variance(test), posterior.covariance(test),
            posterior.log_marginal_likelihood(), left_out.mean, left_out.variance, left_out.log_density,
        )  # fmt: skip

    process = GaussianProcess(kernel, NOISE)
    concrete = everything(process, X, Y, TEST)
    with jax.enable_x64(True):
        traced = jax.jit(everything)(process, jnp.asarray(X), jnp.asarray(Y), jnp.asarray(TEST))
        traced = [np.asarray(value) for value in traced]
    for ours, theirs in zip(concrete, traced, strict=True):
        np.testing.assert_allclose(
            theirs, ours, rtol=1e-9, atol=1e-10
        )  # condition number 500, n eps, kernels 1e-12


def test_the_answer_follows_the_points_library_and_dtype():
    process = GaussianProcess(KERNELS["ntk-relu"], NOISE)
    double = process.condition(X, Y)
    single = process.condition(X.astype(np.float32), Y.astype(np.float32))
    device = process.condition(jnp.asarray(X), jnp.asarray(Y))
    test = TEST.astype(np.float32)
    condition = np.linalg.cond(process.kernel(X) + NOISE * np.eye(10))
    for name in ("mean", "variance", "std", "covariance"):
        exact = getattr(double, name)(TEST)
        assert type(exact) is np.ndarray
        assert exact.dtype == np.float64
        answer = getattr(single, name)(test)
        assert type(answer) is np.ndarray
        assert answer.dtype == np.float32
        # The kernel's float32 rounding, magnified by the condition number: that the solver is float64 shows in that
        # no factor n stands beside it.
        np.testing.assert_allclose(
            answer, exact, atol=condition * np.finfo(np.float32).eps * np.abs(exact).max()
        )
        traced = getattr(device, name)(jnp.asarray(test))
        assert isinstance(traced, jax.Array)
        assert traced.dtype == np.float32
        np.testing.assert_allclose(traced, answer, rtol=1e-6, atol=1e-6)
    assert isinstance(device.log_marginal_likelihood(), jax.Array)
    left_out = single.leave_one_out()
    assert left_out.mean.dtype == left_out.variance.dtype == np.float32
    assert process.mean(test).dtype == np.float32
    assert process.mean(test).shape == (5, 1)


def test_without_noise_the_posterior_passes_through_the_data():
    posterior = GaussianProcess(KERNELS["nngp-relu"], 0.0).condition(X, Y)
    condition = np.linalg.cond(posterior.prior.kernel(X))
    np.testing.assert_allclose(posterior.mean(X), Y, rtol=0, atol=100 * EPS * condition)
    assert (posterior.variance(X) >= 0).all()
    assert posterior.variance(X).max() <= 100 * EPS * condition


def test_the_prior_is_a_predictive_distribution():
    kernel = KERNELS["rbf"]
    process = GaussianProcess(kernel, NOISE)
    np.testing.assert_array_equal(process.covariance(TEST), kernel(TEST))
    np.testing.assert_array_equal(process.variance(TEST), kernel.diag(TEST))
    np.testing.assert_array_equal(process.mean(TEST), np.zeros((5, 1)))
    np.testing.assert_allclose(process.with_noise().variance(TEST), kernel.diag(TEST) + NOISE, rtol=EPS)


@every_solver
def test_the_distribution_of_observations_adds_the_noise(solver):
    posterior = GaussianProcess(KERNELS["rbf"], NOISE).condition(X, Y, solver)
    observed = posterior.with_noise()
    np.testing.assert_array_equal(observed.mean(TEST), posterior.mean(TEST))
    np.testing.assert_allclose(observed.variance(TEST), posterior.variance(TEST) + NOISE, rtol=2 * EPS)
    np.testing.assert_allclose(
        observed.covariance(TEST), posterior.covariance(TEST) + NOISE * np.eye(5), rtol=2 * EPS
    )
    with jax.enable_x64(True):
        device = observed.covariance(jnp.asarray(TEST))
        assert isinstance(device, jax.Array)


@pytest.mark.parametrize("of", ["prior", "posterior"])
def test_samples_have_the_moments_of_the_distribution(of):
    process = GaussianProcess(KERNELS["nngp-relu"], NOISE)
    predictive = process if of == "prior" else process.condition(X, Y)
    count = 20_000
    draws = predictive.sample(jax.random.key(0), TEST, count)
    mean, covariance = predictive.mean(TEST), predictive.covariance(TEST)
    assert draws.shape == (count, *mean.shape)
    # Five standard errors, over fewer than a hundred numbers: a false alarm once in 20,000 seeds.
    error = np.sqrt(np.diag(covariance) / count)
    assert (np.abs(draws.mean(axis=0) - mean) <= 5 * error[:, None]).all()
    variances = np.diag(covariance)
    error = np.sqrt((covariance**2 + np.outer(variances, variances)) / count)
    for output in range(mean.shape[1]):
        centred = draws[:, :, output] - mean[None, :, output]
        assert (np.abs(centred.T @ centred / count - covariance) <= 5 * error).all()
    if of == "posterior":
        across = (draws[:, :, 0] - mean[None, :, 0]).T @ (draws[:, :, 1] - mean[None, :, 1]) / count
        assert (np.abs(across) <= 5 * np.sqrt(np.outer(variances, variances) / count)).all()


def test_mean_and_variance_never_build_a_test_by_test_matrix(monkeypatch):
    kernel = PlainRbf()
    posterior = GaussianProcess(kernel, NOISE).condition(X, Y)
    many = random.normal(size=(203, 3))
    whole = posterior.mean(many), posterior.variance(many)
    assert (203, 203) not in kernel.shapes
    monkeypatch.setattr(blocks, "LARGEST_BLOCK", 40 * len(X))
    kernel.shapes.clear()
    np.testing.assert_allclose(posterior.mean(many), whole[0], rtol=0, atol=100 * EPS)
    np.testing.assert_allclose(posterior.variance(many), whole[1], rtol=0, atol=100 * EPS)
    assert max(first * second for first, second in kernel.shapes) == 40 * len(X)


@given(
    rows=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=6, max_size=6),
    noise=st.sampled_from([1e-6, 1e-2, 1.0]),
)
def test_any_points_have_a_posterior_between_prior_and_certainty(rows, noise):
    check_the_posterior_is_between_prior_and_certainty(PlainRbf(), np.array(rows, dtype=float), noise)


@pytest.mark.parametrize("noise", [1e-6, 1.0])
def test_zero_repeated_and_opposite_points_have_a_network_posterior(noise):
    points = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [2.0, 4.0]])
    check_the_posterior_is_between_prior_and_certainty(NTK(NETWORK), points, noise)


def check_the_posterior_is_between_prior_and_certainty(kernel, points, noise):
    posterior = GaussianProcess(kernel, noise).condition(points, np.sin(points[:, :1]))
    test = np.concatenate([points, [[0.0, 0.0], [5.0, -7.0]]])
    mean, variance, prior = posterior.mean(test), posterior.variance(test), kernel.diag(test)
    assert np.isfinite(mean).all()
    assert (variance >= 0).all()
    assert (variance <= prior * (1 + 10 * EPS)).all()
    # Observing a point with this noise leaves at most that much uncertainty there, to rounding over noise.
    assert (variance[:6] <= noise + 100 * EPS * prior[:6].max() ** 2 / noise).all()


def test_duplicates_average_their_targets():
    points = np.array([[1.0, 0.0], [1.0, 0.0]])
    posterior = GaussianProcess(NTK(NETWORK), 1e-3).condition(points, np.array([[0.0], [2.0]]))
    value = float(NTK(NETWORK).diag(points)[0])
    assert posterior.mean(points)[0, 0] == pytest.approx(2 * value / (2 * value + 1e-3), rel=1e-10)


def test_a_singular_matrix_without_noise_has_predictions_but_no_density():
    points = np.concatenate([X, X[:1]])
    targets = np.concatenate([Y, Y[:1]])
    process = GaussianProcess(KERNELS["rbf"], 0.0)
    with pytest.raises(NotPositiveDefiniteError, match="Points 0 and 10 coincide"):
        process.condition(points, targets)
    posterior = process.condition(points, targets, Eigh())
    reference = process.condition(X, Y).mean(TEST)
    np.testing.assert_allclose(posterior.mean(TEST), reference, rtol=0, atol=1e-10)
    for question in (posterior.log_marginal_likelihood, posterior.leave_one_out):
        with pytest.raises(NotPositiveDefiniteError, match="rank 10 on 11 points"):
            question()


@pytest.mark.parametrize("noise", [-1e-9, np.nan, np.inf, np.array(-1.0)])
def test_noise_must_be_a_variance(noise):
    with pytest.raises(ValueError, match="noise as a finite number of at least 0"):
        GaussianProcess(RBF(), noise)


def test_arguments_are_checked():
    process = GaussianProcess(RBF(), 0.1)
    # Under the tests' shape checks the annotation speaks before the library's own text does.
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"one row of y per point|parameter 'y'"):
        process.condition(X, Y[:3])
    with pytest.raises(ValueError, match="finite values"):
        process.condition(X, np.full((10, 1), np.nan))
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"equally many features|parameter 'x2'"):
        process.condition(X, Y).mean(TEST[:, :2])
    with pytest.raises(ValueError, match="needs JAX arrays under jit"):
        jax.grad(lambda p: p.log_marginal_likelihood(X, Y))(process)


def test_a_gaussian_process_is_a_pytree_of_its_hyper_parameters():
    process = GaussianProcess(RBF(0.5, 2.0), 0.1)
    leaves, structure = jax.tree_util.tree_flatten(process)
    assert leaves == [0.5, 2.0, 0.1]
    rebuilt = jax.tree_util.tree_unflatten(structure, [1.0, 3.0, -0.2])
    assert (rebuilt.kernel.length_scale, rebuilt.noise) == (1.0, -0.2)  # no check: a gradient may be negative


def test_images_go_through_inference_as_vectors_do():
    images = np.random.default_rng(0).standard_normal((7, 3, 3, 2))
    y = np.random.default_rng(1).standard_normal((5, 2))
    network = Serial(Conv(4, (2, 2), b_std=0.1), Relu(), Flatten(), Dense(1))
    posterior = GaussianProcess(NNGP(network), 0.1).condition(images[:5], y)
    gram = NNGP(network)(images)
    expected = gram[5:, :5] @ np.linalg.solve(gram[:5, :5] + 0.1 * np.eye(5), y)
    np.testing.assert_allclose(posterior.mean(images[5:]), expected, rtol=1e-10)
    assert posterior.covariance(images[5:]).shape == (2, 2)
    flow = gradient_flow(NTK(network), images[:5], y).at(np.inf)
    np.testing.assert_allclose(flow.mean(images[:5]), y, atol=1e-8)
