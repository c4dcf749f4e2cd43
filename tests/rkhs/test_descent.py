"""Functional gradient descent: kernel ridge regression, closed forms, both paths, stopping, refusing, interrupts."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.rkhs.problems import KERNELS, OTHER, Given, Laplace, X, Y, drawn

from ntkit.dynamics import gradient_descent
from ntkit.errors import DivergenceError, NotPositiveDefiniteError
from ntkit.rkhs import (
    Composition,
    DescentDivergedError,
    EmpiricalRisk,
    Evaluation,
    Expansion,
    Functional,
    InnerProduct,
    SquaredNorm,
    functional_gradient_descent,
    largest_stable_step,
)
from ntkit.rkhs.descent import descend
from ntkit.rkhs.positions import FreePosition, place

EPS = np.finfo(float).eps
LAPLACE = Laplace()


def ridge(penalty, x=X, y=Y):
    return EmpiricalRisk(optax.squared_error, x, y) + penalty * SquaredNorm()


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_the_limit_is_kernel_ridge_regression(kernel):
    """`(K + λ I)^{-1} y` to 1e-10. The distance to it is at most the gradient's norm over 2 λ (strong convexity)."""
    penalty = 0.1
    gram = kernel(X)
    functional, start = ridge(penalty), Expansion.zero(kernel, X, 2)
    step = 1.0 / (np.linalg.eigvalsh(gram)[-1] + 2 * penalty)
    descent = functional_gradient_descent(functional, start, step_size=step, steps=20_000, tolerance=1e-13)
    assert descent.converged and 100 < descent.steps_taken < 20_000
    expected = np.linalg.solve(gram + penalty * np.eye(9), Y)
    np.testing.assert_allclose(descent.function.coefficients, expected, rtol=0, atol=1e-10)
    distance = descent.function.distance(Expansion(kernel, X, expected))
    assert distance <= descent.gradient_norm[-1] / (2 * penalty) + 1e-11
    assert distance <= 1e-10


