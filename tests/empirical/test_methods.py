"""The methods of the tangent kernel against each other, their memory, and the kernel of outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.empirical.models import MODELS, product

from ntkit.empirical import EmpiricalNNGP, EmpiricalNTK
from ntkit.engines import plan

METHODS = ("auto", "layerwise", "jacobian", "products")
BY_NAME = {model.name: model for model in MODELS}
AXES = {"__call__": (1, 0), "per_output": (1, 0, 2), "full": (1, 0, 3, 2)}


def linear(w, x):
    return product(x, w)


@pytest.mark.parametrize("name", ["dense", pytest.param("embedding", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", AXES, ids=["traced", "per output", "full"])
def test_all_methods_give_one_kernel(name, kind):
    model = BY_NAME[name]
    params, x1, x2 = model.params(), model.inputs(3, 1), model.inputs(2, 2)
    results = {}
    for method in METHODS:
        of = getattr(EmpiricalNTK(model.f, params, method=method), kind)
        results[method] = (of(x1), of(x1, x2))
    for symmetric, other in results.values():
        np.testing.assert_array_equal(symmetric, symmetric.transpose(AXES[kind]))
        # sums of some hundred float64 products in another order
        for result, expected in zip((symmetric, other), results["jacobian"], strict=True):
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_a_method_that_was_asked_for_is_the_one_of_the_plan():
    model = BY_NAME["dense"]
    params, x = model.params(), model.inputs(3, 1)
    plans = {method: EmpiricalNTK(model.f, params, method=method).plan(x) for method in METHODS}
    assert [plans[method].method for method in METHODS] == ["layerwise", "layerwise", "jacobian", "products"]
    assert all(leaf.form == "rows" for _, leaf in plans["jacobian"].leaves)


def test_too_little_memory_for_one_example_goes_by_products_unless_a_method_was_asked_for():
    generator = np.random.default_rng(0)
    w, x = generator.normal(size=(30, 20)), generator.normal(size=(3, 30))
    # What is kept of one example is at least its 30 inputs and 20 cotangents, 20 numbers each, in float64.
    small = 8 * (30 + 20 * 20)
    kernel = EmpiricalNTK(linear, w, memory_limit=small)
    assert kernel.plan(x).method == "products"
    # f = x W: the traced kernel is x x'ᵀ
    np.testing.assert_allclose(kernel(x), x @ x.T, rtol=1e-13, atol=1e-12)
    for method in ("layerwise", "jacobian"):
        with pytest.raises(ValueError, match=rf"got {small}. Raise memory_limit.*method=\"products\""):
            EmpiricalNTK(linear, w, memory_limit=small, method=method)(x)


def test_a_result_larger_than_the_machine_is_refused_before_anything_is_computed(monkeypatch):
    kernel, x = EmpiricalNTK(linear, np.ones((3, 2))), np.ones((100, 3))
    monkeypatch.setattr(plan, "physical_memory", lambda: 8 * 100 * 100)
    assert kernel(x).shape == (100, 100)
    with pytest.raises(MemoryError, match=r"100 x 100 points and 2 outputs .* Use fewer points.*NTKOperator"):
        kernel.full(x)
    monkeypatch.setattr(plan, "physical_memory", lambda: 8 * 100 * 100 - 1)
    with pytest.raises(MemoryError, match="Use fewer points"):
        kernel(x)


def batch_centred(w, x):
    hidden = product(x, w)
    return hidden - hidden.mean(axis=0, keepdims=True)


def batch_normalised(w, x):
    hidden = product(x, w)
    centred = hidden - hidden.mean(axis=0, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(axis=0, keepdims=True) + 1e-3)


def reading_the_point_before(w, x):
    return jnp.cumsum(product(x, w), axis=0)


def dropping_out(w, x):
    """One key for the whole batch: each point loses other inputs."""
    kept = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
    return product(jnp.where(kept, x, 0.0), w)


@pytest.mark.parametrize("kind", [EmpiricalNTK, EmpiricalNNGP])
@pytest.mark.parametrize("f", [batch_centred, batch_normalised, reading_the_point_before, dropping_out])
def test_a_function_that_mixes_its_points_is_refused(f, kind):
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"treat each point alone.*Use evaluation mode"):
        kind(f, generator.normal(size=(6, 2)))(generator.normal(size=(4, 6)))


@pytest.mark.parametrize("method", METHODS)
def test_a_derivative_that_is_not_finite_is_reported_with_its_place(method):
    """d sqrt(w·x)/dw is infinite where w·x = 0: at the second point."""
    x = np.array([[1.0, 1.0], [1.0, -1.0], [2.0, 1.0]])
    kernel = EmpiricalNTK(lambda w, x: jnp.sqrt(product(x, w)), np.ones((2, 1)), method=method)
    with pytest.raises(ValueError, match=r"finite derivatives, got (inf|nan) at entry \[0, 1\]"):
        kernel(x)
    with pytest.raises(ValueError, match=r"finite derivatives, got (inf|nan) at entry \[1\]"):
        kernel.diag(x)


class TestKernelOfOutputs:
    w = np.random.default_rng(0).normal(size=(3, 2))
    x1 = np.random.default_rng(1).normal(size=(4, 3))
    x2 = np.random.default_rng(2).normal(size=(2, 3))

    @staticmethod
    def f(w, x):
        hidden = jnp.tanh(product(x, w))
        return {"a": hidden, "b": hidden[:, :1, None] * x[:, None, :]}

    def outputs(self, x):
        hidden = np.tanh(x @ self.w)
        return np.concatenate([hidden, hidden[:, :1] * x], axis=1)

    def test_is_the_product_of_outputs(self):
        kernel, left, right = EmpiricalNNGP(self.f, self.w), self.outputs(self.x1), self.outputs(self.x2)
        np.testing.assert_allclose(kernel(self.x1, self.x2), left @ right.T / 5, rtol=1e-13, atol=1e-14)
        gram = kernel(self.x1)
        np.testing.assert_allclose(gram, left @ left.T / 5, rtol=1e-13, atol=1e-14)
        np.testing.assert_array_equal(gram, gram.T)
        np.testing.assert_allclose(kernel.diag(self.x1), (left**2).mean(axis=1), rtol=1e-13)
        full = np.einsum("na,mb->nmab", left, right)
        np.testing.assert_allclose(kernel.full(self.x1, self.x2), full, rtol=1e-13, atol=1e-14)
        assert gram.dtype == np.float64


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="EmpiricalNNGP needs f with finite outputs"):
        EmpiricalNNGP(lambda w, x: jnp.log(product(x, w)), np.ones((2, 1)))(-np.ones((2, 2)))
