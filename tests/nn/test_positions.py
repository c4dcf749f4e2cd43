"""Embeddings of positions: the peer's numbers, finite networks, and what is refused."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.nn.finite_networks import assert_tend_to_both_kernels
from tests.nn.spatial_networks import attention, conv, dense, flat, inputs, pooled, relu
from tests.nn.test_spatial import some

from ntkit import NNGP, NTK, nn
from ntkit.errors import FusionError
from ntkit.kernels import nngp_and_ntk

PEER = json.loads((Path(__file__).parent / "peer_masks.json").read_text())["embedded"]


def tail(distance):
    """Of an Ornstein-Uhlenbeck process."""
    return jnp.exp(-distance)


embedding, near = nn.PositionalEmbedding, 1.5
scores = partial(attention, scaling="root", mechanism="identity", query_std=0.4, key_std=0.6)
PEER_NETWORKS = {
    "sum": nn.Serial(dense, embedding(0.7), attention(), relu, pooled, dense),
    "sum, decaying": nn.Serial(dense, embedding(0.7, near), attention(), relu, pooled, dense),
    "concat": nn.Serial(
        dense, embedding(0.7, 2.0, tail, merge="concat"), attention(), relu, pooled, dense
    ),
    "concat, channels": nn.Serial(
        dense, embedding(0.7, merge="concat", channels=6), attention(), relu, flat, dense
    ),
    "sum, scores alone": nn.Serial(
        dense, relu, attention(positions=embedding(1.7, near)), relu, pooled, dense
    ),
    "concat, scores alone": nn.Serial(
        dense, relu, attention(positions=embedding(1.7, merge="concat", channels=8)), relu, pooled, dense
    ),
    "root": nn.Serial(dense, relu, embedding(0.7), scores(), relu, pooled, dense),
    "root, scores alone": nn.Serial(
        dense, relu, scores(positions=embedding(0.7, near, merge="concat")), relu, pooled, dense
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", some(PEER_NETWORKS, ("root, scores alone",)))
def test_kernels_agree_with_the_attention_of_neural_tangents(name):
    """There an embedding is an option of attention; its decay is a function of the squared distance."""
    grams = nngp_and_ntk(PEER_NETWORKS[name], inputs("1d"))
    for gram, expected in zip(grams, PEER[name], strict=True):
        np.testing.assert_allclose(gram[0], expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("merge", "length_scale"), [("concat", 1.5), pytest.param("sum", None, marks=pytest.mark.slow)]
)
def test_kernels_and_correlations_are_those_of_a_pixel_beside_its_embedding(merge, length_scale):
    """By hand, on images of two axes: the kernels of vectors after embedding, with the angle of the two pixels.

    A linear layer after an embedding is one of inputs `(x / √c, root of R)`; relu's dual of it closes the test.
    """
    x = np.random.default_rng(0).standard_normal((2, 2, 3, 4))
    layers = (dense, nn.PositionalEmbedding(0.7, length_scale, merge=merge), dense, relu)
    by_layers = NNGP(nn.Serial(*layers, pooled))(x)
    places = np.array([(i, j) for i in range(2) for j in range(3)])
    squares = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    correlation = np.eye(6) if length_scale is None else np.exp(-squares / (2 * length_scale**2))
    roots = np.broadcast_to(np.linalg.cholesky(correlation), (2, 6, 6)).reshape(12, 6)
    flat_x = x.reshape(12, 4)
    share = 1.0 if merge == "sum" else 0.5
    nngp = share * (1.21 * flat_x @ flat_x.T / 4 + 0.01) + share * 0.49 * roots @ roots.T
    nngp = 1.21 * nngp + 0.01
    scale = np.sqrt(np.outer(np.diag(nngp), np.diag(nngp)))
    angle = np.arccos(np.clip(nngp / scale, -1.0, 1.0))
    pixels = scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    expected = pixels.reshape(2, 6, 2, 6).mean(axis=(1, 3))
    np.testing.assert_allclose(by_layers, expected, rtol=1e-8)  # arccos near 1 in the formula by hand


@pytest.mark.parametrize("layout", ["flat", pytest.param("pooled", marks=pytest.mark.slow)])
def test_the_means_of_values_pass_an_embedding(layout):
    """One of size 0 changes nothing in a sum of two activations, whose means enter its covariances."""
    x, end = np.random.default_rng(0).standard_normal((2, 3, 4)), {"flat": flat, "pooled": pooled}[layout]
    branch = nn.Residual(nn.Serial(dense, relu))
    plain, embedded = (
        nngp_and_ntk(nn.Serial(dense, relu, *layers, branch, end, dense), x)
        for layers in ((), (embedding(0.0),))
    )
    for gram, expected in zip(embedded, plain, strict=True):
        np.testing.assert_allclose(gram, expected, rtol=1e-14)


def test_an_embedding_that_is_not_trained_adds_nothing_to_the_ntk():
    """Of a linear network NTK - NNGP is what training the first layers adds."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    plain, trained, fixed = (
        nn.Serial(nn.Dense(8), *embeddings, pooled)
        for embeddings in ((), (embedding(0.5),), (embedding(0.5, trained=False),))
    )
    (nngp, ntk), with_training, without = (
        nngp_and_ntk(network, x, x.copy()) for network in (plain, trained, fixed)
    )
    np.testing.assert_allclose(without.ntk, ntk, rtol=1e-14)
    np.testing.assert_allclose(with_training.ntk, ntk + 0.25 / 3, rtol=1e-14)
    np.testing.assert_allclose(without.nngp, nngp + 0.25 / 3, rtol=1e-14)
    np.testing.assert_allclose(with_training.nngp, without.nngp, rtol=1e-14)
    params = fixed.init(jax.random.key(0), x.shape)
    slopes = jax.jit(jax.grad(lambda p: fixed.apply(p, jnp.ones((2, 3, 4))).sum()))(params)
    assert (slopes[1]["embedding"] == 0).all() and (slopes[0]["weight"] != 0).all()


