"""Convolutions in the order of axes that is fast inside loops: the same numbers, and indeed that order."""

import itertools
import re
from dataclasses import replace

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import lax

from ntkit.dynamics import problem
from ntkit.empirical import EmpiricalNTK
from ntkit.empirical.blocks import compiled_derivatives
from ntkit.empirical.contraction import Traced
from ntkit.empirical.convolution import in_fast_order
from ntkit.empirical.products import jacobian_product, transposed_product
from ntkit.empirical.tiles import plan

LAYOUTS = (("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("CNWH", "IHOW", "HNCW"))


def by_hand(data, filters, strides, padding, lhs_dilation, rhs_dilation, groups):
    """The sum itself, in NumPy: images (n, channels, a, b) and filters (outputs, channels of a group, a, b)."""
    spread = [(size - 1) * gap + 1 for size, gap in zip(data.shape[2:], lhs_dilation, strict=True)]
    inner = np.zeros((*data.shape[:2], *spread))
    inner[:, :, :: lhs_dilation[0], :: lhs_dilation[1]] = data
    padded = np.pad(inner, ((0, 0), (0, 0), *padding))
    counts = [
        (length - (size - 1) * gap - 1) // stride + 1
        for length, size, gap, stride in zip(
            padded.shape[2:], filters.shape[2:], rhs_dilation, strides, strict=True
        )
    ]
    result = np.zeros((len(data), len(filters), *counts))
    wide, deep = len(filters) // groups, filters.shape[1]
    for output, a, b in itertools.product(range(len(filters)), *map(range, counts)):
        first = output // wide * deep
        for c, i, j in itertools.product(range(deep), *map(range, filters.shape[2:])):
            seen = padded[
                :, first + c, a * strides[0] + i * rhs_dilation[0], b * strides[1] + j * rhs_dilation[1]
            ]
            result[:, output, a, b] += filters[output, c, i, j] * seen
    return result


def arranged(array, names, letters):
    """The axes of an array, named so, in the order of these letters."""
    return array.transpose([names.index(letter) for letter in letters])


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
margins = st.tuples(st.integers(0, 2), st.integers(0, 2))


@given(
    pairs,
    st.tuples(margins, margins),
    pairs,
    pairs,
    st.integers(1, 2),
    st.sampled_from(LAYOUTS),
    st.booleans(),
)
@settings(max_examples=8)
def test_convolutions_and_their_derivatives_of_both_modes(
    strides, padding, up, gaps, groups, layout, reverse
):
    generator = np.random.default_rng(0)
    data, filters = generator.normal(size=(2, 2 * groups, 6, 7)), generator.normal(size=(2 * groups, 2, 2, 3))
    by = (strides, padding, up, gaps, groups)
    expected = by_hand(data, filters, *by)

    def convolve(data, filters):
        return lax.conv_general_dilated(
            data,
            filters,
            strides,
            padding,
            lhs_dilation=up,
            rhs_dilation=gaps,
            feature_group_count=groups,
            dimension_numbers=layout,
            precision="highest",
        )

    cotangents = generator.normal(size=(3, *expected.shape))
    moved, turned = generator.normal(size=data.shape), generator.normal(size=filters.shape)
    with jax.enable_x64(True):
        at, along = (
            (jnp.array(arranged(left, "NCHW", layout[0])), jnp.array(arranged(right, "OIHW", layout[1])))
            for left, right in ((data, filters), (moved, turned))
        )
        ours = in_fast_order(convolve, reverse=reverse)
        result, pushed = map(np.array, jax.jvp(ours, at, along))
        # Outputs one by one, as the tangent kernel takes them: a second axis of images.
        pulled = jax.vmap(jax.vjp(ours, *at)[1])(
            jnp.array(np.stack([arranged(cotangent, "NCHW", layout[2]) for cotangent in cotangents]))
        )
        back = [np.array(jnp.einsum("a...,...->a", *pair)) for pair in zip(pulled, along, strict=True)]
    # sums of at most 24 products of float64
    np.testing.assert_allclose(result, arranged(expected, "NCHW", layout[2]), rtol=0, atol=1e-13)
    changes = by_hand(moved, filters, *by), by_hand(data, turned, *by)
    np.testing.assert_allclose(pushed, arranged(sum(changes), "NCHW", layout[2]), rtol=0, atol=1e-13)
    for mine, change in zip(back, changes, strict=True):
        # sums of some thousand
        np.testing.assert_allclose(mine, np.einsum("anoij,noij->a", cotangents, change), rtol=0, atol=1e-11)


def network(params, x):
    """Channels first, the second layer with a stride."""
    for w, stride in zip(params, (1, 2), strict=True):
        x = jnp.tanh(lax.conv_general_dilated(x, w, (stride, stride), "SAME", precision="highest"))
    return x.mean(axis=(2, 3))


PARAMS = [
    np.random.default_rng(seed).normal(size=shape) for seed, shape in enumerate([(3, 2, 3, 3), (2, 3, 3, 3)])
]
X = np.random.default_rng(2).normal(size=(4, 2, 12, 11))
"""Larger than the filters: XLA exchanges the two where it is the other way round."""


def orders_of_axes(lowered):
    """Of all convolutions of a compiled program."""
    return set(re.findall(r"convolution\(.*dim_labels=(\S+?)[,\s]", lowered.compile().as_text()))


def test_inside_a_loop_every_convolution_is_in_the_order_that_is_fast():
    with jax.enable_x64(True):
        params, x = jax.tree_util.tree_map(jnp.array, (PARAMS, X))
        kernel = EmpiricalNTK(network, params)
        task = replace(kernel._task(kernel.plan(x), Traced()), chunk=2)
        assert orders_of_axes(compiled_derivatives.lower(task, params, {}, x)) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("product", [transposed_product, jacobian_product], ids=["reverse", "forward"])
def test_products_in_tiles_are_in_the_order_that_is_fast(product):
    params, x = jax.tree_util.tree_map(lambda leaf: jnp.array(leaf, jnp.float32), (PARAMS, X))
    limit = 2**16
    assert plan(network, params, x, 1, limit) == (2, 1)  # a loop over tiles of two examples
    vectors = jnp.ones((1, 4, 2)) if product is transposed_product else [leaf[None] for leaf in params]
    lowered = jax.jit(product, static_argnums=(0, 4)).lower(network, params, x, vectors, limit)
    assert orders_of_axes(lowered) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("loop", ["training", "the largest learning rate"])
def test_loops_over_all_points_are_in_the_order_that_is_fast(loop):
    params, x = jax.tree_util.tree_map(lambda leaf: jnp.array(leaf, jnp.float32), (PARAMS, X))
    if loop == "training":
        lowered = problem._descend.lower(network, params, x, jnp.ones((4, 2)), 0.1, 3)
    else:
        lowered = problem._power_iteration.lower(network, params, x)
    assert orders_of_axes(lowered) == {"b01f_01io->b01f"}


def test_the_kernel_of_a_convolutional_network_has_derivatives_of_both_modes():
    with jax.enable_x64(True):
        params, x = jax.tree_util.tree_map(jnp.array, (PARAMS, X[:2, :, :4, :5]))

        def trace_of(params, x):
            return jnp.trace(EmpiricalNTK(network, params)(x))

        direction = jax.tree_util.tree_map(
            lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), (params, x)
        )
        forward = jax.jit(lambda *at: jax.jvp(trace_of, at, direction)[1])(params, x)
        slopes = jax.jit(jax.grad(trace_of, (0, 1)))(params, x)
        terms = [
            np.array(slope * step)
            for slope, step in zip(*map(jax.tree_util.tree_leaves, (slopes, direction)), strict=True)
        ]
    # float64 sums of some thousand numbers
    scale = sum(np.abs(term).sum() for term in terms)
    assert abs(float(forward) - sum(term.sum() for term in terms)) <= 1e-12 * scale
    assert abs(float(forward)) > 1e-3 * scale