def test_unregularised_steps_are_those_of_gradient_descent_in_closed_form():
    """Half the squared error: k steps from zero are `gradient_descent(...).after(k)` at new points."""
    kernel = KERNELS["ntk relu"]
    risk = EmpiricalRisk(optax.l2_loss, X, Y)
    rate = 0.5 * largest_stable_step(risk, Expansion.zero(kernel, X, 2))
    closed = gradient_descent(kernel, X, Y, learning_rate=rate)
    for steps in (1, 2, 30):
        descent = functional_gradient_descent(
            risk, Expansion.zero(kernel, X, 2), step_size=rate, steps=steps, tolerance=0.0
        )
        np.testing.assert_allclose(
            descent.function(OTHER), closed.after(steps).mean(OTHER), rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(descent.value[-1], closed.loss(steps), rtol=1e-11)
        assert descent.steps_taken == steps


FUNCTIONALS = {
    "ridge": ridge(0.2),
    "logistic": EmpiricalRisk(optax.sigmoid_binary_cross_entropy, X, (Y > 0).astype(float))
    + 0.1 * SquaredNorm(),
    "points twice": EmpiricalRisk(optax.huber_loss, np.concatenate([OTHER, X[:2], OTHER[:2]]), Y)
    + 0.1 * SquaredNorm(),
    "composed": Composition(jnp.square, Evaluation(OTHER[1], 1))
    - 0.1 * InnerProduct(drawn(LAPLACE, 8, OTHER)),
}


@pytest.mark.parametrize("name", FUNCTIONALS)
def test_fixed_centres_and_free_expansions_agree_step_by_step(name):
    functional, start = FUNCTIONALS[name], drawn(LAPLACE, 3)
    step = 0.05
    fixed, free = place(functional, start), FreePosition(start)
    by_hand = start
    for _ in range(8):
        first, second = fixed.look(functional), free.look(functional)
        np.testing.assert_allclose(first[:3], second[:3], rtol=1e-12)
        fixed, free = first.move(step), second.move(step)
        by_hand = by_hand - step * functional.gradient(by_hand)
        # Eight steps of sums of at most 15 terms of size below 10.
        for function in (fixed.expansion(), free.expansion()):
            np.testing.assert_allclose(function(OTHER), by_hand(OTHER), rtol=0, atol=1e3 * EPS)
    history = functional_gradient_descent(functional, start, step_size=step, steps=8, tolerance=0.0)
    generic = descend(functional, FreePosition(start), step, 8, 0.0)
    np.testing.assert_allclose(history.value, generic.value, rtol=1e-12)
    np.testing.assert_allclose(history.gradient_norm, generic.gradient_norm, rtol=1e-11)
    np.testing.assert_allclose(history.norm[-1], by_hand.norm(), rtol=1e-12)


def test_values_that_are_added_up_are_multiplied_out_before_rounding_gathers():
    functional = FUNCTIONALS["ridge"]
    position, additions = place(functional, drawn(LAPLACE, 3)), []
    for _ in range(120):
        position = position.look(functional).move(0.05)
        additions.append(position.function.additions)
    assert additions[:3] == [1, 2, 3] and max(additions) == 49 and additions.count(0) == 2
    function = position.function
    expected = function.span.gram @ function.coefficients
    np.testing.assert_allclose(function.values, expected, rtol=0, atol=50 * EPS * np.abs(expected).max())


@dataclass(frozen=True, eq=False)
class SquareAtTheFirstCentre(Functional):
    """A functional whose point depends on the function: `f_0(c)²` at its first centre."""

    points: None = field(default=None, init=False)
    is_quadratic: bool = field(default=False, init=False)

    def differential(self, f):
        return Composition(jnp.square, Evaluation(f.centers[0])).differential(f)


def test_a_functional_without_fixed_points_descends_too():
    start = drawn(LAPLACE, 3)
    descent = functional_gradient_descent(SquareAtTheFirstCentre(), start, step_size=0.1, steps=5)
    by_hand = start
    for _ in range(5):
        by_hand = by_hand - 0.1 * SquareAtTheFirstCentre().gradient(by_hand)
    assert descent.function.distance(by_hand) == 0.0
    # (1 - 2 α K(c, c))^2s of the value, at a centre of K = 1.
    np.testing.assert_allclose(descent.value, descent.value[0] * 0.8 ** (2.0 * np.arange(6)), rtol=1e-12)


def test_jax_arrays_give_a_function_of_jax_arrays():
    kernel = KERNELS["ntk relu"]
    x, y = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
    functional, start = ridge(0.5, x, y), Expansion.zero(kernel, x, 2)
    assert isinstance(functional.gradient(start).coefficients, jax.Array)
    found = functional_gradient_descent(functional, start, step_size=0.02, steps=40, tolerance=0.0).function
    assert isinstance(found(x), jax.Array) and found(x).dtype == jnp.float32
    double = functional_gradient_descent(
        ridge(0.5), Expansion.zero(kernel, X, 2), step_size=0.02, steps=40, tolerance=0.0
    ).function
    # The kernel in float32, of entries below 5, times coefficients that sum to less than 20.
    np.testing.assert_allclose(found(x), double(X), rtol=0, atol=1e-4)


def test_the_history_tells_value_norm_and_gradient():
    functional, start = ridge(0.2), drawn(LAPLACE, 3)
    descent = functional_gradient_descent(functional, start, step_size=0.05, steps=3, tolerance=0.0)
    assert len(descent.value) == len(descent.norm) == len(descent.gradient_norm) == 4
    np.testing.assert_allclose(descent.value[0], functional.value(start), rtol=1e-13)
    np.testing.assert_allclose(descent.gradient_norm[0], functional.gradient(start).norm(), rtol=1e-13)
    np.testing.assert_allclose(descent.norm[[0, -1]], [start.norm(), descent.function.norm()], rtol=1e-13)
    assert (np.diff(descent.value) < 0).all()
    assert repr(descent).startswith("FunctionalDescent(not converged after 3 steps, value ")


def test_the_descent_stops_at_the_tolerance_and_at_once_at_a_minimum():
    functional, start = ridge(0.5), Expansion.zero(LAPLACE, X, 2)
    loose = functional_gradient_descent(functional, start, step_size=0.2, steps=5000, tolerance=1e-3)
    assert loose.converged
    assert loose.gradient_norm[-1] <= 1e-3 * loose.gradient_norm[0] < loose.gradient_norm[-2]
    nothing = functional_gradient_descent(SquaredNorm(), start, step_size=0.2, steps=10)
    assert nothing.converged and nothing.steps_taken == 0


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize("count", [5, 9])
def test_the_largest_stable_step_is_that_of_the_spectrum(count, penalty):
    """Of 10 coordinates by the matrix, of 18 by Arnoldi: `1 / (λ_max + λ)` for the squared error."""
    functional = ridge(penalty, X[:count], Y[:count])
    expected = 1.0 / (np.linalg.eigvalsh(LAPLACE(X[:count]))[-1] + penalty)
    start = drawn(LAPLACE, 1, X[:count])
    np.testing.assert_allclose(largest_stable_step(functional, start), expected, rtol=1e-10)
    assert largest_stable_step(InnerProduct(start) - SquaredNorm(), start) == np.inf
    assert largest_stable_step(InnerProduct(start), start) == np.inf


def test_a_step_just_below_the_bound_converges_and_one_at_it_is_refused_at_once():
    functional, start = ridge(0.5), drawn(LAPLACE, 1)
    bound = largest_stable_step(functional, start)
    good = functional_gradient_descent(functional, start, step_size=0.99 * bound, steps=5000, tolerance=1e-8)
    assert good.converged
    with pytest.raises(DivergenceError, match=r"needs a step_size below .* got") as caught:
        functional_gradient_descent(functional, start, step_size=1.01 * bound, steps=10)
    assert isinstance(caught.value, DescentDivergedError)
    assert caught.value.result.function.distance(start) == 0.0 and caught.value.result.steps_taken == 0


def test_a_diverging_descent_is_noticed_and_keeps_its_best():
    """No bound is known for `cosh(f(x))`: its value overshoots and rises."""
    functional = Composition(jnp.cosh, Evaluation(X[0])) + 0.001 * SquaredNorm()
    start = Expansion(LAPLACE, X[:1], np.array([[2.0]]))
    with pytest.raises(
        DescentDivergedError, match=r"smaller step_size, got 3: .* rose above where it began"
    ) as caught:
        functional_gradient_descent(functional, start, step_size=3.0, steps=100)
    result = caught.value.result
    assert functional.value(result.function) == pytest.approx(result.value.min(), rel=1e-12)
    huge = Composition(jnp.exp, Composition(jnp.square, Evaluation(X[0])))
    with pytest.raises(DescentDivergedError, match=r"was not finite \((inf|nan)\) after 1 steps"):
        functional_gradient_descent(huge, start, step_size=3.0, steps=100)
    with pytest.raises(DescentDivergedError, match="finite at f0, got nan"):
        functional_gradient_descent(Composition(jnp.log, -1.0 * SquaredNorm()), start, step_size=1.0, steps=1)


def test_ctrl_c_loses_nothing():
    calls = []

    def counted(value):
        calls.append(value)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return value**2

    functional = Composition(counted, Evaluation(X[0]), derivative=lambda value: 2 * value)
    start = Expansion(LAPLACE, X[:1], np.array([[2.0]]))
    descent = functional_gradient_descent(functional, start, step_size=0.1, steps=100)
    assert descent.interrupted and not descent.converged and descent.steps_taken == 3
    # (1 - 2 α)^k a for the square at a centre of K = 1; the step to k = 4 was taken when the interrupt came.
    np.testing.assert_allclose(descent.function.coefficients, [[2.0 * 0.8**4]], rtol=1e-14)
    assert "interrupted after 3 steps" in repr(descent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_size": 0.0}, "positive, finite step_size, got 0.0"),
        ({"step_size": np.inf}, "positive, finite step_size, got inf"),
        ({"steps": 0}, "at least one step, got 0"),
        ({"tolerance": -1.0}, "tolerance of at least 0, got -1.0"),
        ({"f0": drawn(LAPLACE, 1, X[:, :2])}, "equally many features, got 2 and 3"),
        ({"f0": drawn(LAPLACE, 1, outputs=1)}, "one output per column of y, got 1 outputs and 2"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, message):
    arguments = {"f0": Expansion.zero(LAPLACE, X, 2), "step_size": 0.1, "steps": 3} | changes
    f0 = arguments.pop("f0")
    with pytest.raises(ValueError, match=message):
        functional_gradient_descent(ridge(0.1), f0, **arguments)


def test_a_bound_is_refused_where_none_is_known():
    with pytest.raises(ValueError, match="needs a quadratic functional"):
        largest_stable_step(Composition(jnp.exp, SquaredNorm()), drawn(LAPLACE, 1))


def test_a_kernel_that_is_none_is_refused():
    points, y = np.array([[0.0], [1.0]]), np.array([[1.0], [-1.0]])
    risk = EmpiricalRisk(optax.huber_loss, points, y)
    indefinite = Expansion.zero(Given([[1.0, 3.0], [3.0, 1.0]]), points)
    with pytest.raises(NotPositiveDefiniteError, match=r"‖f‖² = -4"):
        functional_gradient_descent(risk, indefinite, step_size=0.2, steps=4)
    asymmetric = Expansion.zero(Given([[1.0, 0.5], [0.0, 1.0]]), points)
    with pytest.raises(ValueError, match="needs a symmetric Gram matrix"):
        functional_gradient_descent(risk, asymmetric, step_size=0.2, steps=4)
