"""Training on tokens and trees, by kernels and for real, against formulas in NumPy on explicit Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from tests.empirical.token_model import (
    PARAMS,
    X_NEW,
    Y_NEW,
    X,
    Y,
    flat,
    in_float32,
    jacobian_by_hand,
    kernel_by_hand,
    model,
    nngp_by_hand,
    outputs_by_hand,
)

from ntkit.dynamics.ensemble import train_ensemble
from ntkit.dynamics.finite import max_learning_rate, train
from ntkit.dynamics.gradient_descent import gradient_descent
from ntkit.dynamics.gradient_flow import gradient_flow
from ntkit.dynamics.linearized import LinearizedModel
from ntkit.dynamics.problem import make_problem
from ntkit.dynamics.stopping import best_stopping_time
from ntkit.empirical import EmpiricalNNGP, EmpiricalNTK
from ntkit.kernels import NNGP as Limit
from ntkit.nn import Dense
from ntkit.numerics.points import points_of

KINDS = pytest.mark.parametrize("kind", ["tokens", "tree"])
NTK, NNGP = EmpiricalNTK(model, PARAMS, method="jacobian"), EmpiricalNNGP(model, PARAMS)


def matrix(x):
    return jacobian_by_hand(PARAMS, x).reshape(-1, flat(PARAMS).size)


def learnt(kernel, t):
    """`Θ^{-1} (I − exp(−Θ t))` of a positive definite matrix."""
    return np.linalg.solve(kernel, np.eye(len(kernel)) - scipy.linalg.expm(-t * kernel))


def test_the_linearised_model_follows_its_closed_form():
    x, x_new = X["tree"], X_NEW["tree"]
    jacobian = matrix(x)
    linear = LinearizedModel(model, PARAMS, x, Y, 0.7, "mean")
    error = (Y - outputs_by_hand(PARAMS, x)).reshape(-1)
    rate = 0.7 / Y.size
    kernel = rate * jacobian @ jacobian.T
    # The corner of this exponential is the integral of exp(−s η c Θ) up to t, whether Θ can be inverted or not.
    corner = np.block([[-2.0 * kernel, 2.0 * np.eye(12)], [np.zeros((12, 24))]])
    amount = rate * scipy.linalg.expm(corner)[:12, 12:]
    moved = flat(PARAMS) + jacobian.T @ amount @ error
    weights = linear.weights(2.0)
    assert weights["table"].dtype == np.float64
    np.testing.assert_allclose(flat(weights), moved, atol=1e-10)
    new = outputs_by_hand(PARAMS, x_new) + (matrix(x_new) @ (moved - flat(PARAMS))).reshape(6, 2)
    np.testing.assert_allclose(linear.at(2.0).mean(x_new), new, atol=1e-10)
    left = scipy.linalg.expm(-2.0 * kernel) @ error
    assert linear.loss(2.0) == pytest.approx(0.5 * left @ left / Y.size, rel=1e-10)


def test_one_array_of_outputs_is_demanded_where_targets_are_fitted():
    def tree(params, x):
        return {"outputs": model(params, x)}

    with pytest.raises(
        ValueError, match=r"LinearizedModel needs f\(params, x\) to return one array, got dict"
    ):
        LinearizedModel(tree, PARAMS, X["tree"], Y).weights(1.0)
    with pytest.raises(ValueError, match=r"train needs f\(params, x\) to return one array, got dict"):
        train(tree, PARAMS, X["tree"], Y, learning_rate=0.1, steps=1)


@KINDS
def test_training_is_gradient_descent_on_tokens(kind):
    x, params = X[kind], PARAMS
    for _ in range(20):
        jacobian = jacobian_by_hand(params, x)
        change = 0.1 * np.einsum("nkp,nk->p", jacobian, outputs_by_hand(params, x) - Y)
        params = {
            "head": params["head"] - change[:6].reshape(3, 2),
            "table": params["table"] - change[6:].reshape(5, 3),
        }
    history = train(
        model,
        PARAMS,
        x,
        Y,
        learning_rate=0.1,
        steps=20,
        record=[],
        watch=X_NEW[kind],
        test=(X_NEW[kind], Y_NEW),
    )
    np.testing.assert_allclose(flat(history.params), flat(params), atol=1e-10)
    np.testing.assert_allclose(history.outputs[0], outputs_by_hand(params, X_NEW[kind]), atol=1e-10)
    error = outputs_by_hand(params, X_NEW[kind]) - Y_NEW
    assert history.test_loss[0] == pytest.approx(0.5 * np.sum(error**2), rel=1e-10)
    assert history.params["table"].dtype == np.float64


def test_training_on_tokens_takes_the_dtype_of_the_targets():
    history = train(model, PARAMS, X["tree"], Y.astype(np.float32), learning_rate=0.1, steps=1)
    assert {history.params["table"].dtype, history.loss.dtype} == {np.dtype(np.float32)}
    with pytest.raises(ValueError, match=r"train needs y in floating point where x is not, got int32"):
        make_problem("train", model, jnp.asarray(X["tokens"]), jnp.ones((6, 2), int), 0.1, 1, "sum", None)


def test_an_ensemble_on_a_tree_is_its_members():
    def init(key):
        return {name: scale * jnp.asarray(PARAMS[name], jnp.float32) for name in PARAMS}

    scale = 2.0
    x = X["tree"]
    ensemble = train_ensemble(
        model, init, jax.random.key(0), 2, x, Y, watch=x, learning_rate=0.01, steps=1, record=[0]
    )
    start = {name: np.asarray(value, np.float64) for name, value in init(None).items()}
    np.testing.assert_allclose(ensemble.outputs[0, 1], outputs_by_hand(start, x), atol=1e-10)


def test_the_largest_stable_rate_is_that_of_the_explicit_kernel():
    jacobian = matrix(X["tree"])
    largest = np.linalg.eigvalsh(jacobian @ jacobian.T)[-1]
    # power iteration, to three digits
    assert max_learning_rate(model, PARAMS, X["tree"]) == pytest.approx(2 / largest, rel=1e-3)


def test_the_prior_must_take_the_points_too():
    with pytest.raises(ValueError, match=r"gradient_flow needs x as an array, got dict"):
        gradient_flow(NTK, X["tree"], Y, prior=Limit(Dense(1)))


@KINDS
def test_the_course_of_gradient_flow_is_the_exponential_of_the_explicit_kernel(kind):
    x, x_new = X[kind], X_NEW[kind]
    flow = gradient_flow(NTK, x, Y, prior=NNGP)
    gram, cross = kernel_by_hand(x), kernel_by_hand(x_new, x)
    path = flow.trajectory([0.5, 3.0], x_new)
    assert {path.mean.dtype, path.variance.dtype} == {np.dtype(np.float64)}
    for row, t in enumerate((0.5, 3.0)):
        change = cross @ learnt(gram, t)
        covariance = (
            nngp_by_hand(x_new)
            - change @ nngp_by_hand(x, x_new)
            - nngp_by_hand(x_new, x) @ change.T
            + change @ nngp_by_hand(x) @ change.T
        )
        np.testing.assert_allclose(path.mean[row], change @ Y, atol=1e-10)
        np.testing.assert_allclose(path.variance[row], np.diag(covariance), atol=1e-10)
        trained = flow.at(t)
        np.testing.assert_allclose(trained.mean(x_new), change @ Y, atol=1e-10)
        np.testing.assert_allclose(trained.variance(x_new), np.diag(covariance), atol=1e-10)
        np.testing.assert_allclose(trained.covariance(x_new), covariance, atol=1e-10)
        on_training = Y - scipy.linalg.expm(-t * gram) @ Y
        np.testing.assert_allclose(flow.training_outputs(t), on_training, atol=1e-10)


def test_a_given_network_of_tokens_is_trained_from_its_own_outputs():
    x, x_new = X["tree"], X_NEW["tree"]
    rate = 0.5 / np.linalg.eigvalsh(kernel_by_hand(x))[-1]
    start = outputs_by_hand(PARAMS, x)
    descent = gradient_descent(
        NTK, x, Y, f0=lambda points: outputs_by_hand(PARAMS, points), learning_rate=rate
    )
    moved = np.zeros((6, 2))
    for _ in range(3):
        moved = moved + rate * (Y - start - kernel_by_hand(x) @ moved)
    expected = outputs_by_hand(PARAMS, x_new) + kernel_by_hand(x_new, x) @ moved
    np.testing.assert_allclose(descent.after(3).mean(x_new), expected, atol=1e-10)
    error = expected - Y_NEW
    assert descent.test_loss(3, x_new, Y_NEW) == pytest.approx(0.5 * np.sum(error**2), rel=1e-10)


@pytest.mark.slow
def test_another_loss_is_integrated_on_a_tree():
    """Of the squared loss, where the closed form is known; the integration is told to err by 1e-9 a step."""
    x, x_new = X["tree"], X_NEW["tree"]
    flow = gradient_flow(NTK, x, Y, loss=lambda f, y: 0.5 * (f - y) ** 2)
    change = kernel_by_hand(x_new, x) @ learnt(kernel_by_hand(x), 0.5)
    np.testing.assert_allclose(flow.trajectory([0.5], x_new).mean[0], change @ Y, atol=1e-6)
    np.testing.assert_allclose(flow.at(0.5).mean(x_new), change @ Y, atol=1e-6)
    error = change @ Y - Y_NEW
    assert flow.test_loss(0.5, x_new, Y_NEW) == pytest.approx(0.5 * np.sum(error**2), abs=1e-5)
    expected = Y - scipy.linalg.expm(-0.5 * kernel_by_hand(x)) @ Y
    np.testing.assert_allclose(flow.training_outputs(0.5), expected, atol=1e-6)


def test_folds_and_validation_sets_of_a_tree_are_cut_from_each_of_its_arrays():
    x, x_new = X["tree"], X_NEW["tree"]
    chosen = best_stopping_time(NTK, x, Y, times=np.array([1.0]), folds=2, seed=3)
    for row, fold in enumerate(np.array_split(np.random.default_rng(3).permutation(6), 2)):
        rest = np.setdiff1d(np.arange(6), fold)
        inside, outside = points_of(x, rest), points_of(x, fold)
        means = kernel_by_hand(outside, inside) @ learnt(kernel_by_hand(inside), 1.0) @ Y[rest]
        assert chosen.fold_losses[row, 0] == pytest.approx(np.mean((means - Y[fold]) ** 2), rel=1e-10)
    validated = best_stopping_time(NTK, x, Y, times=np.array([1.0]), validation=(x_new, Y_NEW))
    means = kernel_by_hand(x_new, x) @ learnt(kernel_by_hand(x), 1.0) @ Y
    assert validated.losses[0] == pytest.approx(np.mean((means - Y_NEW) ** 2), rel=1e-10)
    short = {**x_new, "mask": x_new["mask"][:, :2]}
    with pytest.raises(ValueError, match=r"points of shape \{'mask': \(2,\), 'tokens': \(4,\)\} and"):
        best_stopping_time(NTK, x, Y, validation=(short, Y_NEW))


def test_answers_at_tokens_have_the_dtype_of_the_kernel_and_its_library():
    tree, y = jax.tree_util.tree_map(jnp.asarray, X["tree"]), jnp.asarray(Y, jnp.float32)
    flow = gradient_flow(EmpiricalNNGP(model, in_float32(PARAMS)), tree, y)
    for answer in (flow.trajectory([1.0], tree).mean, flow.at(1.0).mean(tree), flow.training_outputs(1.0)):
        assert isinstance(answer, jax.Array)
        assert answer.dtype == jnp.float32
