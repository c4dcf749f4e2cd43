"""The linearised-Laplace posterior of a regression against Bayesian linear regression in weight space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.inference.laplace.problems import (
    OUTPUTS,
    POINTS,
    WEIGHTS,
    X_TEST,
    Linear,
    X,
    Y,
    blocks,
    features_of,
    linear_model,
    ridge_weights,
)

from ntkit.dynamics import LinearizedModel
from ntkit.empirical import EmpiricalNTK
from ntkit.inference import GaussianProcess, LinearizedLaplace, linearized_laplace

NOISE, PRECISION = 0.3, 0.7


def posterior_of(noise=NOISE, precision=PRECISION, outputs="coupled", points=POINTS):
    laplace = linearized_laplace(linear_model, ridge_weights(NOISE, PRECISION), outputs=outputs)
    return laplace.regression(X[:points], Y[:points], noise=noise, prior_precision=precision)


def exact_covariance(points=POINTS, at=X_TEST):
    """`Φ (Φ_Xᵀ Φ_X / σ² + δ)^{-1} Φᵀ`, by an inverse in weight space."""
    features, others = features_of(X[:points]), features_of(at)
    hessian = features.T @ features / NOISE + PRECISION * np.eye(WEIGHTS)
    return blocks(others @ np.linalg.inv(hessian) @ others.T, len(at))


def test_it_is_bayesian_linear_regression_for_a_model_linear_in_its_weights():
    posterior, exact = posterior_of(), exact_covariance()
    np.testing.assert_allclose(
        posterior.mean(X_TEST).reshape(-1), features_of(X_TEST) @ ridge_weights(NOISE, PRECISION), rtol=1e-12
    )
    # Subtraction from a prior of up to 5 / δ = 7, conditioning λ_max / τ of about 100.
    np.testing.assert_allclose(posterior.full_covariance(X_TEST), exact, atol=1e-12)
    own = np.einsum("iiab->iab", exact)
    np.testing.assert_allclose(posterior.output_covariance(X_TEST), own, atol=1e-12)
    np.testing.assert_allclose(posterior.variance(X_TEST), np.einsum("iaa->i", own) / OUTPUTS, atol=1e-12)
    np.testing.assert_allclose(
        posterior.covariance(X_TEST), np.einsum("ijaa->ij", exact) / OUTPUTS, atol=1e-12
    )


def test_a_network_with_a_tree_of_weights_gives_the_weight_space_answer_of_its_jacobian():
    generator = np.random.default_rng(5)
    params = {"w": generator.normal(size=(2, 4)), "v": generator.normal(size=(4, 2))}
    start = {"w": generator.normal(size=(2, 4)), "v": generator.normal(size=(4, 2))}

    def network(params, x):
        return (2 + x) * jnp.matmul(jnp.tanh(jnp.matmul(x, params["w"])), params["v"])

    def jacobian(x):
        with jax.enable_x64(True):
            tree = jax.jit(jax.jacfwd(network))(jax.tree_util.tree_map(jnp.asarray, params), jnp.asarray(x))
            return np.concatenate([np.array(leaf).reshape(2 * len(x), -1) for leaf in tree.values()], axis=1)

    posterior = linearized_laplace(network, params, prior_mean=start).regression(
        X, Y[:, :2], noise=NOISE, prior_precision=PRECISION
    )
    rows, others = jacobian(X), jacobian(X_TEST)
    hessian = rows.T @ rows / NOISE + PRECISION * np.eye(rows.shape[1])
    expected = blocks(others @ np.linalg.inv(hessian) @ others.T, len(X_TEST), 2)
    scale = np.abs(others @ others.T).max() / PRECISION
    np.testing.assert_allclose(posterior.full_covariance(X_TEST), expected, atol=1e-12 * scale)
    distance = sum(np.sum((params[name] - start[name]) ** 2) for name in params)
    residual = Y[:, :2] - posterior.mean(X)
    evidence = (
        -0.5 * np.sum(residual**2) / NOISE
        - len(X) * np.log(2 * np.pi * NOISE)
        - 0.5 * PRECISION * distance
        + 0.5 * rows.shape[1] * np.log(PRECISION)
        - 0.5 * np.linalg.slogdet(hessian)[1]
    )
    assert posterior.log_marginal_likelihood() == pytest.approx(evidence, rel=1e-11)


def test_independent_outputs_are_a_gaussian_process_with_the_averaged_kernel():
    laplace = linearized_laplace(linear_model, ridge_weights(NOISE, PRECISION), outputs="independent")
    posterior = laplace.regression(X, Y, noise=NOISE, prior_precision=PRECISION)
    kernel = EmpiricalNTK(linear_model, ridge_weights(NOISE, PRECISION))
    process = GaussianProcess(1.0 / PRECISION * kernel, NOISE).condition(X, Y)
    np.testing.assert_allclose(posterior.covariance(X_TEST), process.covariance(X_TEST), atol=1e-12)
    np.testing.assert_allclose(posterior.variance(X_TEST), process.variance(X_TEST), atol=1e-12)
    full = posterior.full_covariance(X_TEST)
    np.testing.assert_allclose(full[:, :, 1, 1], process.covariance(X_TEST), atol=1e-12)
    assert not full[:, :, 0, 1].any()
    np.testing.assert_array_equal(posterior.output_covariance(X_TEST)[:, 2, 2], posterior.variance(X_TEST))
    gram = np.kron(kernel(X), np.eye(OUTPUTS)) / PRECISION
    norm = np.sum(ridge_weights(NOISE, PRECISION) ** 2)
    residual = np.sum((Y - posterior.mean(X)) ** 2)
    expected = -0.5 * (
        residual / NOISE
        + PRECISION * norm
        + np.linalg.slogdet(gram + NOISE * np.eye(len(gram)))[1]
        + len(gram) * np.log(2 * np.pi)
    )
    assert posterior.log_marginal_likelihood() == pytest.approx(expected, rel=1e-12)


def test_the_variance_grows_away_from_the_data():
    """Data in pairs x and -x and features 1, x_1, x_2: along every ray a quadratic in the distance."""

    def features(w, x):
        return jnp.matmul(jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1), w)

    x = np.concatenate([X, -X])
    posterior = linearized_laplace(features, np.ones((3, 1))).regression(
        x, np.ones((len(x), 1)), noise=0.1, prior_precision=1.0
    )
    for angle in np.linspace(0.0, 6.0, 13):
        ray = np.linspace(0.0, 5.0, 6)[:, None] * np.array([[np.cos(angle), np.sin(angle)]])
        assert (np.diff(posterior.variance(ray)) > 0).all()


@pytest.mark.parametrize("outputs", ["coupled", "independent"])
def test_more_data_never_increase_the_variance(outputs):
    few, many = (posterior_of(outputs=outputs, points=points).full_covariance(X_TEST) for points in (5, 7))
    size = len(X_TEST) * OUTPUTS
    difference = (few - many).transpose(0, 2, 1, 3).reshape(size, size)
    assert np.linalg.eigvalsh(difference).min() > -1e-11
    assert np.linalg.eigvalsh(difference).max() > 1e-3


def test_samples_have_the_mean_and_the_covariance_between_outputs():
    posterior, count = posterior_of(), 20_000
    draws = posterior.sample(jax.random.key(0), X_TEST, count).reshape(count, -1)
    exact = exact_covariance().transpose(0, 2, 1, 3).reshape(12, 12)
    centred = draws - posterior.mean(X_TEST).reshape(1, -1)
    # Five standard errors of about 200 numbers: a false alarm once in 10,000 seeds.
    variances = np.diag(exact)
    assert (np.abs(centred.mean(axis=0)) <= 5 * np.sqrt(variances / count)).all()
    error = np.sqrt((exact**2 + np.outer(variances, variances)) / count)
    assert (np.abs(centred.T @ centred / count - exact) <= 5 * error).all()
    noisy = posterior.with_noise().sample(jax.random.key(1), X_TEST, count).reshape(count, -1)
    centred = noisy - posterior.mean(X_TEST).reshape(1, -1)
    exact, variances = exact + NOISE * np.eye(12), variances + NOISE
    error = np.sqrt((exact**2 + np.outer(variances, variances)) / count)
    assert (np.abs(centred.T @ centred / count - exact) <= 5 * error).all()


def test_the_linearised_model_trained_to_the_mode_can_be_its_model():
    """Gradient flow without weight decay ends at least squares, the mode as δ -> 0."""
    kernel = EmpiricalNTK(linear_model, np.zeros(WEIGHTS))
    trained = LinearizedModel(linear_model, np.zeros(WEIGHTS), X, Y).at(np.inf)
    posterior = LinearizedLaplace(kernel, trained.mean).regression(X, Y, noise=NOISE, prior_precision=1e-9)
    least = np.linalg.lstsq(features_of(X), Y.reshape(-1), rcond=None)[0]
    np.testing.assert_allclose(posterior.mean(X_TEST).reshape(-1), features_of(X_TEST) @ least, atol=1e-10)
    features, others = features_of(X), features_of(X_TEST)
    expected = NOISE * others @ np.linalg.inv(features.T @ features) @ others.T
    # Cancellation against a prior variance of 5 / δ = 5e9: seven digits are left.
    np.testing.assert_allclose(posterior.full_covariance(X_TEST), blocks(expected, len(X_TEST)), atol=1e-4)


def test_float32_and_jax_points_get_their_own_kind_of_answer():
    exact = posterior_of()
    laplace = linearized_laplace(linear_model, ridge_weights(NOISE, PRECISION))
    points = X.astype(np.float32)
    posterior = laplace.regression(points, Y, noise=NOISE, prior_precision=PRECISION)
    single = posterior.std(X_TEST.astype(np.float32))
    assert single.dtype == np.float32
    # Kernel entries of order 5 / δ to float32, condition number of about 100.
    np.testing.assert_allclose(single, exact.std(X_TEST), rtol=1e-3)
    device = laplace.regression(jnp.asarray(points), Y, noise=NOISE, prior_precision=PRECISION)
    assert isinstance(device.variance(jnp.asarray(X_TEST, jnp.float32)), jax.Array)
    assert isinstance(device.sample(jax.random.key(0), jnp.asarray(X_TEST, jnp.float32)), jax.Array)
    np.testing.assert_allclose(
        np.array(device.std(jnp.asarray(X_TEST, jnp.float32))), exact.std(X_TEST), rtol=1e-3
    )


def test_other_hyperparameters_cost_no_decomposition_and_give_the_same():
    changed = posterior_of(noise=2.0, precision=0.1).with_hyperparameters(
        noise=NOISE, prior_precision=PRECISION
    )
    np.testing.assert_array_equal(changed.full_covariance(X_TEST), posterior_of().full_covariance(X_TEST))
    assert changed.log_marginal_likelihood() == posterior_of().log_marginal_likelihood()


def test_points_asked_about_in_blocks_give_the_same(monkeypatch):
    posterior = posterior_of()
    whole = posterior.variance(X_TEST), posterior.output_covariance(X_TEST)
    monkeypatch.setattr("ntkit.inference.laplace.posterior.LARGEST_BLOCK", 2 * posterior.reduction.width)
    np.testing.assert_allclose(posterior.variance(X_TEST), whole[0], rtol=1e-12)
    np.testing.assert_allclose(posterior.output_covariance(X_TEST), whole[1], rtol=1e-11, atol=1e-13)


class TestRefusals:
    """Every refusal names what is wrong and what to do."""

    laplace = linearized_laplace(linear_model, np.ones(WEIGHTS))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"y": np.where(np.arange(7)[:, None] == 3, np.nan, Y)}, r"finite values, got nan at y\[3, 0\]"),
            ({"y": Y[:, :2]}, "as many targets as outputs, got 2 and 3"),
            ({"y": Y[:5]}, "one row of y per point: x has 7"),
            ({"x": np.where(X > 1, np.inf, X)}, "finite values, got inf"),
            ({"noise": 0.0}, "noise as a positive, finite number, got 0.0"),
            ({"prior_precision": -1.0}, "prior_precision as a positive, finite number"),
            ({"y": np.array(linear_model(np.ones(WEIGHTS), jnp.asarray(X)))}, "meets every target exactly"),
        ],
    )
    def test_arguments_that_do_not_fit(self, change, message):
        laplace = self.laplace
        if "exactly" in message:
            outputs = change["y"]
            laplace = LinearizedLaplace(laplace.kernel, lambda x: outputs, 1.0)
        with pytest.raises(ValueError, match=message):
            laplace.regression(**{"x": X, "y": Y} | change)

    def test_a_kernel_beyond_memory_with_an_estimate_and_remedies(self):
        laplace = linearized_laplace(linear_model, np.ones(WEIGHTS), memory_limit=10_000)
        estimate = (
            r"about 2e-05 GiB for 7 points of 3 outputs.*outputs=\"independent\" \(at most .* GiB\), fewer"
        )
        with pytest.raises(ValueError, match=estimate):
            laplace.regression(X, Y)
        posterior = linearized_laplace(linear_model, np.ones(WEIGHTS), memory_limit=22_000).regression(X, Y)
        with pytest.raises(
            ValueError, match=r"LaplaceRegression.sample needs about .* for 12 points.*fewer points"
        ):
            posterior.sample(jax.random.key(0), np.tile(X_TEST, (3, 1)))

    def test_a_prior_precision_that_nothing_determines(self):
        kernel, model = self.laplace.kernel, self.laplace.model
        with pytest.raises(ValueError, match="needs square_norm"):
            LinearizedLaplace(kernel, model).regression(X, Y)
        fixed = LinearizedLaplace(kernel, model).regression(X, Y, prior_precision=1.0)
        with pytest.raises(ValueError, match="log_marginal_likelihood needs square_norm"):
            fixed.log_marginal_likelihood()
        with pytest.raises(ValueError, match="weights at the prior mean"):
            linearized_laplace(linear_model, np.ones(WEIGHTS), prior_mean=np.ones(WEIGHTS)).regression(X, Y)
        with pytest.raises(ValueError, match="curvature of zero"):
            linearized_laplace(lambda w, x: jnp.sum(0 * w) + x, np.ones(2)).regression(X, Y[:, :2])

    def test_kernels_and_models_of_other_shapes(self):
        with pytest.raises(
            ValueError, match=r'kernel with full\(x1, x2\).*got .*Linear.*outputs="independent"'
        ):
            LinearizedLaplace(Linear(), lambda x: x, 1.0).regression(X, Y[:, :2])
        with pytest.raises(
            ValueError, match=r"outputs of shape \(points, outputs\), got float64 of shape \(7,\)"
        ):
            LinearizedLaplace(self.laplace.kernel, lambda x: x[:, 0], 1.0).regression(X, Y)
        with pytest.raises(ValueError, match="as many outputs as the model"):
            LinearizedLaplace(self.laplace.kernel, lambda x: x, 1.0).regression(X, Y[:, :2])
        with pytest.raises(ValueError, match=r"finite values, got nan at model\(x\)"):
            LinearizedLaplace(self.laplace.kernel, lambda x: x * np.nan, 1.0).regression(X, Y[:, :2])

    def test_configurations(self):
        with pytest.raises(ValueError, match="square_norm as a finite number of at least 0"):
            LinearizedLaplace(self.laplace.kernel, self.laplace.model, -1.0)
        with pytest.raises(ValueError, match="prior_mean of the structure and shapes"):
            linearized_laplace(linear_model, np.ones(WEIGHTS), prior_mean=np.ones(2))
        with pytest.raises(ValueError, match=r"finite values, got nan at params\[0\]"):
            linearized_laplace(linear_model, np.full(WEIGHTS, np.nan))
        with pytest.raises(ValueError, match="noise as a positive, finite number, got 0"):
            posterior_of().with_hyperparameters(noise=0)

    def test_traced_arrays(self):
        with pytest.raises(ValueError, match="traced by JAX"):
            jax.jit(lambda x: self.laplace.regression(x, Y).noise)(jnp.asarray(X))


def test_a_kernel_without_blocks_serves_independent_outputs():
    posterior = LinearizedLaplace(Linear(), lambda x: 0 * x, 1.0, "independent").regression(
        X, X, noise=NOISE, prior_precision=2.0
    )
    exact = NOISE * X_TEST @ np.linalg.inv(X.T @ X + 2.0 * NOISE * np.eye(2)) @ X_TEST.T
    np.testing.assert_allclose(posterior.covariance(X_TEST), exact, atol=1e-12)
