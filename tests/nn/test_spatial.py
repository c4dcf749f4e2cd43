"""Networks of images: the peer's numbers, finite networks, and what every kernel owes."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.nn.finite_networks import assert_tend_to_both_kernels
from tests.nn.spatial_networks import NETWORKS, block, conv, dense, flat, inputs, pooled, relu

from ntkit import NNGP, NTK, nn
from ntkit.engines import images
from ntkit.kernels import nngp_and_ntk

PEER = json.loads((Path(__file__).parent / "peer_kernels.json").read_text())
QUICK = ("flat", "std", "res_proj", "pool_norm", "convl", "head")
"""Those that compile fast; the others are slow tests."""


def some(names, quick=QUICK):
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


def test_the_peer_s_numbers_cover_every_network():
    assert set(PEER["kernels"]) == set(NETWORKS)


def test_resizing_images_that_are_not_square_after_one_convolution_is_exact():
    """neural-tangents 0.6.5 errs by 1 to 2 % here. A linear network by brute force: a sum over all filter entries."""
    x = inputs("2d")
    network = nn.Serial(
        nn.Conv(1, (3, 3)), nn.ImageResize((3, 7)), nn.Conv(1, (3, 3)), nn.GlobalAvgPool(), nn.Dense(1)
    )
    # Everything but the weights is linear: the response to each pair of filter entries of both convolutions.
    with jax.enable_x64(True):

        def response(first, second):
            images = jnp.pad(jnp.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
            images = images[:, first[0] : first[0] + 6, first[1] : first[1] + 5]
            images = jax.image.resize(images, (3, 3, 7, 3), "linear")
            images = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
            return np.array(images[:, second[0] : second[0] + 3, second[1] : second[1] + 7].mean(axis=(1, 2)))

        offsets = [(i, j) for i in range(3) for j in range(3)]
        responses = np.concatenate([response(a, b) for a in offsets for b in offsets], axis=1)
    np.testing.assert_allclose(NNGP(network)(x), responses @ responses.T / (81 * 3), rtol=1e-13)


def test_aggregation_is_the_adjacency_on_both_sides():
    """Du et al. 2019: A K A^T between a linear layer's pixels, by hand."""
    rng = np.random.default_rng(0)
    x, adjacency = rng.standard_normal((3, 5, 2)), rng.uniform(size=(5, 5))
    network = nn.Serial(nn.Dense(4, 1.5), nn.Aggregate(adjacency), flat, nn.Dense(1))
    seen = np.einsum("pq,nqc->npc", adjacency, x)
    expected = 2.25 * np.einsum("npc,mpc->nm", seen, seen) / (2 * 5)
    np.testing.assert_allclose(NNGP(network)(x), expected, rtol=1e-13)
    params = network.init(jax.random.key(0), x.shape)
    out = network.layers[1].apply((), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(out, seen, rtol=1e-5)
    assert network.apply(params, jnp.asarray(x, jnp.float32)).shape == (3, 1)
    with pytest.raises(ValueError, match="5 nodes"):
        NNGP(network)(x[:, :4])


@pytest.mark.parametrize("name", some(PEER["kernels"]))
def test_kernels_agree_with_neural_tangents(name):
    """float64 of both to rounding: 1e-13 of the largest value, where sums of up to a thousand terms round."""
    kind, network = NETWORKS[name]
    grams = nngp_and_ntk(network, inputs(kind, PEER["counts"][name]), inputs(kind, 2, 1))
    for gram, expected in zip(grams, PEER["kernels"][name], strict=True):
        expected = np.array(expected)
        assert np.abs(gram - expected).max() <= 1e-13 * np.abs(expected).max()


@pytest.mark.parametrize("name", some(NETWORKS, ("flat", "gap_head", "pool_norm")))
def test_grams_of_images_are_symmetric_semi_definite_with_the_diagonal_of_diag(name):
    check_grams(NTK(NETWORKS[name][1]), NETWORKS[name][0])


@pytest.mark.parametrize("name", some(NETWORKS, ("flat",)))
def test_nngps_alone_are_symmetric_semi_definite_with_the_diagonal_of_diag(name):
    """Their program is another than that of both kernels, by the same functions of the layers."""
    check_grams(NNGP(NETWORKS[name][1]), NETWORKS[name][0])


def check_grams(kernel, kind):
    x = inputs(kind)
    x[2] = 2.0 * x[0]
    gram = kernel(x)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_array_equal(np.diag(gram), kernel.diag(x))
    assert np.linalg.eigvalsh(gram)[0] > -1e-13 * gram.max()
    if not kernel.network.random:
        # The same images, not known to be: each meets itself, to rounding.
        np.testing.assert_allclose(np.diag(kernel(x, x.copy())), kernel.diag(x), rtol=1e-13)


def test_kernels_do_not_depend_on_tiles(monkeypatch):
    kind, network = NETWORKS["gap_head"]
    x = inputs(kind, 7)
    whole, mixed = NTK(network)(x), NTK(network)(x[:3], x)
    monkeypatch.setattr(images, "tile_side", lambda *_: 3)
    np.testing.assert_allclose(NTK(network)(x), whole, rtol=1e-14)
    np.testing.assert_allclose(mixed, whole[:3], rtol=1e-13)


def test_tiles_of_images_keep_within_the_budget():
    network, shape = NETWORKS["gap"][1], (100, 32, 32, 3)
    side = images.tile_side(network, shape, 8, 100)
    assert side >= 1
    assert side == 1 or side**2 * images.bytes_per_pair(network, shape, 8) <= images.BUDGET
    assert images.tile_side(NETWORKS["flat"][1], shape, 8, 100) > side


@pytest.mark.parametrize("name", ["small", pytest.param("gap_head", marks=pytest.mark.slow)])
def test_traced_kernels_of_images_are_the_concrete_ones_and_have_finite_gradients(name):
    small = nn.Serial(nn.Conv(8, (2,), w_std=1.3, b_std=0.2), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    kind, network = NETWORKS.get(name, ("1d", small))
    x = inputs(kind)
    x[(0,) * (x.ndim - 1)] = 0.0
    x[1] = x[0]

    def total(network, x):
        nngp, ntk = nngp_and_ntk(network, x)
        return (ntk + nngp).sum(), (nngp, ntk)

    with jax.enable_x64(True):
        value = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
        (_, grams), slopes = value(network, jnp.asarray(x))
        grams = [np.asarray(gram) for gram in grams]
        leaves = [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(slopes)]
    for gram, expected in zip(grams, nngp_and_ntk(network, x), strict=True):
        np.testing.assert_allclose(gram, expected, rtol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    width = 1e-6
    wider = jax.tree_util.tree_map(lambda leaf: leaf, network)
    object.__setattr__(wider.layers[0], "w_std", network.layers[0].w_std + width)
    change = sum(gram.sum() for gram in nngp_and_ntk(wider, x)) - sum(gram.sum() for gram in grams)
    np.testing.assert_allclose(change / width, leaves[0], rtol=1e-4)


@pytest.mark.parametrize("name", some(("valid_stride", "convt_v", "convl", "pool_norm"), ("pool_norm",)))
def test_nearly_equal_images_are_as_exact_in_float64_as_different_ones(name):
    """The defect is carried: over x and (1 + 1e-9 v) x the kernel is smooth, so that a change of 1e-9 shows no more."""
    kind, network = NETWORKS[name]
    x = inputs(kind)
    near = x * (1.0 + 1e-9 * inputs(kind, seed=5))
    own = NTK(network).diag(x)
    # A ReLU network's NTK falls off as the angle, here 1e-9.
    np.testing.assert_allclose(np.diag(NTK(network)(x, near)), own, rtol=2e-8)


FINITE = {
    "conv, stride and padding": (
        "2d", lambda c: nn.Serial(c((3, 2), (2, 1)), relu, c((2, 2), None, "circular"), relu, flat, nn.Dense(1, 1.2)),
    ),
    "average pooling between": (
        "2d", lambda c: nn.Serial(c((3, 3)), relu, nn.AvgPool((2, 2), (2, 1), "same", True), c((3, 3)), relu, pooled,
                                  nn.Dense(1, 1.2)),
    ),
    "a residual block past a nonlinearity": (
        "2d", lambda c: nn.Serial(c((3, 3)), relu, nn.Residual(c((3, 3))), c((1, 1)), relu, pooled, nn.Dense(1, 1.2)),
    ),
    "transposed": (
        "2d", lambda c: nn.Serial(c((3, 3)), relu, nn.ConvTranspose(128, (3, 2), (2, 1), "valid", 1.3),
                                  relu, flat, nn.Dense(1, 1.2)),
    ),
    "local": (
        "2d", lambda c: nn.Serial(nn.ConvLocal(128, (3, 2), (2, 1), "same", 1.3, 0.3), relu, pooled,
                                  nn.Dense(1, 1.2)),
    ),
    "resized after one convolution, not square": (
        "2d", lambda c: nn.Serial(c((3, 3)), relu, nn.ImageResize((3, 7)), c((3, 3)), relu, pooled, nn.Dense(1, 1.2)),
    ),
    "attention": (
        "1d", lambda c: nn.Serial(c((3,)), relu, nn.GlobalSelfAttention(128, 4, 128, query_std=1.2), relu, pooled,
                                  nn.Dense(1, 1.2)),
    ),
    "attention without softmax, scores as they come": (
        "1d", lambda c: nn.Serial(c((3,)), relu, nn.GlobalSelfAttention(128, 32, 32, "root", "identity", 0.5, 0.5),
                                  relu, flat, nn.Dense(1, 1.2)),
    ),
    "layer normalisation and a product": (
        "1d", lambda c: nn.Serial(c((3,)), nn.LayerNorm(), relu, nn.Parallel(c((3,)), c((2,)), merge="product"),
                                  c((1,)), relu, pooled, nn.Dense(1, 1.2)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", some(FINITE, ("conv, stride and padding",)))
@pytest.mark.parametrize("parametrization", some(("ntk", "standard"), ("ntk",)))
def test_finite_networks_of_images_tend_to_both_kernels(name, parametrization):
    """Mean of the empirical NTK and of f fᵀ over networks of width 128, within five standard errors plus 6/width."""
    kind, build = FINITE[name]
    width, networks = 128, 300

    network = build(partial(nn.Conv, width, w_std=1.3, b_std=0.3, parametrization=parametrization))
    # The outputs of attention have heavy tails.
    assert_tend_to_both_kernels(network, inputs(kind, 2), networks, bias=6 / width, most=0.7)


def test_dropout_meets_itself_in_one_draw_and_a_copy_in_another():
    """One dense layer by hand: the diagonal is w² x·x / (d keep), every other entry w² x·x' / d."""
    x = np.array([[1.0, 2.0], [1.0, 2.0], [0.5, -1.0]])
    network = nn.Serial(nn.Dropout(0.5), nn.Dense(1, 1.5))
    expected = 2.25 * (x @ x.T) / 2
    np.testing.assert_allclose(NNGP(network)(x), expected + np.diag(np.diag(expected)), rtol=1e-14)
    np.testing.assert_allclose(NNGP(network)(x, x.copy()), expected, rtol=1e-14)
    np.testing.assert_allclose(NTK(network).diag(x), 2 * np.diag(expected), rtol=1e-14)
    traced = jax.jit(NNGP(network))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(traced, expected + np.diag(np.diag(expected)), rtol=1e-6)


def test_dropout_before_a_nonlinearity_has_the_moments_of_random_masks():
    """E over masks of both kernels of one image with itself, by brute force over all masks of two pixels."""
    x = np.array([[[0.7], [-1.2]]])
    network = nn.Serial(nn.Dropout(0.5), nn.Conv(8, (2,), None, "circular", 1.0), relu, pooled, nn.Dense(1))
    own = NNGP(network).diag(x)[0]
    var = np.array([[0.49, -0.84], [-0.84, 1.44]]) * np.array([[2, 1], [1, 2]])
    # Both windows see both pixels: the mean of their variances, and of the products of what each sees.
    first = np.trace(var) / 2
    across = (var[0, 1] + var[1, 0]) / 2
    angle = np.arccos(across / first)
    relu_pair = first * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    np.testing.assert_allclose(own, (first / 2 + relu_pair) / 2, rtol=1e-13)


@pytest.mark.parametrize("axis", [1, pytest.param(-2, marks=pytest.mark.slow)])
def test_a_dense_layer_takes_any_axis_of_raw_inputs_as_features(axis):
    """As a Dense layer on transposed inputs, of a network with a convolution behind it; finite as infinite."""
    x = inputs("2d")
    rest = (relu, conv((4, 2), None, "valid"), relu, flat, nn.Dense(1))
    chosen, last = (nn.Serial(nn.Dense(8, 1.2, 0.3, parametrization, at), *rest)
                    for parametrization, at in (("standard", axis), ("standard", -1)))  # fmt: skip
    moved = np.moveaxis(x, axis, -1)
    for one, other in zip(nngp_and_ntk(chosen, x, x[:1]), nngp_and_ntk(last, moved, moved[:1]), strict=True):
        np.testing.assert_array_equal(one, other)
    params = chosen.init(jax.random.key(0), x.shape)
    single = jnp.asarray(x, jnp.float32)
    out = chosen.apply(params, single)
    np.testing.assert_array_equal(out, last.apply(params, jnp.moveaxis(single, axis, -1)))
    assert chosen.output_shape(x.shape) == out.shape


def test_circular_transposed_convolutions_are_those_of_the_same_padding_away_from_the_edges():
    x = jnp.asarray(inputs("2d"), jnp.float32)
    for strides in ((2, 3), (1, 2)):
        same, circular = (nn.ConvTranspose(2, (3, 2), strides, padding) for padding in ("same", "circular"))
        params = same.init(jax.random.key(0), x.shape)
        inner, wrapped = same.apply(params, x), circular.apply(params, x)
        assert inner.shape == wrapped.shape == circular.output_shape(x.shape)
        np.testing.assert_allclose(wrapped[:, 3:-3, 3:-3], inner[:, 3:-3, 3:-3], rtol=1e-5)
        assert np.abs(wrapped - inner).max() > 0.1
        rolled = circular.apply(params, jnp.roll(x, 1, axis=1))
        np.testing.assert_allclose(rolled, jnp.roll(wrapped, strides[0], axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_repetition_is_the_same_network():
    x = inputs("1d")
    body = nn.Residual(nn.Serial(relu, conv((3,))))
    repeated = nn.Serial(conv((3,)), nn.Repeat(body, 6), relu, flat, dense)
    unrolled = nn.Serial(conv((3,)), *(body,) * 6, relu, flat, dense)
    np.testing.assert_allclose(NTK(repeated)(x), NTK(unrolled)(x), rtol=1e-14)
    shape = (2, 7, 16)
    params = nn.Repeat(body, 3).init(jax.random.key(0), shape)
    assert len(params) == 3 and nn.Repeat(body, 3).apply(params, jnp.ones(shape)).shape == shape


def test_blocks_that_change_size_are_not_run_as_a_loop():
    """Five 2-pixel convolutions without padding: 7 pixels become 2."""
    network = nn.Serial(
        *(layer for _ in range(5) for layer in (conv((2,), None, "valid"), relu)), flat, dense
    )
    x = np.random.default_rng(0).standard_normal((2, 7, 2))
    gram = NTK(network)(x, x.copy())
    assert gram.shape == (2, 2) and np.linalg.eigvalsh(gram)[0] > 0
    assert network.output_shape((2, 7, 2)) == (2, 16)


def test_a_plan_says_that_few_images_take_the_reference_engine():
    plan = NTK(NETWORKS["flat"][1]).plan(inputs("2d"))
    assert plan.engine == "reference" and "pairs of pixels do not repay compiling" in plan.reason


@pytest.mark.slow
def test_expansions_in_networks_of_images_reach_their_tolerance():
    """Tanh as a plain expansion against erf's closed form is another function; erf itself by expansion is the same."""
    network = nn.Serial(conv((3, 3)), nn.Elementwise(jax.scipy.special.erf), pooled, dense)
    closed = nn.Serial(conv((3, 3)), nn.Erf(), pooled, dense)
    x = inputs("2d")
    np.testing.assert_allclose(NTK(network)(x), NTK(closed)(x), rtol=1e-7)
    (bound,) = NTK(network).bounds(x)
    assert 0 < bound.dual <= 1e-9


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Serial(*block, relu), r"position 2 .*Relu needs Gaussian values, got those after Relu"),
        (lambda: nn.Serial(*block, pooled, relu), "position 3 .*Put a Dense or Conv"),
        (lambda: nn.Serial(conv((3, 3)), nn.Residual(relu), relu), "two without"),
        (
            lambda: NTK(nn.Serial(nn.Residual(nn.Serial(nn.Dense(2), relu)), dense))(np.ones((2, 2))),
            "summands of mean zero but for one, or .* got the outputs of Relu and the inputs",
        ),
        (lambda: nn.Serial(conv((3, 3)), flat, relu, dense), "position 2 .*units of one variance.*Put Relu before"),
        (
            lambda: nn.Serial(nn.Parallel(nn.Serial(conv((3,)), flat), nn.Serial(conv((3,)), flat), merge="product")),
            "distributed alike but for one, got those after Flatten and Flatten",
        ),
        (
            lambda: nn.Serial(nn.Parallel(nn.Serial(*block, flat), nn.Serial(*block, flat))),
            "distributed alike but for one, got those after Flatten and Flatten",
        ),
        (lambda: nn.Serial(*block, nn.LayerNorm()), "position 2 .*LayerNorm needs Gaussian"),
        (lambda: NTK(nn.Serial(nn.Residual(nn.Dense(2)), relu, dense))(np.ones((2, 2))), "Relu needs Gaussian"),
        (lambda: nn.BatchNorm(), r"no infinite-width kernel .* of two inputs: .*LayerNorm"),
        (lambda: nn.Dense(4, axis=0), "axis of features, got 0"),
        (lambda: NTK(nn.Serial(nn.Dense(4, axis=3), flat))(np.ones((2, 3, 4))), r"axis 3 of inputs of shape"),
        (lambda: nn.Serial(dense, nn.Dense(4, axis=1)), r"Dense\(.*axis=1\) needs to stand first.* position 1"),
        (lambda: nn.Residual(nn.Dense(4, axis=1)), "needs to stand first, on the inputs, got branch 0 of Residual"),
        (lambda: nn.LayerNorm((-2,)), "the channels -1 among them"),
        (lambda: nn.Conv(0, (3,)), "width of at least 1"),
        (lambda: nn.Conv(4, (3, 0)), "filter_shape as one to three whole numbers"),
        (lambda: nn.Conv(4, (3, 3), (1,)), "strides of 2 numbers"),
        (lambda: nn.GlobalSelfAttention(4, scaling="root"), 'scaling "linear" for softmax'),
        (lambda: nn.Aggregate(np.ones((2, 3))), r"shape \(nodes, nodes\)"),
        (lambda: nn.Dropout(0.0), "keep above 0"),
        (lambda: nn.Parallel(), "at least one branch"),
        (lambda: nn.Repeat(relu, 0), "at least 1"),
        (lambda: nn.Index(("a",)), "whole number or a slice"),
        (lambda: NTK(nn.Serial(conv((3, 3)), flat))(np.ones((2, 5))), "position 0 .*Conv needs inputs of 2 spatial"),
        (lambda: NTK(nn.Serial(*block))(np.ones((2, 5, 5, 1))), "outputs are vectors.*Flatten"),
        (lambda: NTK(nn.Serial(conv((9,), None, "valid"), flat))(np.ones((2, 5, 1))), r"at least \(9,\) pixels"),
        (
            lambda: nn.Serial(conv((3,)), nn.Residual(conv((3,), (2,)))).output_shape((1, 6, 2)),
            "position 1 .*outputs have one shape.*shortcut past strides",
        ),
        (lambda: NTK(nn.Serial(flat, dense))(np.ones((2, 3, 3, 3, 3, 3))), "one to three axes"),
    ],
)  # fmt: skip
def test_impossible_networks_of_images_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
