"""Every functional's gradient against differences of its values, its algebra, and what it refuses."""

import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rkhs.problems import KERNELS, OTHER, TEST, Laplace, X, Y, drawn, scale

from ntkit.kernels import RBF
from ntkit.rkhs import (
    Composition,
    EmpiricalRisk,
    Evaluation,
    Expansion,
    InnerProduct,
    SquaredNorm,
    representer,
)

EPS = np.finfo(float).eps
LAPLACE = Laplace()
CLASSES = np.eye(2)[np.arange(9) % 2]


def pseudo_huber(outputs, targets):
    """A loss of the user's own, which sums over outputs itself."""
    return jnp.sum(jnp.sqrt(1.0 + jnp.square(outputs - targets)) - 1.0, axis=1)


def softplus(value):
    return jnp.log1p(jnp.exp(value))


def table(kernel):
    """Every functional, elementary and composed, on functions with two outputs."""
    evaluation = Evaluation(TEST[0], 1)
    risk = EmpiricalRisk(optax.squared_error, X, Y)
    return {
        "evaluation": evaluation,
        "squared norm": SquaredNorm(),
        "inner product": InnerProduct(drawn(kernel, 91, OTHER)),
        "squared error": risk,
        "half squared error": EmpiricalRisk(optax.l2_loss, OTHER, Y[:5], reduction="mean"),
        "cross-entropy": EmpiricalRisk(optax.softmax_cross_entropy, X, CLASSES, reduction="mean_points"),
        "logistic": EmpiricalRisk(optax.sigmoid_binary_cross_entropy, X, CLASSES),
        "own loss": EmpiricalRisk(pseudo_huber, X, Y),
        "duplicated data": EmpiricalRisk(pseudo_huber, np.concatenate([X, X]), np.concatenate([Y, -Y])),
        "sum": risk + 0.3 * SquaredNorm() - evaluation,
        "multiple": -(evaluation / 4),
        "composition": Composition(softplus, 0.1 * SquaredNorm() - risk / 10),
        "composition, derivative given": Composition(np.sin, evaluation, derivative=np.cos),
        "nested": Composition(jnp.sin, Composition(jnp.square, evaluation) + 0.01 * SquaredNorm()),
    }


FUNCTIONALS = table(LAPLACE)


def check_gradient(functional, kernel, seed):
    """`(J[f + εφ] − J[f − εφ]) / 2ε = ⟨∇J[f], φ⟩`, extrapolated from ε and ε/2 to an error of ε⁴."""
    f, phi = 0.3 * drawn(kernel, seed), drawn(kernel, seed + 1, OTHER)
    phi = phi / phi.norm()
    step = 2e-3

    def slope(epsilon):
        return (functional.value(f + epsilon * phi) - functional.value(f - epsilon * phi)) / (2 * epsilon)

    expected = (4 * slope(step / 2) - slope(step)) / 3
    size = abs(functional.value(f)) + scale(f)
    # Rounding of values divided by ε, and the fifth derivative along φ, of order 1e2 sizes here, times ε⁴.
    tolerance = (100 * EPS / step + 100 * step**4) * (size + 1)
    deviation = abs(functional.gradient(f) @ phi - expected)
    assert deviation <= tolerance
    return deviation / (size + 1)


