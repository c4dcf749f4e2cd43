"""Forms of an input distribution by brute force; the kernel gradient as the fall of the cost along the flow."""

import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from tests.rkhs.problems import KERNELS, OTHER, Laplace, X, Y, drawn

from ntkit.dynamics import gradient_flow
from ntkit.rkhs import EmpiricalRisk, InputDistribution, kernel_gradient

LAPLACE = Laplace()
DISTRIBUTION = InputDistribution(X)
LOSSES = {
    "squared": (optax.squared_error, Y),
    "logistic": (optax.sigmoid_binary_cross_entropy, (Y > 0).astype(float)),
    "huber": (optax.huber_loss, 3 * Y),
}
every_loss = pytest.mark.parametrize(("loss", "y"), LOSSES.values(), ids=LOSSES)
every_reduction = pytest.mark.parametrize(
    ("reduction", "weight"),
    [("sum", 1.0), ("mean", 1 / 18), ("mean_points", 1 / 9)],
    ids=["sum", "mean", "points"],
)


def start(x):
    """A function that is no expansion."""
    return np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_the_forms_are_the_double_means(kernel):
    f, gram = drawn(kernel, 1), kernel(X)
    left, right = f(X), start(X)
    product = np.mean([left[i] @ right[i] for i in range(9)])
    form = np.mean([left[i] @ right[j] * gram[i, j] for i in range(9) for j in range(9)])
    # Sums of 18 and 162 products of numbers below 30.
    np.testing.assert_allclose(DISTRIBUTION.inner_product(f, start), product, rtol=0, atol=1e-13)
    np.testing.assert_allclose(DISTRIBUTION.kernel_form(kernel, f, start), form, rtol=0, atol=1e-12)


@every_loss
@every_reduction
def test_the_kernel_gradient_is_the_mean_of_the_kernel_and_the_dual(loss, y, reduction, weight):
    gradient = kernel_gradient(LAPLACE, loss, start, X, y, reduction)
    cost = weight * float(jnp.sum(loss(jnp.asarray(start(X)), jnp.asarray(y))))
    np.testing.assert_allclose(gradient.cost, cost, rtol=1e-6)  # JAX's own float32 as the reference
    kernel, expected = LAPLACE(OTHER, X), np.zeros((5, 2))
    for m in range(5):
        for i in range(9):
            expected[m] += kernel[m, i] * gradient.dual[i] / 9
    np.testing.assert_allclose(gradient.function(OTHER), expected, rtol=0, atol=1e-13)
    # d represents the differential of C in ⟨·, ·⟩_p: dC(φ) = ⟨d, φ⟩_p, by differences of the cost.
    phi, step = drawn(LAPLACE, 4), 1e-4

    def shifted(epsilon):
        def f(x):
            return start(x) + epsilon * phi(x)

        return kernel_gradient(LAPLACE, loss, f, X, y, reduction).cost

    slope = (shifted(step) - shifted(-step)) / (2 * step)
    scale = weight * np.abs(gradient.dual).sum() * np.abs(phi(X)).max() + cost
    # Rounding ε/step and the third derivative times step², both below 1e-7 of the scale.
    assert abs((gradient.dual * phi(X)).mean(axis=0).sum() - slope) <= 1e-7 * scale


@every_loss
@every_reduction
def test_the_rate_is_the_fall_of_the_cost_along_the_flow(loss, y, reduction, weight):
    kernel = KERNELS["ntk relu"]
    gradient = kernel_gradient(kernel, loss, start, X, y, reduction)
    form = DISTRIBUTION.kernel_form(kernel, lambda x: gradient.dual, lambda x: gradient.dual)
    np.testing.assert_allclose(gradient.rate, -form, rtol=1e-13)
    step = 1e-4 / (1 + abs(gradient.rate))
    direction = gradient.function(X)

    def after(t):
        return kernel_gradient(kernel, loss, lambda x: start(x) - t * direction, X, y, reduction).cost

    slope = (after(step) - after(-step)) / (2 * step)
    assert gradient.rate < 0
    # Rounding of the cost over the step, and the third derivative of the cost times step².
    tolerance = 4 * np.finfo(float).eps * gradient.cost / step + 1e-6 * abs(gradient.rate)
    assert abs(slope - gradient.rate) <= tolerance


def test_the_rate_is_that_of_the_closed_form_at_every_time():
    """Half the squared loss under gradient flow: `dC/dt` from the library's spectral solution."""
    kernel = KERNELS["ntk relu"]
    flow = gradient_flow(kernel, X, Y)
    for t in (0.0, 0.3, 2.0):
        gradient = kernel_gradient(kernel, optax.l2_loss, lambda x, t=t: flow.at(t).mean(x), X, Y)
        np.testing.assert_allclose(gradient.cost, flow.loss(t), rtol=1e-10)
        step = 1e-4
        if t > 0:
            slope = (flow.loss(t + step) - flow.loss(t - step)) / (2 * step)
            np.testing.assert_allclose(gradient.rate, slope, rtol=1e-6)


@every_loss
def test_the_kernel_gradient_is_the_gradient_of_the_risk_in_the_space(loss, y):
    """The weights 1/n of the distribution and n of the dual cancel: one function, two derivations."""
    f = drawn(LAPLACE, 2)
    expected = EmpiricalRisk(loss, X, y).gradient(f)
    gradient = kernel_gradient(LAPLACE, loss, f, X, y)
    assert gradient.function.distance(expected) <= 1e-13 * expected.norm()
    np.testing.assert_allclose(gradient.rate, -expected.squared_norm(), rtol=1e-13)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"f\(x\) of the shape of y, got \(9, 2\) and \(9, 1\)"):
        kernel_gradient(LAPLACE, optax.l2_loss, start, X, Y[:, :1])
    with pytest.raises(ValueError, match=r"f\(x\) of shape \(9, outputs\), got \(9,\)"):
        DISTRIBUTION.inner_product(start, lambda x: x[:, 0])
    with pytest.raises(ValueError, match="equally many outputs, got 2 and 3"):
        DISTRIBUTION.inner_product(start, lambda x: x)
    with pytest.raises(ValueError, match="function with finite values"):
        DISTRIBUTION.inner_product(
            start, lambda x: np.log(np.zeros((9, 2)), where=False, out=np.full((9, 2), np.nan))
        )
    with pytest.raises(ValueError, match="finite at f, got inf"):
        kernel_gradient(LAPLACE, lambda f, y: jnp.exp(f), lambda x: 1e3 + 0 * start(x), X, Y)
    with pytest.raises(
        (ValueError, jaxtyping.TypeCheckError), match=r"shape \(points, features\)|parameter 'x'"
    ):
        InputDistribution(X[:, 0])
    assert repr(DISTRIBUTION) == "InputDistribution(9 points of 3 features)"