def test_embeddings_have_the_covariance_they_are_said_to_have():
    """R^(1/2) e over 4000 channels: five standard errors, √((1 + R²) / 4000)."""
    layer = embedding(1.3, 2.0, tail)
    params = layer.init(jax.random.key(0), (1, 3, 2, 4000))
    drawn = layer.apply(params, jnp.zeros((2, 3, 2, 4000))).reshape(2, 6, 4000)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    places = np.array([(i, j) for i in range(3) for j in range(2)])
    expected = np.exp(-np.linalg.norm(places[:, None] - places[None], axis=-1) / 2.0)
    found = np.array(drawn[0] @ drawn[0].T) / 4000 / 1.69
    assert (np.abs(found - expected) < 5 * np.sqrt((1 + expected**2) / 4000)).all()


@pytest.mark.slow
def test_the_gradient_in_the_length_scale_is_that_of_the_kernel():
    x = inputs("1d", 2)

    def total(length_scale):
        network = nn.Serial(dense, embedding(0.7, length_scale), attention(), pooled)
        return NTK(network)(jnp.asarray(x)).sum()

    with jax.enable_x64(True):
        slope, (above, below) = (
            float(jax.jit(jax.grad(total))(1.5)),
            map(float, (total(1.5001), total(1.4999))),
        )
    assert slope == pytest.approx((above - below) / 2e-4, rel=1e-6)


FINITE = {
    "sum of activations": lambda c, a: (c, relu, nn.PositionalEmbedding(0.8, 1.5), nn.Residual(nn.Serial(c, relu))),
    "sum, decaying": lambda c, a: (c, nn.PositionalEmbedding(0.8, 1.5), a()),
    "concat, fixed": lambda c, a: (c, nn.PositionalEmbedding(0.8, merge="concat", trained=False), a()),
    "scores alone": lambda c, a: (c, relu, a(positions=nn.PositionalEmbedding(1.2, 1.5))),
    "scores alone, root": lambda c, a: (
        c, relu, a(scaling="root", mechanism="identity", query_std=0.6, key_std=0.6,
                   positions=nn.PositionalEmbedding(0.7, merge="concat"))
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FINITE)
def test_finite_networks_with_embeddings_tend_to_both_kernels(name):
    """Mean of f fᵀ and of the empirical NTK over 400 networks of width 128: five standard errors plus 6/width."""
    width, networks = 128, 400
    heads = partial(nn.GlobalSelfAttention, width, 8, width, value_std=1.1)
    network = nn.Serial(
        *FINITE[name](nn.Dense(width, 1.3, 0.3), heads), nn.Dense(width, 1.3), relu, pooled, nn.Dense(1, 1.2)
    )
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    # The outputs of attention have heavy tails.
    assert_tend_to_both_kernels(network, x, networks, bias=6 / width, most=0.7)


def test_the_fused_engine_refuses_embeddings():
    network = nn.Serial(conv((3, 3)), relu, conv((3, 3)), embedding(), relu, pooled, dense)
    with pytest.raises(FusionError, match="PositionalEmbedding"):
        NTK(network, engine="fused")(inputs("2d"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NTK(nn.Serial(embedding(), pooled))(np.ones((1, 3, 2))), "infinite width.*Put a Dense or Conv"),
        (lambda: NTK(nn.Serial(attention(positions=embedding()), pooled))(np.ones((1, 3, 2))), "infinite width"),
        (lambda: NTK(nn.Serial(dense, embedding()))(np.ones((1, 3))), "position 1 .*needs inputs of shape"),
        (lambda: nn.Serial(dense, embedding(merge="concat"), relu), "Relu needs Gaussian values"),
        (lambda: nn.Serial(dense, nn.Residual(embedding()), relu), "two without"),
        (lambda: embedding(channels=3), 'merge="concat" alone'),
        (lambda: embedding(-1.0), "std as a finite number"),
        (lambda: embedding(1.0, 0.0), "length_scale above 0"),
        (
            lambda: NTK(nn.Serial(dense, embedding(1.0, 1.0, lambda r: 1.0 - 2.0 * (r > 0)), pooled))(
                np.ones((1, 3, 2))
            ),
            "positive semi-definite, got 1 at 0 and an eigenvalue of -1",
        ),
    ],
)  # fmt: skip
def test_embeddings_out_of_place_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
