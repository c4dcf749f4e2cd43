"""The closed-form weights of a linearised network against their own differential equation and other closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit.dynamics.gradient_flow import gradient_flow
from ntkit.dynamics.linearized import LinearizedModel
from ntkit.empirical import EmpiricalNTK, linearize

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(5, 3))
X_TEST = GENERATOR.normal(size=(4, 3))
Y = GENERATOR.normal(size=(5, 2))
WEIGHTS = {"sum": 1.0, "mean": 1 / 10, "mean_points": 1 / 5}


def network(params, x):
    hidden = jnp.tanh(jnp.matmul(x, params["w"], precision="highest"))
    # Gated by inputs, without which the blocks J(x) J(x')ᵀ would happen to be symmetric.
    return (2 + x[:, :2]) * jnp.matmul(hidden, params["v"], precision="highest")


def draw(width=8, seed=1):
    generator = np.random.default_rng(seed)
    return {"w": generator.normal(size=(3, width)), "v": generator.normal(size=(width, 2)) / np.sqrt(width)}


def flat(params):
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree_util.tree_leaves(params)])


def jacobian_and_outputs(params, x):
    """Brute force: the Jacobian (n k, P) of the whole batch, by JAX, in float64."""
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(jnp.asarray, params)
        tree = jax.jacfwd(network)(params, jnp.asarray(x))
        size = x.shape[0] * 2
        leaves = [np.array(leaf).reshape(size, -1) for leaf in jax.tree_util.tree_leaves(tree)]
        return np.concatenate(leaves, axis=1), np.array(network(params, jnp.asarray(x)))


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_points"])
def test_the_weights_obey_gradient_flow_of_the_linearised_loss(reduction):
    """dθ/dt = −η c Jᵀ(f_lin(θ_t) − Y), left by central differences (relative error (λh)²/6 + eps/h)."""
    rate, step = 0.7, 1e-4
    linear = LinearizedModel(network, draw(), X, Y, rate, reduction)
    jacobian, start = jacobian_and_outputs(draw(), X)
    for t in (0.3, 4.0):
        velocity = (flat(linear.weights(t + step)) - flat(linear.weights(t - step))) / (2 * step)
        error = start.reshape(-1) + jacobian @ (flat(linear.weights(t)) - flat(draw())) - Y.reshape(-1)
        expected = -rate * WEIGHTS[reduction] * jacobian.T @ error
        np.testing.assert_allclose(velocity, expected, atol=1e-6 * np.abs(expected).max())


def test_training_starts_at_the_given_weights_and_ends_at_the_least_change_that_fits():
    linear = LinearizedModel(network, draw(), X, Y)
    np.testing.assert_array_equal(flat(linear.weights(0.0)), flat(draw()))
    jacobian, start = jacobian_and_outputs(draw(), X)
    least = np.linalg.lstsq(jacobian, (Y - start).reshape(-1), rcond=None)[0]
    condition = np.linalg.cond(jacobian) ** 2
    np.testing.assert_allclose(
        flat(linear.weights(np.inf)) - flat(draw()), least, atol=1e-14 * condition * np.abs(least).max()
    )


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_points"])
@pytest.mark.parametrize("t", [0.0, 1e-9, 0.5, 20.0, np.inf])
def test_outputs_are_the_linearised_network_at_the_weights_and_the_closed_form(t, reduction):
    """On the training set Y + exp(−η c Θ t)(f_0 − Y), here by SciPy's matrix exponential."""
    import scipy.linalg

    linear = LinearizedModel(network, draw(), X, Y, 0.7, reduction)
    np.testing.assert_array_equal(
        linear.outputs(t, X_TEST), linearize(network, draw())(linear.weights(t), X_TEST)
    )
    jacobian, start = jacobian_and_outputs(draw(), X)
    kernel = jacobian @ jacobian.T
    rate = 0.7 * WEIGHTS[reduction]
    decay = np.zeros((10, 10)) if np.isinf(t) else scipy.linalg.expm(-rate * t * kernel)
    expected = Y + (decay @ (start - Y).reshape(-1)).reshape(5, 2)
    condition = np.linalg.cond(kernel)
    np.testing.assert_allclose(linear.outputs(t, X), expected, atol=1e-14 * condition + 1e-12)


def test_early_times_do_not_cancel():
    """At t = 1e-12 the change of outputs is −η t Θ (f_0 − Y), known to a relative 1e-12 λ t."""
    linear = LinearizedModel(network, draw(), X, Y)
    jacobian, start = jacobian_and_outputs(draw(), X)
    moved = flat(linear.weights(1e-12)) - flat(draw())
    expected = -1e-12 * jacobian.T @ (start - Y).reshape(-1)
    # the weights themselves, of order 1, are stored to eps: that is what the difference can resolve
    np.testing.assert_allclose(moved, expected, atol=4 * 2.3e-16 * np.abs(flat(draw())).max())


