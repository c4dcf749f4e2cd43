"""Training of finite networks against gradient descent written out by hand, and its manners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit.dynamics.ensemble import train_ensemble
from ntkit.dynamics.finite import max_learning_rate, train
from ntkit.dynamics.gradient_descent import gradient_descent
from ntkit.empirical import EmpiricalNTK, linearize
from ntkit.errors import DivergenceError

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(6, 3))
Y = GENERATOR.normal(size=(6, 2))
X_TEST = GENERATOR.normal(size=(4, 3))
Y_TEST = GENERATOR.normal(size=(4, 2))


def network(params, x):
    hidden = jnp.tanh(jnp.matmul(x, params["w"], precision="highest"))
    return jnp.matmul(hidden, params["v"], precision="highest")


def draw(seed=0):
    generator = np.random.default_rng(seed)
    return {"w": generator.normal(size=(3, 8)), "v": generator.normal(size=(8, 2)) / 4}


def descend_by_hand(params, rate, steps):
    """NumPy, with the chain rule written out: dL/dv = hᵀe, dL/dw = xᵀ[(e vᵀ)(1 − h²)]."""
    w, v = params["w"].copy(), params["v"].copy()
    for _ in range(steps):
        hidden = np.tanh(X @ w)
        error = hidden @ v - Y
        w, v = w - rate * X.T @ ((error @ v.T) * (1 - hidden**2)), v - rate * hidden.T @ error
    return w, v


def outputs_by_hand(w, v, x):
    return np.tanh(x @ w) @ v


@pytest.mark.parametrize(("reduction", "weight"), [("sum", 1.0), ("mean", 1 / 12), ("mean_points", 1 / 6)])
def test_training_is_gradient_descent_on_the_reduced_squared_loss(reduction, weight):
    history = train(
        network,
        draw(),
        X,
        Y,
        learning_rate=0.05 / weight,
        steps=40,
        reduction=reduction,
        record=[0, 7],
        test=(X_TEST, Y_TEST),
        watch=X_TEST,
    )
    assert history.steps.tolist() == [0, 7, 40]
    assert not history.interrupted
    assert history.steps_taken == 40
    test_weight = {"sum": 1.0, "mean": 1 / 8, "mean_points": 1 / 4}[reduction]
    for row, steps in enumerate((0, 7, 40)):
        w, v = descend_by_hand(draw(), 0.05, steps)
        # 40 steps of a contracting iteration keep rounding at a few hundred eps
        np.testing.assert_allclose(
            history.outputs[row], outputs_by_hand(w, v, X_TEST), rtol=1e-11, atol=1e-12
        )
        loss = weight * 0.5 * np.sum((outputs_by_hand(w, v, X) - Y) ** 2)
        assert history.loss[row] == pytest.approx(loss, rel=1e-11)
        test_loss = test_weight * 0.5 * np.sum((outputs_by_hand(w, v, X_TEST) - Y_TEST) ** 2)
        assert history.test_loss[row] == pytest.approx(test_loss, rel=1e-11)
    np.testing.assert_allclose(history.params["w"], w, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(history.params["v"], v, rtol=1e-10, atol=1e-12)


def test_what_is_recorded_does_not_change_the_training():
    """Steps are run in portions that end at records; the same arithmetic in other portions, to the last bit."""
    few = train(network, draw(), X, Y, learning_rate=0.05, steps=50, record=[])
    many = train(network, draw(), X, Y, learning_rate=0.05, steps=50, record=range(51))
    assert few.steps.tolist() == [50]
    assert many.steps.tolist() == list(range(51))
    assert few.outputs is None
    assert few.test_loss is None
    np.testing.assert_array_equal(few.params["w"], many.params["w"])
    assert few.loss[-1] == many.loss[-1]


def test_by_default_records_are_spread_over_the_whole_course():
    history = train(network, draw(), X, Y, learning_rate=0.01, steps=1000)
    assert history.steps[0] == 0
    assert history.steps[-1] == 1000
    assert 60 < len(history.steps) < 110
    assert (np.diff(history.loss) < 0).all()


def test_numpy_stays_numpy_in_its_dtype_and_jax_stays_jax():
    for dtype in (np.float32, np.float64):
        history = train(
            network,
            draw(),
            X.astype(dtype),
            Y.astype(dtype),
            learning_rate=0.05,
            steps=3,
            watch=X.astype(dtype),
        )
        assert isinstance(history.params["w"], np.ndarray)
        assert {history.params["w"].dtype, history.loss.dtype, history.outputs.dtype} == {np.dtype(dtype)}
    x, y = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
    history = train(network, draw(), x, y, learning_rate=0.05, steps=3, watch=x)
    assert isinstance(history.params["w"], jax.Array)
    assert isinstance(history.outputs, jax.Array)
    assert history.params["w"].dtype == jnp.float32


def test_the_parameters_given_are_left_alone():
    params = draw()
    train(network, params, X, Y, learning_rate=0.05, steps=3)
    np.testing.assert_array_equal(params["w"], draw()["w"])


def test_the_largest_stable_rate_is_two_over_the_largest_eigenvalue():
    full = EmpiricalNTK(network, draw()).full(X).transpose(0, 2, 1, 3).reshape(12, 12)
    largest = np.linalg.eigvalsh(full)[-1]
    assert max_learning_rate(network, draw(), X) == pytest.approx(2 / largest, rel=1e-3)
    assert max_learning_rate(network, draw(), X, "mean") == pytest.approx(2 * 12 / largest, rel=1e-3)
    assert max_learning_rate(network, {"w": draw()["w"], "v": np.zeros((8, 2))}, X) > 0
    assert max_learning_rate(lambda w, x: 0 * w * x, np.ones(()), X) == np.inf


def test_a_linear_model_descends_below_that_rate_and_diverges_above():
    """On a linear model 2/λ_max is the exact border: 3 % below it the loss falls, 3 % above it explodes."""
    linear = linearize(network, draw())
    border = max_learning_rate(linear, draw(), X, "mean")
    below = train(linear, draw(), X, Y, learning_rate=0.97 * border, steps=4000, reduction="mean")
    assert below.loss[-1] < below.loss[0]
    with pytest.raises(DivergenceError, match=r"got .*diverged within \d+ steps. Stay below about") as caught:
        train(linear, draw(), X, Y, learning_rate=1.03 * border, steps=200_000, reduction="mean")
    assert f"{border:.3g}" in str(caught.value)


def test_a_linear_model_follows_the_closed_form_of_gradient_descent():
    def model(w, x):
        return jnp.matmul(jnp.sin(3 * x), w, precision="highest")

    w = np.random.default_rng(5).normal(size=(3, 1))
    y = Y[:, :1]
    rate = max_learning_rate(model, w, X) / 2
    history = train(model, w, X, y, learning_rate=rate, steps=30, record=[1, 30], watch=X_TEST)
    descent = gradient_descent(
        EmpiricalNTK(model, w), X, y, f0=lambda x: np.sin(3 * np.asarray(x)) @ w, learning_rate=rate
    )
    for row, steps in enumerate((1, 30)):
        expected = descent.after(steps).mean(X_TEST)
        np.testing.assert_allclose(history.outputs[row], expected, rtol=1e-10, atol=1e-11)


def test_an_interrupt_keeps_what_was_computed(monkeypatch):
    """Ctrl-C is pressed by the progress bar, as it is told of step 5, between two portions of steps."""

    def press(self, completed):
        if completed >= 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("ntkit.dynamics.progress.Bar.advance_to", press)
    history = train(network, draw(), X, Y, learning_rate=0.05, steps=40, record=range(41), watch=X_TEST)
    assert history.interrupted
    assert history.steps.tolist() == [0, 1, 2, 3, 4]
    assert history.outputs.shape == (5, 4, 2)
    assert history.steps_taken == 5
    np.testing.assert_allclose(history.params["w"], descend_by_hand(draw(), 0.05, 5)[0], rtol=1e-12)


def test_an_ensemble_is_its_members_trained_one_by_one():
    def init(key):
        w, v = jax.random.split(key)
        return {"w": jax.random.normal(w, (3, 8)), "v": jax.random.normal(v, (8, 2)) / 4}

    key = jax.random.key(3)
    ensemble = train_ensemble(
        network, init, key, 3, X, Y, watch=X_TEST, learning_rate=0.05, steps=9, record=[2], reduction="sum"
    )
    assert ensemble.members == 3
    assert ensemble.steps.tolist() == [2, 9]
    assert ensemble.outputs.shape == (2, 3, 4, 2)
    assert ensemble.loss.shape == (2, 3)
    alone = [
        train(network, init(member), X, Y, learning_rate=0.05, steps=9, record=[2], watch=X_TEST)
        for member in jax.random.split(key, 3)
    ]
    np.testing.assert_allclose(ensemble.outputs, np.stack([one.outputs for one in alone], axis=1), rtol=1e-12)
    np.testing.assert_allclose(ensemble.loss, np.stack([one.loss for one in alone], axis=1), rtol=1e-12)
    np.testing.assert_allclose(ensemble.mean, np.mean([one.outputs for one in alone], axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        ensemble.std, np.std([one.outputs for one in alone], axis=0, ddof=1), rtol=1e-12
    )


def test_an_interrupted_ensemble_keeps_the_members_that_are_finished(monkeypatch):
    def three_then_interrupt(items, total, description):
        yield from list(items)[:3]
        raise KeyboardInterrupt

    def init(key):
        return {"w": jax.random.normal(key, (3, 8)), "v": jnp.ones((8, 2))}

    monkeypatch.setattr("ntkit.dynamics.ensemble.tracked", three_then_interrupt)
    ensemble = train_ensemble(
        network, init, jax.random.key(0), 10, X, Y, watch=X_TEST, learning_rate=0.01, steps=2
    )
    assert ensemble.interrupted
    assert ensemble.members == 3
    assert ensemble.loss.shape == (3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": -1.0}, "positive, finite learning_rate, got -1.0"),
        ({"steps": 0}, "at least one step, got 0"),
        ({"record": [3, 99]}, "record between 0 and steps=5, got 99"),
        ({"record": [-1]}, "record between 0 and steps=5, got -1"),
        ({"y": Y[:, :1]}, "as many targets as outputs, got 1 and 2"),
        ({"x": np.full((6, 3), np.nan)}, "finite values"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        train(**{"f": network, "params": draw(), "x": X, "y": Y, "learning_rate": 0.1, "steps": 5} | change)


def test_an_ensemble_of_one_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 members, got 1. Use train"):
        train_ensemble(network, draw, jax.random.key(0), 1, X, Y, watch=X, learning_rate=0.1, steps=1)


def test_training_inside_jit_is_refused():
    def loss(x):
        return train(network, draw(), x, jnp.asarray(Y), learning_rate=0.1, steps=1).loss

    with pytest.raises(ValueError, match="concrete arrays"):
        jax.jit(loss)(jnp.asarray(X))
