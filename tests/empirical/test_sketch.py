"""Random projections of Jacobians against the exact kernel: unbiased, with the stated errors, one for all points."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.empirical.gated import (
    K,
    count_parameters,
    draw,
    draw_parameters,
    explicit_jacobian,
    looped,
    network,
)

from ntkit.empirical import SketchedNTK
from ntkit.empirical.projection import cheaper_projection, random_signs

N, M, WIDTH = 6, 4, 8
PARAMETERS, PARAMS = count_parameters(WIDTH), draw_parameters(WIDTH)
X1, X2 = draw(4, N, 3), draw(5, M, 3)
J1, J2 = explicit_jacobian(PARAMS, X1), explicit_jacobian(PARAMS, X2)
FULL = np.einsum("iap,jbp->ijab", J1, J2)
TRACED = np.trace(FULL, axis1=2, axis2=3) / K
D = 64


def sketch(seed=0, dimension=D, **options):
    return SketchedNTK(network, PARAMS, dimension, jax.random.key(seed), **options)


@pytest.fixture(scope="module")
def drawn():
    """Features of both sets of points for 200 keys: (200, n, k, d) and (200, m, k, d)."""
    with jax.enable_x64(True):
        features = jax.jit(
            lambda keys, x: jax.lax.map(
                lambda key: SketchedNTK(network, PARAMS, D, key, method="forward").features(x), keys
            )
        )
        keys = jax.random.split(jax.random.key(0), 200)
        both = np.array(features(keys, jnp.asarray(np.concatenate([X1, X2]))))
    return both[:, :N], both[:, N:]


def variance_by_hand(u, v):
    """Of the mean of d products `(u·r)(v·r)` of random signs r, the formula of the docstring."""
    return (np.sum(u**2) * np.sum(v**2) + np.sum(u * v) ** 2 - 2 * np.sum(u**2 * v**2)) / D


def test_the_estimate_is_unbiased_and_has_the_stated_variance(drawn):
    """200 keys: a mean within 4.5 standard errors for all of 96 entries, a variance within 4.5 of its own."""
    left, right = drawn
    estimates = np.einsum("siad,sjbd->sijab", left, right)
    variance = np.array(
        [[[[variance_by_hand(u, v) for v in J2[j]] for u in J1[i]] for j in range(M)] for i in range(N)]
    )
    z = (estimates.mean(axis=0) - FULL) / np.sqrt(variance / 200)
    assert np.abs(z).max() < 4.5
    assert 0.7 < np.sqrt(np.mean(z**2)) < 1.3
    # a sample variance of 200 nearly normal numbers has the relative deviation √(2/199) = 0.1
    ratio = estimates.var(axis=0, ddof=1) / variance
    assert np.abs(ratio - 1).max() < 0.45
    assert abs(ratio.mean() - 1) < 0.1


@pytest.mark.slow
def test_the_standard_error_of_one_key_is_the_spread_over_keys(drawn):
    left, right = drawn
    spread = (np.einsum("siad,sjad->sij", left, right) / K).std(axis=0, ddof=1)
    stated = np.sqrt(
        np.mean([sketch(seed, method="forward").standard_error(X1, X2) ** 2 for seed in range(8)], axis=0)
    )
    # 8 keys of 64 columns, fourth moments of products of signs: the ratio is known to about 10 %
    assert np.abs(stated / spread - 1).max() < 0.5
    assert abs(np.mean(stated / spread) - 1) < 0.1


def test_the_standard_error_is_that_of_the_columns_estimates():
    kernel = sketch()
    terms = np.einsum("iad,jad->dij", kernel.features(X1), kernel.features(X2)) * D / K
    np.testing.assert_allclose(
        kernel.standard_error(X1, X2), terms.std(axis=0, ddof=1) / np.sqrt(D), rtol=1e-10
    )


def test_the_error_falls_as_the_root_of_the_dimension(drawn):
    """The error over entries and keys with 16 columns, with all 64: a ratio of 2, known to a few per cent."""
    left, right = drawn
    errors = []
    for dimension in (16, D):
        kernel = np.einsum("siad,sjad->sij", left[..., :dimension], right[..., :dimension])
        errors.append(np.sqrt(np.mean((kernel * D / dimension / K - TRACED) ** 2)))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)


def test_all_entries_are_within_the_error_of_the_chosen_dimension():
    """At 99 % confidence for all pairs at once; in fact the bound is loose by a factor of about three."""
    error = 0.3
    kernel = sketch(dimension=SketchedNTK.dimension_for(error, 0.99, points=N, outputs=K))
    exact = np.einsum("iap,jbp->ijab", J1, J1)
    lengths = np.sqrt(np.einsum("iiaa->ia", exact))
    scale = lengths[:, None, :, None] * lengths[None, :, None, :]
    assert np.max(np.abs(kernel.full(X1) - exact) / scale) < error


def test_more_error_takes_fewer_dimensions_and_more_points_more():
    dimension = SketchedNTK.dimension_for
    # 2 ln(2 · 10⁶ / 0.01) / (0.005 − 0.001/3), rounded up
    assert dimension(0.1, 0.99, 1000) == int(np.ceil(2 * np.log(2e8) / (0.005 - 0.001 / 3)))
    assert dimension(0.2, 0.99, 1000) < dimension(0.1, 0.99, 1000) < dimension(0.1, 0.999, 1000)
    assert dimension(0.1, 0.99, 1000, outputs=10) == dimension(0.1, 0.99, 10_000)


@pytest.mark.parametrize(
    ("dtype", "memory_limit"), [(np.float32, 16_000), (np.float64, 2**30)], ids=["float32", "float64"]
)
def test_both_ways_to_project_agree_whatever_dtype_and_memory(dtype, memory_limit):
    """R is the same: it is reconstructed here column by column and multiplied with the explicit Jacobian."""
    kernels = [sketch(method=method, memory_limit=memory_limit) for method in ("forward", "reverse")]
    leaves = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
    draw_columns = jax.jit(jax.vmap(partial(random_signs, params=leaves), in_axes=(None, 0)))
    columns = draw_columns(kernels[0].key, jnp.arange(D, dtype=jnp.uint32))
    signs = np.concatenate([np.array(leaf).reshape(D, -1) for leaf in jax.tree_util.tree_leaves(columns)], 1)
    expected = J1 @ signs.T / np.sqrt(D)
    for kernel in kernels:
        features = kernel.features(X1.astype(dtype))
        assert features.dtype == dtype
        # 48 terms of the size of the largest gradient, each with a relative error of about ten roundings
        np.testing.assert_allclose(features, expected, atol=500 * np.finfo(dtype).eps * np.abs(J1).max())


def test_the_signs_are_signs_and_differ_between_leaves_columns_and_keys():
    leaves = {"a": jnp.zeros((5, 13)), "b": jnp.zeros((5, 13))}
    keys = [jnp.array([0, 1], jnp.uint32), jnp.array([0, 2], jnp.uint32)]
    signs = jax.jit(partial(random_signs, params=leaves))
    drawn = [
        np.array(leaf).ravel()
        for key in keys
        for column in (0, 1)
        for leaf in signs(key, jnp.uint32(column)).values()
    ]
    matrix = np.stack(drawn)
    assert set(np.unique(matrix)) == {-1.0, 1.0}
    # independent rows of 65 signs: correlations within 4.5 / √65
    correlations = np.abs(matrix @ matrix.T / 65)[np.triu_indices(8, 1)]
    assert correlations.max() < 4.5 / np.sqrt(65)


def test_kernel_blocks_and_diagonal_are_those_of_the_features():
    kernel = sketch()
    left, right = kernel.features(X1), kernel.features(X2)
    assert left.shape == (N, K, D)
    np.testing.assert_allclose(kernel(X1, X2), np.einsum("iad,jad->ij", left, right) / K, rtol=1e-12)
    np.testing.assert_allclose(kernel.full(X1, X2), np.einsum("iad,jbd->ijab", left, right), atol=1e-12)
    gram = kernel(X1)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(kernel.diag(X1), np.diag(gram), rtol=1e-12)
    assert np.linalg.eigvalsh(gram).min() > 0
    np.testing.assert_allclose(kernel(X1[:3], X1[3:]), gram[:3, 3:], rtol=1e-12)  # one R for all points


def test_weights_that_many_pixels_share_are_projected_from_the_jacobian():
    def convolution(params, x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        hidden = jax.lax.conv_general_dilated(x, params, (1, 1), "SAME", dimension_numbers=dimensions)
        return jnp.mean(jnp.tanh(hidden), axis=(1, 2))

    images, filters = jnp.ones((2, 16, 16, 3)), jnp.ones((3, 3, 3, 4))
    dense = jax.tree_util.tree_map(jnp.asarray, PARAMS)
    assert cheaper_projection(convolution, filters, images, 500, 2**30) == "reverse"
    assert cheaper_projection(network, dense, jnp.asarray(X1), 500, 2**30) == "forward"
    assert cheaper_projection(convolution, filters, images, 500, 1000) == "forward"  # no Jacobian fits


class TestErrorsSayWhatToDo:
    def test_features_beyond_the_budget(self):
        with pytest.raises(
            ValueError, match=r"memory_limit >= 6144 bytes for the features of 6 points .*lower dimension"
        ):
            sketch(memory_limit=6143)(X1)

    def test_too_few_dimensions(self):
        with pytest.raises(ValueError, match=r"dimension >= 2, got 1\. SketchedNTK\.dimension_for"):
            sketch(dimension=1)

    def test_an_unknown_method(self):
        with pytest.raises(ValueError, match="'forward', 'reverse' or None, got 'both'"):
            sketch(method="both")

    def test_an_error_that_is_not_one(self):
        with pytest.raises(ValueError, match="error and confidence between 0 and 1"):
            SketchedNTK.dimension_for(0.0, 0.9, 10)


def test_a_loop_of_unknown_length_is_refused_by_reverse_mode_with_the_remedy():
    kernel = SketchedNTK(looped, np.eye(3), D, jax.random.key(0), method="reverse")
    with pytest.raises(ValueError, match=r'SketchedNTK needs f .* lax.scan or .* or method="forward"'):
        kernel(X1)
    assert SketchedNTK(looped, np.eye(3), D, jax.random.key(0), method="forward")(X1).shape == (N, N)


def test_a_sketch_of_numbers_is_numbers_inside_a_traced_function():
    kernel, seen = sketch(), []
    jax.jit(lambda s: (seen.append(kernel(X1)), s)[1])(1.0)
    np.testing.assert_array_equal(seen[0], kernel(X1))
