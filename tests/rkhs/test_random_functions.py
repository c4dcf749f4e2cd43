"""The random-function model: its tangent kernel's law and rate, and two descents that are one."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from tests.rkhs.problems import KERNELS, OTHER, Given, Laplace, X, Y

from ntkit.errors import DivergenceError, NotPositiveDefiniteError
from ntkit.kernels import NNGP
from ntkit.nn import Dense, Relu, Serial
from ntkit.rkhs import EmpiricalRisk, Expansion, RandomFunctionModel, functional_gradient_descent

EPS = np.finfo(float).eps
LAPLACE = Laplace()
POINTS = np.concatenate([X, OTHER])
NETWORK = Serial(Dense(64, w_std=1.4, b_std=0.2), Relu(), Dense(1, w_std=1.2, b_std=0.1))
MODELS = {
    "gaussian": RandomFunctionModel(LAPLACE, 40, jax.random.key(1)).sample(POINTS),
    "networks": RandomFunctionModel.from_networks(NETWORK, 16, jax.random.key(2)),
}
LOSSES = {
    "squared": (optax.squared_error, Y),
    "logistic": (optax.sigmoid_binary_cross_entropy, (Y > 0).astype(float)),
    "huber": (optax.huber_loss, 3 * Y),
}


@pytest.mark.parametrize(
    ("name", "loss", "y"),
    [*(("gaussian", *loss) for loss in LOSSES.values()), ("networks", *LOSSES["squared"])],
    ids=[*LOSSES, "squared, networks"],
)
def test_descent_of_parameters_is_kernel_gradient_descent_step_by_step(name, loss, y):
    """Eight steps, training and test outputs: rounding of sums of 40 products and 8 steps, no more."""
    model, step = MODELS[name], 0.03
    kernel, theta = model.tangent_kernel, None
    risk, function = EmpiricalRisk(loss, X, y), Expansion.zero(kernel, X, 2)
    for _ in range(8):
        trained = model.gradient_descent(loss, X, y, step_size=step, steps=1, theta=theta)
        descent = functional_gradient_descent(risk, function, step_size=step, steps=1, tolerance=0.0)
        theta, function = trained.theta, descent.function
        np.testing.assert_allclose(trained.cost, descent.value, rtol=1e-12)
        for points in (X, OTHER):
            np.testing.assert_allclose(model(theta, points), function(points), rtol=0, atol=1e3 * EPS)
    assert trained.cost[1] < trained.cost[0]
    through = model.gradient_descent(loss, X, y, step_size=step, steps=8)
    np.testing.assert_allclose(through.theta, theta, rtol=0, atol=1e2 * EPS)
    assert len(through.cost) == 9 and not through.interrupted


def test_a_step_follows_the_gradient_that_jax_finds():
    """`θ₁ = θ₀ − α ∂C/∂θ` with the derivative of the whole model by JAX, in the other reductions too."""
    model = MODELS["gaussian"]
    theta = np.random.default_rng(1).normal(size=(40, 2))
    features = model.features(X)
    for reduction, weight in {"sum": 1.0, "mean": 1 / 18, "mean_points": 1 / 9}.items():

        def cost(parameters, weight=weight):
            outputs = jnp.asarray(features) @ parameters
            return weight * jnp.sum(optax.huber_loss(outputs, jnp.asarray(Y)))

        with jax.enable_x64(True):
            expected = theta - 0.1 * np.array(jax.grad(cost)(jnp.asarray(theta)))
        found = model.gradient_descent(
            optax.huber_loss, X, Y, step_size=0.1, steps=1, theta=theta, reduction=reduction
        )
        np.testing.assert_allclose(found.theta, expected, rtol=0, atol=1e-14)


def test_the_tangent_kernel_is_the_mean_of_outer_products():
    model = MODELS["gaussian"]
    values, gram = model.functions(POINTS), model.tangent_kernel(POINTS)
    np.testing.assert_allclose(gram, sum(np.outer(f, f) for f in values.T) / 40, rtol=0, atol=1e-14)
    np.testing.assert_allclose(model.tangent_kernel.diag(POINTS), np.diag(gram), rtol=1e-14)
    np.testing.assert_allclose(model.tangent_kernel(X, OTHER), gram[:9, 9:], rtol=0, atol=1e-14)
    assert model.tangent_kernel == model.tangent_kernel != MODELS["networks"].tangent_kernel


@pytest.mark.slow
def test_the_tangent_kernel_converges_at_the_rate_one_over_the_root_of_the_count():
    """Slope of log error against log P over 30 repetitions, and `E‖K̃ − K‖² = ((tr K)² + ‖K‖²) / P` itself."""
    counts, repetitions = np.array([50, 200, 800, 3200]), 30
    gram = LAPLACE(POINTS)
    expected = (np.trace(gram) ** 2 + (gram**2).sum()) / counts
    squares = np.empty((repetitions, len(counts)))
    for i, key in enumerate(jax.random.split(jax.random.key(3), repetitions)):
        for j, count in enumerate(counts):
            model = RandomFunctionModel(LAPLACE, int(count), jax.random.fold_in(key, int(count))).sample(
                POINTS
            )
            squares[i, j] = ((model.tangent_kernel(POINTS) - gram) ** 2).sum()
    # One slope per repetition, independent: their mean has a t interval. Four standard errors: 1 in 2500 seeds.
    slopes = np.polyfit(np.log(counts), 0.5 * np.log(squares).T, 1)[0]
    error = slopes.std(ddof=1) / np.sqrt(repetitions)
    assert error < 0.02
    assert abs(slopes.mean() + 0.5) <= 4 * error
    means, errors = squares.mean(axis=0), squares.std(axis=0, ddof=1) / np.sqrt(repetitions)
    assert (np.abs(means - expected) <= 4 * errors).all()


def test_networks_have_the_covariance_of_the_limit():
    """One hidden layer: exactly, at any width. Entry by entry within five standard errors of the mean."""
    model = RandomFunctionModel.from_networks(NETWORK, 4000, jax.random.key(5))
    values = model.functions(X)
    products = values[:, None, :] * values[None, :, :]
    error = products.std(axis=2, ddof=1) / np.sqrt(4000)
    assert (np.abs(model.tangent_kernel(X) - NNGP(NETWORK)(X)) <= 5 * error).all()


def test_networks_are_functions_whatever_the_batch_the_precision_or_the_library():
    draws = MODELS["networks"].functions
    values = draws(X)
    assert values.dtype == np.float64
    np.testing.assert_allclose(draws(X[3:5]), values[3:5], rtol=0, atol=1e-13)
    single = draws(jnp.asarray(X, jnp.float32))
    assert isinstance(single, jax.Array) and single.dtype == jnp.float32
    np.testing.assert_allclose(single, values, rtol=0, atol=1e-4)
    assert np.linalg.matrix_rank(values) == len(X)


def test_draws_depend_on_the_key_only_and_equal_points_have_equal_values():
    def again(key):
        return RandomFunctionModel(LAPLACE, 3, jax.random.key(key)).sample(np.concatenate([X, X[:2]]))

    first = again(1).functions
    np.testing.assert_array_equal(first(X), again(1).functions(X))
    assert (first(X) != again(2).functions(X)).all()
    np.testing.assert_array_equal(first(X[[1, 0, 1]]), first(X)[[1, 0, 1]])
    # Repetitions in front shift no other point's values, nor hide that a point was not declared.
    repeated = RandomFunctionModel(LAPLACE, 400, jax.random.key(1)).sample(np.concatenate([X[:1], X[:1], X]))
    # Five standard errors of an entry's variance of at most 2 / 400.
    np.testing.assert_allclose(repeated.tangent_kernel(X), LAPLACE(X), rtol=0, atol=5 * np.sqrt(2 / 400))
    with pytest.raises(ValueError, match="among the 9 at which it was drawn"):
        repeated.functions(OTHER)


def test_a_singular_covariance_is_sampled():
    kernel = KERNELS["ntk relu"]
    near = np.concatenate([X, X + 1e-9])
    values = RandomFunctionModel(kernel, 50, jax.random.key(1)).sample(near).functions(near)
    np.testing.assert_allclose(values[:9], values[9:], rtol=0, atol=1e-2)


def test_what_does_not_fit_is_refused():
    model = MODELS["gaussian"]
    with pytest.raises(ValueError, match="count of at least 1, got 0"):
        RandomFunctionModel(LAPLACE, 0, jax.random.key(0))
    with pytest.raises(ValueError, match="among the 14 at which it was drawn, got another in row 1"):
        model.functions(np.concatenate([X[:1], X[:1] + 1.0]))
    with pytest.raises(ValueError, match=r"as declared, got float32 of 3"):
        model.functions(X.astype(np.float32))
    with pytest.raises(ValueError, match=r"theta of shape \(40, outputs\), got \(39, 2\)"):
        model(np.zeros((39, 2)), X)
    with pytest.raises(
        (ValueError, jaxtyping.TypeCheckError), match="one column per column of y|parameter 'theta'"
    ):
        model.gradient_descent(optax.l2_loss, X, Y, step_size=0.1, steps=1, theta=np.zeros((40, 1)))
    with pytest.raises(ValueError, match="positive, finite step_size, got -1"):
        model.gradient_descent(optax.l2_loss, X, Y, step_size=-1.0, steps=1)
    with pytest.raises(ValueError, match="at least one step, got 0"):
        model.gradient_descent(optax.l2_loss, X, Y, step_size=1.0, steps=0)
    with pytest.raises(ValueError, match="networks with one output, got 64"):
        RandomFunctionModel.from_networks(Dense(64), 2, jax.random.key(0)).functions(X)
    with pytest.raises(NotPositiveDefiniteError, match="negative|eigenvalue"):
        RandomFunctionModel(Given([[1.0, 2.0], [2.0, 1.0]]), 2, jax.random.key(0)).sample(
            np.array([[0.0], [1.0]])
        )


def test_a_diverging_descent_keeps_its_best():
    with pytest.raises(DivergenceError, match="needs a smaller step_size, got 5.0") as caught:
        MODELS["gaussian"].gradient_descent(optax.squared_error, X, Y, step_size=5.0, steps=50)
    assert caught.value.result.theta.shape == (40, 2)  # type: ignore[attr-defined]
    assert len(caught.value.result.cost) >= 1  # type: ignore[attr-defined]


def test_ctrl_c_loses_nothing(monkeypatch):
    from ntkit.rkhs import random_functions

    calls, original = [], random_functions.loss_and_gradient

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(random_functions, "loss_and_gradient", interrupting)
    descent = MODELS["gaussian"].gradient_descent(optax.l2_loss, X, Y, step_size=0.01, steps=50)
    assert descent.interrupted and len(descent.cost) == 3
