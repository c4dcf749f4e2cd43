"""Gaussian processes on tokens and trees, against the formulas in NumPy on the explicit tangent kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.empirical.token_model import (
    OUTPUTS,
    PARAMS,
    X_NEW,
    X,
    Y,
    in_float32,
    kernel_by_hand,
    model,
    nngp_by_hand,
)

from ntkit.empirical import EmpiricalNNGP, EmpiricalNTK, SketchedNTK
from ntkit.inference import GaussianProcess, blocks
from ntkit.kernels import NTK
from ntkit.kernels.stationary import RBF
from ntkit.nn import Dense

KINDS = pytest.mark.parametrize("kind", ["tokens", "tree"])
TANGENT, OF_OUTPUTS = EmpiricalNTK(model, PARAMS, method="jacobian"), EmpiricalNNGP(model, PARAMS)
NOISE = 0.1


@KINDS
def test_the_posterior_on_tokens_has_the_textbook_formulas(kind, monkeypatch):
    if kind == "tree":
        monkeypatch.setattr(blocks, "LARGEST_BLOCK", 18)  # entries: three points at a time
    x, x_new = X[kind], X_NEW[kind]
    posterior = GaussianProcess(TANGENT, NOISE).condition(x, Y)
    inverse = np.linalg.inv(kernel_by_hand(x) + NOISE * np.eye(6))
    cross = kernel_by_hand(x_new, x)
    covariance = kernel_by_hand(x_new) - cross @ inverse @ cross.T
    mean = posterior.mean(x_new)
    assert isinstance(mean, np.ndarray)
    assert mean.dtype == np.float64
    np.testing.assert_allclose(mean, cross @ inverse @ Y, atol=1e-10)
    np.testing.assert_allclose(posterior.variance(x_new), np.diag(covariance), atol=1e-10)
    np.testing.assert_allclose(posterior.covariance(x_new), covariance, atol=1e-10)


@KINDS
def test_the_evidence_on_tokens_has_the_textbook_formulas(kind):
    process = GaussianProcess(TANGENT, NOISE)
    noisy = kernel_by_hand(X[kind]) + NOISE * np.eye(6)
    inverse = np.linalg.inv(noisy)
    logarithm = np.linalg.slogdet(noisy)[1] + 6 * np.log(2 * np.pi)
    evidence = -0.5 * np.sum(Y * (inverse @ Y)) - 0.5 * OUTPUTS * logarithm
    value = process.log_marginal_likelihood(X[kind], Y)
    assert isinstance(value, float)
    assert value == pytest.approx(evidence, rel=1e-10)
    left_out = process.condition(X[kind], Y).leave_one_out()
    for i in range(6):
        rest = np.delete(np.arange(6), i)
        weights = np.linalg.solve(noisy[np.ix_(rest, rest)], noisy[rest, i])
        np.testing.assert_allclose(left_out.mean[i], weights @ Y[rest], atol=1e-10)
        np.testing.assert_allclose(left_out.variance[i], noisy[i, i] - weights @ noisy[rest, i], atol=1e-10)


@KINDS
def test_the_prior_on_tokens_has_mean_zero_in_the_dtype_of_the_kernel(kind):
    process = GaussianProcess(TANGENT)
    np.testing.assert_array_equal(process.mean(X[kind]), np.zeros((6, 1)))
    assert process.mean(X[kind]).dtype == np.float64
    np.testing.assert_allclose(process.variance(X[kind]), np.diag(kernel_by_hand(X[kind])), atol=1e-10)
    np.testing.assert_allclose(process.covariance(X[kind]), kernel_by_hand(X[kind]), atol=1e-10)


def test_sums_products_and_multiples_pass_on_what_their_parts_take():
    x = X["tree"]
    kernel = (TANGENT + 0.5 * OF_OUTPUTS) * TANGENT
    expected = (kernel_by_hand(x) + 0.5 * nngp_by_hand(x)) * kernel_by_hand(x)
    process = GaussianProcess(kernel)
    np.testing.assert_allclose(process.covariance(x), expected, atol=1e-10)
    np.testing.assert_allclose(process.variance(x), np.diag(expected), atol=1e-10)
    inverse = np.linalg.inv(expected + NOISE * np.eye(6))
    mean = GaussianProcess(kernel, NOISE).condition(x, Y).mean(x)
    np.testing.assert_allclose(mean, expected @ inverse @ Y, atol=1e-10)


def test_a_sum_refuses_what_one_of_its_parts_cannot_take():
    with pytest.raises(ValueError, match=r"GaussianProcess.covariance needs x as an array, got dict"):
        GaussianProcess(TANGENT + NTK(Dense(1))).covariance(X["tree"])


def test_a_sketched_kernel_takes_tokens_too():
    kernel = SketchedNTK(model, PARAMS, 20, jax.random.key(0), method="reverse")
    np.testing.assert_array_equal(GaussianProcess(kernel).covariance(X["tree"]), kernel(X["tree"]))


def test_floating_points_decide_the_dtype_of_the_answer_and_integers_do_not():
    """As always for floating arrays: float64 points make a kernel of float32 parameters one in float64."""

    def linear(w, x):
        return jnp.matmul(x.astype(w.dtype), w, precision="highest")

    process = GaussianProcess(EmpiricalNNGP(linear, np.ones((2, 1), np.float32)), 1.0)
    x, y = np.array([[1, 2], [0, 3]]), np.array([[1.0], [2.0]])
    for points, dtype in (
        (x, np.float32),
        (x.astype(np.float64), np.float64),
        (x.astype(np.float32), np.float32),
    ):
        posterior = process.condition(points, y)
        for answer in (process.mean(points), posterior.mean(points), posterior.variance(points)):
            assert answer.dtype == dtype


def test_the_library_of_floating_points_is_that_of_the_answer_whatever_was_observed():
    x = np.array([[0.0], [1.0]], np.float32)
    posterior = GaussianProcess(RBF(), 1.0).condition(jnp.asarray(x), jnp.asarray(x))
    assert isinstance(posterior.mean(x), np.ndarray)
    assert isinstance(posterior.mean(jnp.asarray(x)), jax.Array)


def test_jax_tokens_give_jax_answers():
    tree, y = jax.tree_util.tree_map(jnp.asarray, X["tree"]), jnp.asarray(Y, jnp.float32)
    process = GaussianProcess(EmpiricalNNGP(model, in_float32(PARAMS)), NOISE)
    posterior = process.condition(tree, y)
    for answer in (process.mean(tree), posterior.mean(tree), posterior.log_marginal_likelihood()):
        assert isinstance(answer, jax.Array)
        assert answer.dtype == jnp.float32
    value = jax.jit(lambda p: p.log_marginal_likelihood(tree, y))(process)
    # float32 rounding against a matrix whose smallest eigenvalue is the noise
    assert float(value) == pytest.approx(process.log_marginal_likelihood(X["tree"], Y), rel=1e-4)


def test_arrays_of_unequal_length_are_named():
    wrong = {"tokens": X["tokens"], "mask": X["tree"]["mask"][:4]}
    with pytest.raises(ValueError, match=r"GaussianProcess.condition needs x .* one first axis .*\[4, 6\]"):
        GaussianProcess(TANGENT).condition(wrong, Y)
