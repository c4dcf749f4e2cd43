"""Masks: a padded sequence is the sequence by itself, in the finite network and in both kernels."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.nn.finite_networks import assert_tend_to_both_kernels
from tests.nn.spatial_networks import attention, conv, dense, flat, local, pooled, relu, transposed
from tests.nn.test_spatial import some

from ntkit import NNGP, NTK, nn
from ntkit.engines import choice, images, reference
from ntkit.errors import FusionError
from ntkit.kernels import nngp_and_ntk

VALUE = -7.5
SEQUENCES, IMAGES = ((8,), (6,), (6,)), ((6, 4), (4, 6), (4, 6))
block = (conv((3,)), relu)

NETWORKS = {
    "pooled": (SEQUENCES, nn.Serial(*block, conv((2,)), nn.Cos(0.9, 1.1, 0.2), pooled, dense)),
    "summed": (SEQUENCES, nn.Serial(*block, conv((3,)), nn.Erf(), nn.GlobalSumPool(), dense, relu, dense)),
    "windows": (
        SEQUENCES,
        nn.Serial(conv((2,), None, "valid"), relu, conv((3,), (2,), "valid"), relu, pooled, dense),
    ),
    "strides": (SEQUENCES, nn.Serial(*block, conv((3,), (2,)), relu, pooled, dense)),
    "averages": (
        SEQUENCES,
        nn.Serial(
            *block, nn.AvgPool((3,), (1,), "same", True), *block, nn.AvgPool((2,)), conv((1,)), relu, pooled, dense
        ),
    ),
    "local": (SEQUENCES, nn.Serial(local((3,)), relu, nn.SumPool((2,), (2,), "same"), dense, relu, pooled)),
    "enlarged": (
        SEQUENCES, nn.Serial(transposed((3,), (2,)), relu, transposed((2,), (3,), "valid"), relu, pooled, dense)
    ),
    "attention": (SEQUENCES, nn.Serial(dense, relu, attention(), relu, attention(mechanism="identity"), pooled)),
    "scores": (
        SEQUENCES,
        nn.Serial(*block, attention(scaling="root", mechanism="identity", query_std=0.2), relu, pooled, dense),
    ),
    "normalised": (
        SEQUENCES,
        nn.Serial(conv((3,)), nn.LayerNorm((-2, -1), 1e-3), relu, conv((3,)), nn.LayerNorm(), nn.Cos(), pooled, dense),
    ),
    "blocks": (
        SEQUENCES,
        nn.Serial(
            conv((3,)), nn.Residual(nn.Serial(relu, nn.AvgPool((3,), (1,), "same"), conv((3,)))),
            nn.Parallel(*block, merge="concat"), nn.Parallel(conv((1,)), conv((3,)), merge="product"),
            nn.Repeat(nn.Serial(conv((3,)), relu), 5), pooled, dense, relu, dense,
        ),
    ),
    "recurrent": (
        SEQUENCES,
        nn.Serial(nn.Recurrent(16, nn.Cos(0.9, 1.1, 0.2), 1.3, 0.8), relu, nn.Recurrent(16, relu), relu, pooled, dense),
    ),
    "means": (
        SEQUENCES,
        nn.Serial(
            *block, nn.Residual(nn.Serial(*block, nn.AvgPool((3,), (1,), "same", True))), conv((2,)), relu, pooled,
            nn.Residual(nn.Serial(dense, relu)), dense,
        ),
    ),
    "cropped": (SEQUENCES, nn.Serial(*block, nn.Index((slice(1, 7, 2),)), conv((2,)), nn.Cos(), pooled, dense)),
    "nodes": (SEQUENCES[:1] * 2, nn.Serial(dense, nn.Aggregate(np.eye(8, k=1) + 0.5), dense, relu, pooled)),
    "two axes": (
        IMAGES,
        nn.Serial(conv((3, 3)), relu, nn.AvgPool((2, 2)), conv((3, 1)), relu, conv((1, 2), None, "valid"), pooled),
    ),
    "attention over two axes": (IMAGES, nn.Serial(conv((3, 3)), relu, attention(), relu, pooled, dense)),
}  # fmt: skip
"""Networks whose kernels of padded inputs are those of the inputs by themselves."""


def sequences(sizes, channels=3, seed=0):
    """One input of each size, one of its pixels black, and all of them padded to the largest."""
    rng = np.random.default_rng(seed)
    alone = [rng.standard_normal((*size, channels)) for size in sizes]
    alone[1][(1,) * len(sizes[1])] = 0.0
    full = tuple(map(max, zip(*sizes, strict=True)))
    padded = np.full((len(sizes), *full, channels), VALUE)
    for row, x in zip(padded, alone, strict=True):
        row[tuple(map(slice, x.shape[:-1]))] = x
    return alone, padded


def masked(network):
    return nn.Serial(nn.Mask(VALUE), network)


PEER = json.loads((Path(__file__).parent / "peer_masks.json").read_text())["masked"]
scores = attention(scaling="root", mechanism="identity", query_std=0.4, key_std=0.6)
# There `eps` of LayerNorm over pixels counts also what is masked: a padded sequence has another kernel than by itself.
PEER_NETWORKS = {
    "pooled": NETWORKS["pooled"],
    "summed, strides": (
        SEQUENCES, nn.Serial(conv((3,), (2,)), nn.Erf(), conv((3,)), relu, nn.GlobalSumPool(), dense)
    ),
    "flat": (SEQUENCES, nn.Serial(*block, *block, flat, dense)),
    "windows with padding": (
        SEQUENCES, nn.Serial(*block, nn.AvgPool((3,), (1,), "same"), *block, pooled, dense)
    ),
    "attention": (SEQUENCES, nn.Serial(*block, attention(), relu, *block, pooled, dense)),
    "scores": (SEQUENCES, nn.Serial(*block, scores, relu, pooled, dense)),
    "residual": (
        SEQUENCES,
        nn.Serial(conv((3,)), nn.Residual(nn.Serial(relu, *block, conv((3,)))), relu, pooled, dense),
    ),
    "normalised": (SEQUENCES, nn.Serial(conv((3,)), nn.LayerNorm((-1, -2)), relu, pooled, dense)),
    "two axes": (IMAGES, nn.Serial(conv((3, 3)), relu, conv((3, 1), (2, 1)), relu, pooled, dense)),
    "attention over two axes": (
        IMAGES, nn.Serial(conv((3, 3)), relu, attention(mechanism="identity"), relu, pooled, dense)
    ),
    "resized": (SEQUENCES, nn.Serial(dense, relu, nn.ImageResize((5,)), dense, relu, pooled, dense)),
    "embedded": (
        SEQUENCES, nn.Serial(dense, nn.PositionalEmbedding(0.7, 1.5), attention(), relu, pooled, dense)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", some(NETWORKS, ("windows",)))
def test_a_padded_sequence_has_the_kernels_of_the_sequence_by_itself(name):
    """Two short ones beside a long one; the same sums but for zeros, so 1e-14 relative."""
    sizes, network = NETWORKS[name]
    alone, padded = sequences(sizes)
    short = np.stack(alone[1:])
    expected = nngp_and_ntk(network, short, short.copy())
    for gram, by_itself in zip(nngp_and_ntk(masked(network), padded), expected, strict=True):
        np.testing.assert_allclose(gram[1:, 1:], by_itself, rtol=1e-14)


@pytest.mark.parametrize("name", some(tuple(name for name in NETWORKS if name != "local"), ()))
def test_a_finite_network_gives_a_padded_sequence_what_it_gives_the_sequence(name):
    """The same weights, in float32: 2e-5 of the largest output is rounding. Local weights know where they stand."""
    sizes, network = NETWORKS[name]
    alone, padded = sequences(sizes)
    full = masked(network)
    params = full.init(jax.random.key(0), padded.shape)
    outputs = jax.jit(full.apply)(params, jnp.asarray(padded, jnp.float32))
    expected = jax.jit(network.apply)(params[1:], jnp.asarray(np.stack(alone[1:]), jnp.float32))
    assert np.abs(outputs[1:] - expected).max() <= 2e-5 * np.abs(expected).max()
    assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("name", some(PEER_NETWORKS, ("flat",)))
def test_kernels_of_masked_inputs_agree_with_neural_tangents(name):
    """1e-13, but for `LayerNorm`, whose eps of 1e-12 counts more there."""
    sizes, network = PEER_NETWORKS[name]
    grams = nngp_and_ntk(masked(network), sequences(sizes)[1])
    for gram, expected in zip(grams, PEER[name], strict=True):
        np.testing.assert_allclose(gram[0], expected, rtol=1e-11 if name == "normalised" else 1e-13)


def test_sequences_of_different_lengths_meet_pixel_by_pixel():
    """By hand: the mean over all pairs of pixels that exist of the kernel of two vectors, plus nothing for others."""
    alone, padded = sequences(SEQUENCES)
    pixelwise = (dense, nn.Cos(0.9, 1.1, 0.2), dense)
    network = nn.Serial(*pixelwise, pooled)
    vectors = np.concatenate(alone)
    ends = np.cumsum([len(x) for x in alone])
    for gram, pixels in zip(
        nngp_and_ntk(masked(network), padded), nngp_and_ntk(nn.Serial(*pixelwise), vectors), strict=True
    ):
        blocks = [np.hsplit(rows, ends[:-1]) for rows in np.vsplit(pixels, ends[:-1])]
        np.testing.assert_allclose(gram, [[block.mean() for block in row] for row in blocks], rtol=1e-13)


@pytest.mark.parametrize("name", some(NETWORKS, ()))
def test_grams_of_padded_inputs_are_symmetric_semi_definite_with_the_diagonal_of_diag(name):
    sizes, network = NETWORKS[name]
    padded = sequences(sizes)[1]
    kernel = NTK(masked(network))
    gram = kernel(padded)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_array_equal(np.diag(gram), kernel.diag(padded))
    assert np.linalg.eigvalsh(gram)[0] > -1e-13 * gram.max()


@pytest.mark.parametrize("name", some(NETWORKS, ()))
def test_kernels_of_padded_inputs_depend_neither_on_tiles_nor_on_more_padding(name, monkeypatch):
    """Tiles at the edge are enlarged by inputs without any pixel."""
    sizes, network = NETWORKS[name]
    padded, kernel = sequences(sizes)[1], NTK(masked(network))
    gram = kernel(padded)
    monkeypatch.setattr(images, "tile_side", lambda *_: 2)
    np.testing.assert_allclose(kernel(padded), gram, rtol=1e-13)
    np.testing.assert_allclose(kernel(padded[1:], padded), gram[1:], rtol=1e-12)
    if name != "nodes":
        more = np.pad(padded, ((0, 0), *((0, 4),) * len(sizes[0]), (0, 0)), constant_values=VALUE)
        np.testing.assert_allclose(kernel(more), gram, rtol=1e-13)


@pytest.mark.parametrize("name", some(("scores", "attention", "normalised", "recurrent", "means"), ()))
def test_traced_kernels_of_padded_inputs_are_the_concrete_ones_and_have_finite_gradients(name):
    """And padding has no gradient."""
    sizes, network = NETWORKS[name]
    network, padded = masked(network), sequences(sizes)[1]

    def total(network, x):
        nngp, ntk = nngp_and_ntk(network, x)
        return (ntk + nngp).sum(), (nngp, ntk)

    with jax.enable_x64(True):
        value = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
        (_, grams), (slopes, slope) = value(network, jnp.asarray(padded))
        grams = [np.asarray(gram) for gram in grams]
        leaves = [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(slopes)]
        slope = np.asarray(slope)
    for gram, expected in zip(grams, nngp_and_ntk(network, padded), strict=True):
        np.testing.assert_allclose(gram, expected, rtol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    exists = (padded != VALUE).any(axis=-1)
    assert (slope[~exists] == 0).all() and (slope[exists] != 0).any(axis=-1).sum() == exists.sum()


def test_a_scale_follows_a_mask_and_a_black_pixel_exists():
    """Pixels of zeros are input like any other unless zero is what inputs are padded with."""
    x = np.array([[[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]])
    network = nn.Serial(nn.Scale([2.0, 0.5]), nn.Dense(8, b_std=1.0), pooled)
    by_itself = NNGP(network)(x)[0, 0]
    assert NNGP(nn.Serial(nn.Mask(-3.0), network))(x)[0, 0] == pytest.approx(by_itself, rel=1e-14)
    first = NNGP(network)(x[:, :1])[0, 0]
    assert NNGP(nn.Serial(nn.Mask(), network))(x)[0, 0] == pytest.approx(first, rel=1e-14)
    assert first > by_itself


def test_the_fused_engine_leaves_masked_networks_to_the_reference():
    network, padded = masked(nn.Serial(conv((3, 3)), relu, pooled, dense)), sequences(IMAGES)[1]
    with pytest.raises(FusionError, match="Mask"):
        NTK(network, engine="fused")(padded)
    many = np.concatenate([padded] * 30)
    assert "Mask" in choice.choose(reference.prepare(network, many, None, ntk=True), "auto").reason


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, x, none: NTK(net)(x, none), r"got none of x2\[1\]\. Leave"),
        (lambda net, x, none: NNGP(net)(none), r"got none of x1\[1\]"),
        (lambda net, x, none: NNGP(net).diag(none), r"got none of x\[1\]"),
        (lambda net, x, none: NTK(net).plan(none), r"got none of x1\[1\]"),
        (lambda net, x, none: net.apply(net.init(jax.random.key(0), none.shape), jnp.asarray(none, jnp.float32)),
         r"got none of x\[1\]"),
        (lambda net, x, none: NTK(nn.Serial(nn.Mask(VALUE), conv((7,), None, "valid"), pooled))(x),
         r"got none of x1\[1\] after Conv.*too short"),
        (lambda net, x, none: NTK(net)(x[:, 0]), "Mask needs inputs of shape"),
        (lambda net, x, none: nn.Serial(dense, nn.Mask()), "Mask needs to stand first, .* position 1"),
        (lambda net, x, none: nn.Serial(nn.Scale([1.0]), nn.Mask()), "Mask needs to stand first"),
        (lambda net, x, none: nn.Serial(nn.Mask(), nn.Dense(4, axis=1)), "Dense.* needs to stand first, .* position 1"),
        (lambda net, x, none: nn.Serial(nn.Scale([1.0]), nn.Repeat(nn.Mask(), 1)), "Repeat.* needs to stand first"),
        (lambda net, x, none: nn.Residual(nn.Serial(nn.Mask(), dense)), "Mask needs to stand first, .* branch 0"),
        (lambda net, x, none: nn.Mask(np.nan), "value as a finite number"),
    ],
)  # fmt: skip
def test_inputs_without_pixels_and_misplaced_masks_are_refused(call, message):
    network = masked(nn.Serial(dense, relu, pooled))
    padded = sequences(SEQUENCES)[1]
    none = padded.copy()
    none[1] = VALUE
    with pytest.raises(ValueError, match=message):
        call(network, padded, none)


@pytest.mark.slow
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_finite_networks_of_padded_inputs_tend_to_both_kernels(parametrization):
    """Mean of f fᵀ and of the empirical NTK over 400 networks of width 128: five standard errors plus 6/width."""
    width, networks = 128, 400
    convolution = partial(nn.Conv, width, w_std=1.3, b_std=0.3, parametrization=parametrization)
    network = masked(
        nn.Serial(
            convolution((3,)),
            relu,
            nn.AvgPool((3,), (1,), "same", True),
            nn.GlobalSelfAttention(width, 4, width, query_std=1.2),
            nn.LayerNorm((-1, -2), 1e-3),
            relu,
            pooled,
            nn.Dense(1, 1.2),
        )
    )
    assert_tend_to_both_kernels(network, sequences(SEQUENCES)[1][:2], networks, bias=6 / width, most=0.5)