@pytest.mark.parametrize("name", FUNCTIONALS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_every_gradient_is_the_derivative_in_every_direction(name, seed):
    check_gradient(FUNCTIONALS[name], LAPLACE, seed)


@pytest.mark.parametrize("kernel", [KERNELS["ntk relu"]], ids=["ntk relu"])
@pytest.mark.parametrize("name", ["squared error", "nested", "sum"])
def test_gradients_in_the_space_of_a_network_too(kernel, name):
    check_gradient(table(kernel)[name], kernel, 5)


def test_values_are_what_the_formulas_say():
    f, g = drawn(LAPLACE, 1), drawn(LAPLACE, 2, OTHER)
    assert Evaluation(TEST[2], 1).value(f) == f(TEST[2:3])[0, 1]
    assert SquaredNorm().value(f) == f.squared_norm()
    assert abs(InnerProduct(g).value(f) - f @ g) <= 64 * EPS * np.sqrt(scale(f) * scale(g))
    errors = ((f(X) - Y) ** 2).sum()
    for reduction, weight in {"sum": 1.0, "mean": 1 / 18, "mean_points": 1 / 9}.items():
        risk = EmpiricalRisk(optax.squared_error, X, Y, reduction=reduction)
        np.testing.assert_allclose(risk.value(f), weight * errors, rtol=1e-14)
        np.testing.assert_allclose(risk.gradient(f).coefficients, weight * 2 * (f(X) - Y), rtol=1e-13)
    both = Composition(np.exp, -2.0 * Evaluation(TEST[0]), derivative=np.exp)
    np.testing.assert_allclose(both.value(f), np.exp(-2.0 * f(TEST[:1])[0, 0]), rtol=1e-14)


def test_elementary_gradients_are_the_textbook_ones():
    f, g = drawn(LAPLACE, 1), drawn(LAPLACE, 2, OTHER)
    assert SquaredNorm().gradient(f).distance(2 * f) == 0.0
    assert InnerProduct(g).gradient(f).distance(g) == 0.0
    assert Evaluation(TEST[0], 1).gradient(f).distance(representer(LAPLACE, TEST[0], 1, 2)) == 0.0


def test_the_algebra_is_linear():
    f, first, second = drawn(LAPLACE, 1), FUNCTIONALS["evaluation"], FUNCTIONALS["logistic"]
    a, b = first.value(f), second.value(f)
    cases = [
        (first + second, a + b),
        (first - second, a - b),
        (-first, -a),
        (3 * first, 3 * a),
        (first / 4, a / 4),
    ]
    for functional, expected in cases:
        np.testing.assert_allclose(functional.value(f), expected, rtol=1e-15)
    with pytest.raises(TypeError):
        first + 1.0  # type: ignore[operator]
    with pytest.raises(ValueError, match="divisor other than 0"):
        first / 0
    with pytest.raises(ValueError, match="finite factor, got inf"):
        np.inf * first


def test_only_affine_gradients_count_as_quadratic():
    names = {name for name, functional in FUNCTIONALS.items() if functional.is_quadratic}
    elementary = {"evaluation", "squared norm", "inner product", "squared error", "half squared error"}
    assert names == elementary | {"sum", "multiple"}
    composed = FUNCTIONALS["composition"]
    assert not any(
        mixed.is_quadratic for mixed in (SquaredNorm() + composed, composed + SquaredNorm(), 2 * composed)
    )


def test_functionals_name_themselves():
    ridge = EmpiricalRisk(optax.squared_error, X, Y) + 0.5 * SquaredNorm()
    assert repr(ridge) == "EmpiricalRisk(squared_error, 9 points, 2 outputs, 'sum') + 0.5 * (SquaredNorm())"
    assert (
        repr(Composition(softplus, Evaluation(np.array([1.0])))) == "softplus(Evaluation(at [1.], output=0))"
    )


def test_what_does_not_fit_is_refused():
    f = drawn(LAPLACE, 1)
    with pytest.raises(ValueError, match="output between 0 and 1 for 2 outputs, got 2"):
        Evaluation(X[0], 2).value(f)
    with pytest.raises(ValueError, match="InnerProduct needs functions of one kernel"):
        InnerProduct(drawn(RBF(), 1)).value(f)
    with pytest.raises(ValueError, match="one output per column of y, got 2 outputs and 1 columns"):
        EmpiricalRisk(optax.l2_loss, X, Y[:, :1]).gradient(f)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="one row of y per point|parameter 'y'"):
        EmpiricalRisk(optax.l2_loss, X, Y[:5])
    with pytest.raises(ValueError, match="needs rows of y that are probabilities"):
        EmpiricalRisk(optax.softmax_cross_entropy, X, Y)
    with pytest.raises(
        (ValueError, jaxtyping.TypeCheckError), match="needs loss as a callable|parameter 'loss'"
    ):
        EmpiricalRisk("squared", X, Y)  # type: ignore[arg-type]
    with pytest.raises(
        (ValueError, jaxtyping.TypeCheckError), match="callable function|parameter 'function'"
    ):
        Composition(3, SquaredNorm())  # type: ignore[arg-type]


def test_a_functional_that_is_not_finite_is_an_error_and_no_nan():
    f = Expansion(LAPLACE, X, np.full((9, 2), -1.0))
    with pytest.raises(ValueError, match="needs a function at which it is finite, got value nan"):
        Composition(jnp.log, Evaluation(X[0])).value(f)
    with pytest.raises(ValueError, match="needs a loss that is finite"):
        EmpiricalRisk(lambda outputs, targets: jnp.log(outputs - 1.0), X, Y)
