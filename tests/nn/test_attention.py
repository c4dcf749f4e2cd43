"""Attention: by hand, its symmetries, and ensembles of finite networks."""

from functools import partial

import numpy as np
import pytest
from tests.nn.finite_networks import assert_tend_to_both_kernels, samples
from tests.nn.spatial_networks import attention, dense, flat, pooled, relu

from ntkit import NNGP, nn
from ntkit.kernels import nngp_and_ntk

X = np.random.default_rng(0).standard_normal((3, 5, 4))
STEP = (nn.Dense(16, 1.3, 0.2), relu)
"""A layer whose NTK is another than its NNGP."""


def pixel_kernels(layers, x):
    """Both kernels between all pixels of all inputs, (n, P, n, P), through layers that act pixel by pixel."""
    pixels = x.reshape(-1, x.shape[-1])
    return [gram.reshape(len(x), -1, len(x), gram.shape[0] // len(x)) for gram in
            nngp_and_ntk(nn.Serial(*layers), pixels, pixels.copy())]  # fmt: skip


@pytest.mark.parametrize("mechanism", ["softmax", pytest.param("identity", marks=pytest.mark.slow)])
def test_attention_weighs_both_kernels_by_the_scores_of_each_input_by_itself(mechanism):
    """Sums over all pixels in plain loops: Hron et al. 2020, with queries and keys of one matrix."""
    network = nn.Serial(*STEP, attention(mechanism=mechanism), flat)
    nngp, ntk = pixel_kernels(STEP, X)
    inputs, pixels = X.shape[:2]
    weights = np.empty((inputs, pixels, pixels))
    for i in range(inputs):
        for p in range(pixels):
            scores = 0.8 * 1.2 * nngp[i, p, i]
            weights[i, p] = np.exp(scores) / np.exp(scores).sum() if mechanism == "softmax" else scores
    expected = np.zeros((2, inputs, inputs))
    for i in range(inputs):
        for j in range(inputs):
            for p in range(pixels):
                pair = np.outer(weights[i, p], weights[j, p])
                for kernel, values in enumerate((nngp, ntk + 2 * nngp)):
                    expected[kernel, i, j] += (
                        (0.9 * 1.1) ** 2 * (pair * values[i, :, j]).sum() + 0.09
                    ) / pixels
    np.testing.assert_allclose(nngp_and_ntk(network, X, X.copy()), expected, rtol=1e-13)


def test_attention_with_unscaled_scores_is_a_product_of_three_kernels():
    """E over queries, keys and values: nngp(p, p') Σ nngp(q, q')², and for the NTK each factor's own in turn."""
    network = nn.Serial(*STEP, attention(scaling="root", mechanism="identity"), flat)
    nngp, ntk = pixel_kernels(STEP, X)
    inputs, pixels = X.shape[:2]
    scale = (0.9 * 1.1 * 0.8 * 1.2) ** 2
    expected = np.zeros((2, inputs, inputs))
    for i in range(inputs):
        for j in range(inputs):
            for p in range(pixels):
                for q in range(pixels):
                    for r in range(pixels):
                        query, key, value = nngp[i, p, j, p], nngp[i, q, j, r], nngp[i, q, j, r]
                        tangents = ntk[i, p, j, p], ntk[i, q, j, r], ntk[i, q, j, r]
                        product = query * key * value
                        expected[0, i, j] += scale * product
                        expected[1, i, j] += scale * (
                            4 * product
                            + tangents[0] * key * value
                            + query * tangents[1] * value
                            + query * key * tangents[2]
                        )
    expected = expected / pixels + 0.09
    np.testing.assert_allclose(nngp_and_ntk(network, X, X.copy()), expected, rtol=1e-13)


@pytest.mark.slow
def test_attention_without_queries_is_the_mean_over_pixels():
    """Scores of 0: every pixel sees the mean, which pooling leaves as it is."""
    network = nn.Serial(nn.Dense(16, 1.3), attention(query_std=0.0, b_std=0.0), pooled)
    plain = nn.Serial(nn.Dense(16, 1.3), pooled)
    np.testing.assert_allclose(NNGP(network)(X), (0.9 * 1.1) ** 2 * NNGP(plain)(X), rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["linear", "root"])
def test_attention_does_not_know_the_order_of_pixels_unless_their_positions_are_embedded(scaling):
    """Independent embeddings would not do for "linear" scores: each input meets but itself there."""
    rng = np.random.default_rng(1)
    shuffled = np.stack([rng.permutation(x) for x in X])
    for positions in (None, nn.PositionalEmbedding(1.0, 1.5)):
        layer = attention(scaling=scaling, mechanism="identity", positions=positions)
        network = nn.Serial(dense, layer, relu, layer, relu, pooled, dense)
        straight, crossed = nngp_and_ntk(network, X), nngp_and_ntk(network, shuffled)
        if positions is None:
            np.testing.assert_allclose(crossed, straight, rtol=1e-12)
        else:
            assert (np.abs(np.array(crossed) / straight - 1.0).max(axis=(1, 2)) > 1e-3).all()


@pytest.mark.slow
def test_attention_over_two_axes_is_attention_over_all_their_pixels():
    image = np.random.default_rng(2).standard_normal((2, 2, 3, 4))
    network = nn.Serial(dense, relu, attention(), relu, pooled)
    sequence = image.reshape(2, 6, 4)
    np.testing.assert_allclose(
        NNGP(network)(image, image.copy()), NNGP(network)(sequence, sequence.copy()), rtol=1e-14
    )


VARIANTS = {
    "softmax": {},
    "identity": {"mechanism": "identity", "query_std": 0.6},
    "scores as they come": {"scaling": "root", "mechanism": "identity", "query_std": 0.6, "key_std": 0.6},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_ensembles_of_finite_attention_have_both_kernels(variant):
    """Attention over images of 2 x 2 pixels, 400 networks of 8 outputs: five standard errors of the mean, and for the
    bias of width 64 and 16 heads 6/64 of the scale √(k(x,x) k(x',x')); together less than half of it.
    """
    width, networks = 64, 400
    layer = partial(nn.GlobalSelfAttention, width, 16, width, value_std=1.2, b_std=0.3, **VARIANTS[variant])
    network = nn.Serial(nn.Dense(width, 1.1, 0.2), relu, layer(), relu, pooled, nn.Dense(8, 1.2))
    x = 0.8 * np.random.default_rng(0).standard_normal((2, 2, 2, 3))
    assert_tend_to_both_kernels(network, x, networks, bias=6 / width, most=0.5)


@pytest.mark.slow
def test_the_empirical_ntk_of_attention_tends_to_its_limit_at_the_rate_of_one_over_root_width():
    """Root mean squares of the relative error over 40 networks at widths 24, 96 and 384: the exponent of the fit is -½
    within four standard errors, found from the scatter of the squares, and 0.1 for the next order.
    """
    widths, networks = (24, 96, 384), 40
    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
    logs, errors = [], []
    for width in widths:
        network = nn.Serial(
            nn.Dense(width, 1.2, 0.2), nn.GlobalSelfAttention(width, 4, width), relu, pooled, nn.Dense(1)
        )
        exact = nngp_and_ntk(network, x.astype(np.float64)).ntk
        found = samples(network, x, networks)[1]
        squares = ((found - exact) ** 2).sum(axis=(1, 2)) / (exact**2).sum()
        logs.append(0.5 * np.log(squares.mean()))
        errors.append(0.5 * squares.std(ddof=1) / squares.mean() / np.sqrt(networks))
    centred = np.log(widths) - np.mean(np.log(widths))
    weights = centred / np.sum(centred**2)
    tolerance = 4 * np.sqrt(np.sum((weights * np.array(errors)) ** 2)) + 0.1
    assert tolerance < 0.4
    assert float(weights @ np.array(logs)) == pytest.approx(-0.5, abs=tolerance)