def test_a_single_output_agrees_with_gradient_flow_of_the_empirical_kernel():
    def single(params, x):
        return network(params, x)[:, :1]

    y = Y[:, :1]
    linear = LinearizedModel(single, draw(), X, y, 0.3, "mean")
    start = linearize(single, draw())
    flow = gradient_flow(
        EmpiricalNTK(single, draw()), X, y, f0=lambda x: start(draw(), x), learning_rate=0.3, reduction="mean"
    )
    for t in (0.1, 10.0):
        np.testing.assert_allclose(linear.outputs(t, X_TEST), flow.at(t).mean(X_TEST), rtol=1e-9, atol=1e-10)


def test_more_data_than_parameters_leaves_a_finite_answer_at_infinity():
    """P = 5 < n k = 10: five null directions; the limit is the least-squares fit."""
    params = draw(width=1)
    linear = LinearizedModel(network, params, X, Y)
    jacobian, start = jacobian_and_outputs(params, X)
    least = np.linalg.lstsq(jacobian, (Y - start).reshape(-1), rcond=None)[0]
    condition = np.linalg.cond(jacobian) ** 2
    expected = flat(params) + least
    np.testing.assert_allclose(flat(linear.weights(np.inf)), expected, atol=1e-13 * condition)
    np.testing.assert_allclose(flat(linear.weights(1e12)), expected, atol=1e-13 * condition)


def test_float32_data_give_float32_weights_and_jax_data_jax_weights():
    exact = LinearizedModel(network, draw(), X, Y).weights(0.5)
    single = LinearizedModel(network, draw(), X.astype(np.float32), Y.astype(np.float32)).weights(0.5)
    assert single["w"].dtype == np.float32
    traced = LinearizedModel(
        network, draw(), jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
    ).weights(0.5)
    assert isinstance(traced["w"], jax.Array)
    # exp(−Θt) is Lipschitz in Θ: errors of about λ_max t eps32 = 1e-5
    np.testing.assert_allclose(flat(single), flat(exact), atol=1e-4)
    np.testing.assert_allclose(flat(traced), flat(exact), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": Y[:, :1]}, "as many targets as outputs, got 1 and 2"),
        ({"learning_rate": 0.0}, "positive, finite learning_rate"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        LinearizedModel(**{"f": network, "params": draw(), "x": X, "y": Y} | change).weights(1.0)


def test_negative_times_are_refused():
    linear = LinearizedModel(network, draw(), X, Y)
    with pytest.raises(ValueError, match="times of at least 0"):
        linear.weights(-1.0)


@pytest.mark.parametrize("library", [np, jnp], ids=["numpy", "jax"])
def test_several_times_at_once_are_the_single_ones(library):
    x, y = (library.asarray(array, library.float32) for array in (X, Y))
    linear, times = LinearizedModel(network, draw(), x, y, 0.7), np.array([0.0, 0.5, np.inf])
    path, outputs, losses = linear.weights(times), linear.outputs(times, x[:4]), linear.loss(times)
    assert outputs.shape == (3, 4, 2)
    assert isinstance(outputs, np.ndarray) == (library is np)
    for i, t in enumerate(times):
        single = jax.tree_util.tree_map(lambda leaf, i=i: leaf[i], path)
        # float32 products in another order: a few roundings of weights of order 1
        np.testing.assert_allclose(flat(single), flat(linear.weights(float(t))), atol=1e-5)
        np.testing.assert_allclose(outputs[i], linear.outputs(float(t), x[:4]), atol=1e-4)
        assert losses[i] == linear.loss(float(t))


def test_the_model_at_a_time_predicts():
    linear = LinearizedModel(network, draw(), X, Y)
    trained = linear.at(2)
    np.testing.assert_array_equal(flat(trained.params), flat(linear.weights(2.0)))
    np.testing.assert_array_equal(trained.mean(X_TEST), linearize(network, draw())(trained.params, X_TEST))
    np.testing.assert_array_equal(trained(X_TEST), trained.mean(X_TEST))


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_points"])
def test_the_loss_is_that_of_the_outputs(reduction):
    linear = LinearizedModel(network, draw(), X, Y, 0.7, reduction)
    for t in (0.0, 0.3, 5.0):
        expected = 0.5 * WEIGHTS[reduction] * np.sum((linear.outputs(t, X) - Y) ** 2)
        assert linear.loss(t) == pytest.approx(expected, rel=1e-9)
    assert linear.loss(np.inf) == 0.0


def test_the_model_at_several_times_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"single time, got shape \(2,\).*LinearizedModel.outputs"):
        LinearizedModel(network, draw(), X, Y).at(np.array([0.0, 1.0]))
