"""The linearised-Laplace posterior of a classifier against the Hessian of its loss in weight space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.special import log_softmax, softmax
from tests.inference.laplace.problems import (
    LABELS,
    OUTPUTS,
    POINTS,
    WEIGHTS,
    X_TEST,
    Linear,
    X,
    blocks,
    features_of,
    linear_model,
)

from ntkit.empirical import EmpiricalNTK
from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference import LinearizedLaplace, linearized_laplace

PRECISION = 0.4
TRAINED = np.array([0.8, -0.4, 1.1, 0.3, -0.9])


@pytest.fixture(scope="module")
def hessian():
    """Of `-log p(labels | θ)` in the weights, by JAX; for a linear model that is the Gauss-Newton matrix."""

    def loss(weights):
        scores = jax.nn.log_softmax(linear_model(weights, jnp.asarray(X)))
        return -jnp.sum(scores[jnp.arange(POINTS), LABELS])

    with jax.enable_x64(True):
        return np.array(jax.jit(jax.hessian(loss))(jnp.asarray(TRAINED)))


def posterior_of(precision=PRECISION, **options):
    return linearized_laplace(linear_model, TRAINED, **options).classification(
        X, LABELS, prior_precision=precision
    )


def test_it_is_the_laplace_approximation_in_weight_space(hessian):
    others = features_of(X_TEST)
    exact = blocks(others @ np.linalg.inv(hessian + PRECISION * np.eye(WEIGHTS)) @ others.T, len(X_TEST))
    posterior = posterior_of()
    np.testing.assert_allclose(posterior.mean(X_TEST).reshape(-1), others @ TRAINED, rtol=1e-12)
    np.testing.assert_allclose(posterior.full_covariance(X_TEST), exact, atol=1e-12)
    own = np.einsum("iiab->iab", exact)
    np.testing.assert_allclose(posterior.output_covariance(X_TEST), own, atol=1e-12)
    np.testing.assert_allclose(posterior.variance(X_TEST), np.einsum("iaa->i", own) / OUTPUTS, atol=1e-12)
    np.testing.assert_allclose(
        posterior.covariance(X_TEST), np.einsum("ijaa->ij", exact) / OUTPUTS, atol=1e-12
    )


def test_its_evidence_is_that_of_weight_space_and_its_prior_precision_maximises_it(hessian):
    likelihood = np.sum(log_softmax(linear_scores(X), axis=1)[np.arange(POINTS), LABELS])

    def exact(precision):
        determinant = np.linalg.slogdet(hessian + precision * np.eye(WEIGHTS))[1]
        prior = -0.5 * precision * TRAINED @ TRAINED + 0.5 * WEIGHTS * np.log(precision)
        return likelihood + prior - 0.5 * determinant

    assert posterior_of().log_marginal_likelihood() == pytest.approx(exact(PRECISION), rel=1e-12)
    chosen = posterior_of(None)
    best = scipy.optimize.minimize_scalar(
        lambda z: -exact(np.exp(z)), bounds=(-8, 8), options={"xatol": 1e-9}
    )
    # A golden section on values of 10 with 15 digits locates a maximum to the root of that.
    assert np.log(chosen.prior_precision) == pytest.approx(best.x, abs=1e-6)
    determined = np.trace(hessian @ np.linalg.inv(hessian + chosen.prior_precision * np.eye(WEIGHTS)))
    assert chosen.effective_parameters == pytest.approx(determined, rel=1e-11)
    moved = chosen.with_hyperparameters(prior_precision=PRECISION)
    assert moved.log_marginal_likelihood() == posterior_of().log_marginal_likelihood()
    np.testing.assert_array_equal(moved.full_covariance(X_TEST), posterior_of().full_covariance(X_TEST))


def linear_scores(x):
    return (features_of(x) @ TRAINED).reshape(len(x), OUTPUTS)


def test_independent_outputs_are_the_same_formulas_with_the_averaged_kernel():
    """Brute force over all n k scores: `K_** - K_*X R (1 + Rᵀ K R)^{-1} Rᵀ K_X*`, `Λ = R Rᵀ`."""
    posterior = posterior_of(outputs="independent")
    kernel = EmpiricalNTK(linear_model, TRAINED)
    gram, cross, own = (
        np.kron(kernel(*pair), np.eye(OUTPUTS)) / PRECISION for pair in ((X,), (X_TEST, X), (X_TEST,))
    )
    probabilities = softmax(linear_scores(X), axis=1)
    # Λ = M diag(p) Mᵀ with M = 1 - p 1ᵀ: a root that is not the library's.
    root = scipy.linalg.block_diag(
        *((np.eye(OUTPUTS) - p[:, None]) * np.sqrt(p)[None, :] for p in probabilities)
    )
    inner = np.eye(len(gram)) + root.T @ gram @ root
    exact = blocks(own - cross @ root @ np.linalg.solve(inner, root.T @ cross.T), len(X_TEST))
    np.testing.assert_allclose(posterior.full_covariance(X_TEST), exact, atol=1e-12)
    np.testing.assert_allclose(posterior.output_covariance(X_TEST), np.einsum("iiab->iab", exact), atol=1e-12)
    np.testing.assert_allclose(
        posterior.covariance(X_TEST), np.einsum("ijaa->ij", exact) / OUTPUTS, atol=1e-12
    )
    np.testing.assert_allclose(posterior.variance(X_TEST), np.einsum("iiaa->i", exact) / OUTPUTS, atol=1e-12)
    likelihood = np.sum(np.log(probabilities[np.arange(POINTS), LABELS]))
    evidence = likelihood - 0.5 * PRECISION * TRAINED @ TRAINED - 0.5 * np.linalg.slogdet(inner)[1]
    assert posterior.log_marginal_likelihood() == pytest.approx(evidence, rel=1e-11)
    determined = np.trace(np.eye(len(gram)) - np.linalg.inv(inner))
    assert posterior.effective_parameters == pytest.approx(determined, rel=1e-11)


def test_for_a_layer_shared_by_no_outputs_coupled_and_independent_agree():
    """`x W`: the blocks are multiples of the identity, so nothing is lost by averaging them."""
    weights = np.random.default_rng(1).normal(size=(2, OUTPUTS))

    def head(w, x):
        return jnp.matmul(x, w, precision="highest")

    coupled, independent = (
        linearized_laplace(head, weights, outputs=outputs).classification(X, LABELS)
        for outputs in ("coupled", "independent")
    )
    assert independent.prior_precision == pytest.approx(coupled.prior_precision, rel=1e-9)
    assert independent.log_marginal_likelihood() == pytest.approx(
        coupled.log_marginal_likelihood(), rel=1e-11
    )
    np.testing.assert_allclose(
        independent.full_covariance(X_TEST), coupled.full_covariance(X_TEST), rtol=1e-8, atol=1e-9
    )
    assert coupled.full_covariance(X_TEST)[:, :, 0, 1].any()


def test_one_logistic_output_is_two_softmax_outputs_of_half_the_score():
    direction = np.array([[1.0], [-0.5]])
    labels = LABELS % 2

    def score(w, x):
        return jnp.matmul(x, w, precision="highest")

    single = linearized_laplace(score, direction).classification(X, labels)
    signs = jnp.array([[-0.5, 0.5]])
    double = linearized_laplace(
        lambda w, x: jnp.matmul(jnp.matmul(x, w), signs.astype(x.dtype)), direction
    ).classification(X, labels)
    assert single.prior_precision == pytest.approx(double.prior_precision, rel=1e-9)
    assert single.log_marginal_likelihood() == pytest.approx(double.log_marginal_likelihood(), rel=1e-11)
    probabilities = single.class_probabilities(X_TEST)
    assert probabilities.shape == (len(X_TEST), 2)
    np.testing.assert_allclose(probabilities, double.class_probabilities(X_TEST), rtol=1e-9)
    again = linearized_laplace(score, direction, outputs="independent").classification(X, labels)
    np.testing.assert_allclose(again.output_covariance(X_TEST), single.output_covariance(X_TEST), rtol=1e-9)


@pytest.mark.parametrize("outputs", ["coupled", "independent"])
def test_sampled_probabilities_are_the_mean_of_the_softmax_of_samples(outputs):
    posterior, count = posterior_of(outputs=outputs), 20_000
    sampled = posterior.sampled_class_probabilities(jax.random.key(0), X_TEST, count)
    draws = softmax(posterior.sample(jax.random.key(1), X_TEST, count), axis=2)
    # Five standard errors of the difference of two means, twelve numbers: a false alarm once in 100,000 seeds.
    error = draws.std(axis=0) * np.sqrt(2 / count)
    assert (np.abs(sampled - draws.mean(axis=0)) <= 5 * error).all()
    np.testing.assert_allclose(sampled.sum(axis=1), 1.0, rtol=1e-12)
    # The approximation is good to a few hundredths, where the plain softmax is off by more.
    assert np.abs(posterior.class_probabilities(X_TEST) - sampled).max() < 0.1


def test_a_point_far_from_the_data_is_less_certain_than_the_model():
    def head(w, x):
        return jnp.matmul(x, w, precision="highest")

    weights = np.array([[2.0, -1.0, 0.0], [0.0, 1.0, -2.0]])
    posterior = linearized_laplace(head, weights).classification(X, LABELS)
    far = 1000.0 * X_TEST
    assert softmax(far @ weights, axis=1).max(axis=1).min() > 0.999
    assert posterior.class_probabilities(far).max() < 0.999
    # Far out along a ray, scores and their spread grow alike: the probabilities have a limit.
    np.testing.assert_allclose(
        posterior.class_probabilities(far), posterior.class_probabilities(10 * far), atol=1e-4
    )


@pytest.mark.parametrize("outputs", ["coupled", "independent"])
def test_more_data_never_increase_the_variance(outputs):
    laplace = linearized_laplace(linear_model, TRAINED, outputs=outputs)
    few, many = (
        laplace.classification(X[:count], LABELS[:count], prior_precision=PRECISION).full_covariance(X_TEST)
        for count in (5, 7)
    )
    size = len(X_TEST) * OUTPUTS
    eigenvalues = np.linalg.eigvalsh((few - many).transpose(0, 2, 1, 3).reshape(size, size))
    assert eigenvalues.min() > -1e-11
    assert eigenvalues.max() > 1e-3


def test_float32_and_jax_points_get_their_own_kind_of_answer():
    exact = posterior_of().class_probabilities(X_TEST)
    for outputs in ("coupled", "independent"):
        laplace = linearized_laplace(linear_model, TRAINED, outputs=outputs)
        single = laplace.classification(X.astype(np.float32), LABELS, prior_precision=PRECISION)
        probabilities = single.class_probabilities(X_TEST.astype(np.float32))
        assert probabilities.dtype == np.float32
        if outputs == "coupled":
            np.testing.assert_allclose(probabilities, exact, atol=1e-4)
        device = laplace.classification(
            jnp.asarray(X, jnp.float32), jnp.asarray(LABELS), prior_precision=PRECISION
        )
        answer = device.class_probabilities(jnp.asarray(X_TEST, jnp.float32))
        assert isinstance(answer, jax.Array)
        np.testing.assert_allclose(np.array(answer), probabilities, atol=1e-4)


class TestRefusals:
    """Every refusal names what is wrong and what to do."""

    def test_labels(self):
        with pytest.raises(ValueError, match=r"labels from 0 to 2 .* got 3 at labels\[0\]"):
            linearized_laplace(linear_model, TRAINED).classification(X, LABELS * 0 + 3)

    def test_a_certain_model(self):
        laplace = linearized_laplace(lambda w, x: jnp.matmul(jnp.sign(x), w), np.eye(2))
        for outputs in ("coupled", "independent"):
            certain = LinearizedLaplace(laplace.kernel, lambda x: 1e5 * np.eye(2)[[0] * len(x)], 1.0, outputs)
            with pytest.raises(ValueError, match="curvature of zero"):
                certain.classification(X, LABELS * 0)
            fixed = certain.classification(X, LABELS * 0, prior_precision=2.0)
            np.testing.assert_allclose(fixed.variance(X_TEST), laplace.kernel.diag(X_TEST) / 2.0, rtol=1e-12)

    def test_memory(self):
        laplace = linearized_laplace(linear_model, TRAINED, memory_limit=1000)
        with pytest.raises(ValueError, match="needs about .* GiB for 7 points of 3 outputs.*independent"):
            laplace.classification(X, LABELS)
        laplace = linearized_laplace(linear_model, TRAINED, memory_limit=1000, outputs="independent")
        with pytest.raises(ValueError, match=r"Use fewer training points, or a larger memory_limit"):
            laplace.classification(X, LABELS)

    def test_a_kernel_that_is_not_positive(self):
        laplace = LinearizedLaplace(Linear(-1.0), linear_scores, 1.0, "independent")
        with pytest.raises(
            NotPositiveDefiniteError, match="positive semi-definite kernel.*larger prior_precision"
        ):
            laplace.classification(X, LABELS, prior_precision=1e-3)

    def test_numbers(self):
        with pytest.raises(ValueError, match="positive, finite prior_precision, got 0"):
            posterior_of().with_hyperparameters(prior_precision=0)
        with pytest.raises(ValueError, match="count of at least 1"):
            posterior_of().sampled_class_probabilities(jax.random.key(0), X_TEST, 0)
        kernel = EmpiricalNTK(linear_model, TRAINED)
        posterior = LinearizedLaplace(kernel, linear_scores).classification(X, LABELS, prior_precision=1.0)
        with pytest.raises(ValueError, match="needs square_norm"):
            posterior.log_marginal_likelihood()
