"""Products with Jacobian and kernel against the explicit Jacobian of `jax.jacrev`, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.empirical.gated import K, count_parameters, draw, draw_parameters, explicit_jacobian, network

from ntkit.empirical.products import (
    full_by_products,
    jacobian_product,
    kernel_product,
    squared_gradient_norms,
    traced_by_products,
    transposed_product,
)
from ntkit.empirical.tiles import bytes_per_example, plan

N, M, WIDTH = 7, 6, 16
PARAMETERS, PARAMS = count_parameters(WIDTH), draw_parameters(WIDTH)
X1, X2 = draw(4, N, 3), draw(5, M, 3)
J1, J2 = explicit_jacobian(PARAMS, X1), explicit_jacobian(PARAMS, X2)
FULL = np.einsum("iap,jbp->ijab", J1, J2)
BUDGETS = (14_000, 1)
"""Tiles of examples and chunks of vectors; one example and one vector at a time."""


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def compiled(function, f=network):
    return jax.jit(partial(function, f), static_argnames="memory_limit")


PRODUCTS = {
    function.__name__: compiled(function)
    for function in (
        full_by_products,
        jacobian_product,
        kernel_product,
        squared_gradient_norms,
        traced_by_products,
        transposed_product,
    )
}


def as_tree(flat):
    """(r, P) to a tree like the parameters with leading axes r."""
    leaves, structure = jax.tree_util.tree_flatten(PARAMS)
    parts = np.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1], axis=1)
    return structure.unflatten(
        [part.reshape(len(flat), *leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    )


def as_flat(tree):
    return np.concatenate(
        [np.array(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree_util.tree_leaves(tree)], axis=1
    )


SEEDS = st.integers(0, 2**31)


@pytest.mark.parametrize("memory_limit", BUDGETS)
@given(seed=SEEDS)
@settings(max_examples=10)
def test_products_are_those_of_the_explicit_jacobian(memory_limit, seed):
    vectors, weights = draw(seed, 3, PARAMETERS), draw(seed + 1, 3, M, K)
    pushed = PRODUCTS["jacobian_product"](PARAMS, X1, as_tree(vectors), memory_limit=memory_limit)
    np.testing.assert_allclose(pushed, np.einsum("iap,rp->ria", J1, vectors), rtol=1e-11, atol=1e-11)
    pulled = PRODUCTS["transposed_product"](PARAMS, X2, weights, memory_limit=memory_limit)
    np.testing.assert_allclose(as_flat(pulled), np.einsum("jbp,rjb->rp", J2, weights), rtol=1e-11, atol=1e-11)
    product = PRODUCTS["kernel_product"](PARAMS, X1, X2, weights, memory_limit=memory_limit)
    np.testing.assert_allclose(product, np.einsum("ijab,rjb->ria", FULL, weights), rtol=1e-10, atol=1e-10)


@given(seed=SEEDS)
@settings(max_examples=10)
def test_the_two_products_are_adjoint(seed):
    """`<u, J v> = <Jᵀ u, v>`, without any reference."""
    vectors, weights = draw(seed, 3, PARAMETERS), draw(seed + 1, 3, M, K)
    pulled = as_flat(PRODUCTS["transposed_product"](PARAMS, X2, weights, memory_limit=2**30))
    pushed = PRODUCTS["jacobian_product"](PARAMS, X2, as_tree(vectors), memory_limit=2**30)
    np.testing.assert_allclose(
        np.sum(pulled * vectors, axis=1), np.einsum("rjb,rjb->r", weights, pushed), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("memory_limit", BUDGETS)
def test_kernels_by_products_are_those_of_the_explicit_jacobian(memory_limit):
    full = PRODUCTS["full_by_products"](PARAMS, X1, X2, memory_limit=memory_limit)
    assert full.shape == (N, M, K, K)
    np.testing.assert_allclose(full, FULL, rtol=1e-10, atol=1e-10)
    traced = PRODUCTS["traced_by_products"](PARAMS, X1, X2, memory_limit=memory_limit)
    np.testing.assert_allclose(traced, np.trace(FULL, axis1=2, axis2=3) / K, rtol=1e-10, atol=1e-10)
    norms = PRODUCTS["squared_gradient_norms"](PARAMS, X1, memory_limit=memory_limit)
    np.testing.assert_allclose(norms, np.sum(J1**2, axis=2), rtol=1e-10)


def test_examples_do_not_mix():
    """A function that centres its batch gives, example by example, the product of batches of one: zero."""

    def centred(params, x):
        return (x - jnp.mean(x, axis=0, keepdims=True)) @ params

    weights = draw(0, 1, M, K)
    pulled = compiled(transposed_product, centred)(np.ones((3, K)), X2, weights, memory_limit=2**30)
    np.testing.assert_array_equal(pulled, np.zeros((1, 3, K)))


def test_inputs_may_be_trees_of_tokens_and_masks():
    def embedded(table, x):
        return jnp.sum(table[x["tokens"]] * x["mask"][:, :, None], axis=1)

    inputs = {"tokens": np.array([[0, 2], [1, 1], [2, 0]]), "mask": np.array([[1.0, 1], [1, 0], [0.5, 2]])}
    features = np.zeros((3, 3))  # weight of each row of the table in each example
    for example, (tokens, masks) in enumerate(zip(inputs["tokens"], inputs["mask"], strict=True)):
        np.add.at(features[example], tokens, masks)
    traced = compiled(traced_by_products, embedded)(np.ones((3, 4)), inputs, inputs, memory_limit=1000)
    np.testing.assert_allclose(traced, features @ features.T, rtol=1e-14)


class TestTheBudget:
    def test_an_example_costs_what_a_reverse_pass_keeps_of_it(self):
        """Of `tanh(x w) v`: the input (3), the hidden layer and its slope, no more than four times that."""

        def perceptron(params, x):
            return jnp.tanh(x @ params["w"]) @ params["v"]

        params = {"w": jnp.ones((3, 100)), "v": jnp.ones((100, 1))}
        needed = bytes_per_example(perceptron, params, jnp.ones((5, 3)))
        assert 8 * 100 <= needed <= 4 * 8 * (100 + 3)

    def test_less_memory_means_smaller_tiles_and_fewer_vectors(self):
        params, x = jax.tree_util.tree_map(jnp.asarray, PARAMS), jnp.asarray(X1)
        assert plan(network, params, x, 100, 2**30) == (N, 100)
        assert plan(network, params, x, 100, 1) == (1, 1)
        tile, at_once = plan(network, params, x, 3, BUDGETS[0])
        assert at_once > 1 and N % tile and M % tile, (
            "the tests of products are to meet a last tile that is filled up"
        )
        assert 6 * at_once * 8 * PARAMETERS <= BUDGETS[0]
        assert tile * (1 + at_once) * bytes_per_example(network, params, x) <= BUDGETS[0] / 2

    def test_no_array_of_a_product_is_as_large_as_the_jacobian(self):
        """1,000 examples, 10 outputs, 10^4 parameters: 800 MB of Jacobian, in less than 10 MB of temporaries."""

        def wide(params, x):
            return jnp.tanh(x @ params["w"]) @ params["v"]

        params = {"w": np.ones((90, 100)), "v": np.ones((100, 10))}
        x, weights = np.ones((1000, 90)), np.ones((1, 1000, 10))
        lowered = compiled(kernel_product, wide).lower(params, x, x, weights, memory_limit=2_000_000)
        assert lowered.compile().memory_analysis().temp_size_in_bytes < 10_000_000
