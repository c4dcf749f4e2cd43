"""Convolutional networks on planes of pixel pairs against the layers' own arrays over all pairs of pixels."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkit import NTK, nn
from ntkit.engines import choice, reference
from ntkit.engines.fused.image_program import fuse_images
from ntkit.errors import FusionError, KernelOverflowError
from ntkit.nn.activations.base import Activation


def pictures(dtype, shape=(5, 6, 2)):
    """Images with a duplicate, an opposite, a multiple, a near-duplicate, an empty one and one with black borders."""
    x = np.random.default_rng(0).standard_normal((8, *shape))
    x[1], x[2], x[3], x[4], x[5] = x[0], -x[0], 2 * x[0], x[0] + 1e-5, 0
    x[6, 0], x[6, ..., 0, :] = 0, 0
    return x.astype(dtype)


def network(activation: Activation, end, parametrization="ntk", head=()):
    """Odd, even and one-pixel filters, with and without biases."""
    return nn.Serial(
        nn.Conv(8, (3, 3), w_std=1.3, b_std=0.1, parametrization=parametrization),
        activation,
        nn.Conv(16, (2, 5), w_std=1.1, parametrization=parametrization),
        activation,
        nn.Dense(12, 1.2, 0.2, parametrization),
        activation,
        end,
        nn.Dense(9, 1.1, 0.3, parametrization),
        *head,
        nn.Dense(1, 1.0, 0.1, parametrization),
    )


def check_same(net, x, other=None):
    found = choice.concrete(net, x, other, ntk=True, engine="fused")
    double = None if other is None else other.astype(float)
    exact = reference.concrete(net, x.astype(float), double, ntk=True)
    own = reference.concrete_diagonal(net, x.astype(float), ntk=True)
    others = own if other is None else reference.concrete_diagonal(net, double, ntk=True)
    for name in ("nngp", "ntk"):
        scale = np.sqrt(getattr(own, name)[:, None] * getattr(others, name))
        # A few dozen roundings of a pair of pixels; averages over many pairs round less.
        allowed = 64 * np.finfo(x.dtype).eps * scale
        assert (np.abs(getattr(found, name) - getattr(exact, name)) <= allowed).all()
        assert getattr(found, name).dtype == x.dtype
        if other is None:
            np.testing.assert_array_equal(getattr(found, name), getattr(found, name).T)


MORE = [
    (nn.Relu(), nn.Flatten(), "standard"),
    (nn.Gelu(), nn.GlobalAvgPool(), "standard"),
    (nn.Tanh(degree=24), nn.GlobalAvgPool(), "ntk"),
    (nn.Erf(), nn.Flatten(), "ntk"),
]


SMALLEST = nn.Serial(
    nn.Conv(8, (3, 2), w_std=1.3, b_std=0.1), nn.Relu(), nn.AvgPool((2, 1)), nn.GlobalAvgPool(), nn.Dense(1)
)


def test_both_engines_agree_on_the_smallest_network():
    check_same(SMALLEST, pictures("float64", (4, 3, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("activation", "end", "parametrization"),
    [(nn.Relu(), nn.GlobalAvgPool(), "ntk"), *MORE],
    ids=repr,
)
def test_both_engines_agree_on_images(activation, end, parametrization, dtype):
    net, x = network(activation, end, parametrization), pictures(dtype)
    check_same(net, x)
    check_same(net, x[:3], x[1:])


@pytest.mark.slow
@pytest.mark.parametrize("end", [nn.GlobalAvgPool(), nn.Flatten()], ids=repr)
def test_both_engines_agree_on_heads_that_bend(end):
    """Not for near-duplicates, whose angle after pooling is known only to the root of rounding."""
    x = np.delete(pictures("float64"), 4, axis=0)
    check_same(network(nn.Relu(), end, head=(nn.Relu(),)), x)
    check_same(network(nn.Erf(), end, "standard", head=(nn.Erf(),)), x[:3], x[1:])


def test_depth_numbers_and_filters_of_one_shape_do_not_recompile_it():
    def chain(depth, w_std):
        layers = [
            layer for _ in range(depth) for layer in (nn.Conv(4, (3, 3), w_std=w_std, b_std=0.1), nn.Relu())
        ]
        return nn.Serial(*layers, nn.GlobalAvgPool(), nn.Dense(1))

    first = fuse_images(chain(2, 1.0), (5, 6, 2), np.float64, True)
    assert fuse_images(chain(4, 1.5), (5, 6, 2), np.float64, True).module is first.module


@pytest.mark.slow
def test_diagonals_are_those_of_the_matrix(monkeypatch):
    net, x = network(nn.Relu(), nn.GlobalAvgPool()), pictures("float64")
    monkeypatch.setattr(choice, "WORTH_COMPILING_IMAGES", 1)
    fused = choice.concrete_diagonal(net, x, ntk=True)
    plain = reference.concrete_diagonal(net, x, ntk=True)
    for ours, theirs, gram in zip(
        fused, plain, choice.concrete(net, x, None, ntk=True, engine="fused"), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)
        np.testing.assert_allclose(ours, np.diag(gram), rtol=1e-13)


CONV = nn.Conv(8, (3, 3), w_std=1.3, b_std=0.1)
RELU = nn.Relu()
BLOCK = nn.Residual(nn.Serial(RELU, CONV, RELU, nn.Conv(8, (2, 3), w_std=0.9, parametrization="standard")))
CIRCULAR = nn.Conv(8, (3, 2), padding="circular", w_std=1.2, b_std=0.2)
SCHEDULES = {
    "pooling in between": (CONV, RELU, nn.AvgPool((2, 2)), CONV, RELU, nn.SumPool((2, 1)), CONV, RELU),
    "overlapping windows": (CONV, RELU, nn.AvgPool((3, 2), (2, 1), "same", True), CONV, RELU),
    "pooled inputs": (nn.AvgPool((1, 2)), CONV, RELU, nn.AvgPool((2, 2), padding="circular"), CONV, RELU),
    "strides": (nn.Conv(8, (3, 3), (2, 1)), RELU, nn.Conv(8, (2, 2), (1, 2)), RELU, nn.Conv(8, (1, 1), (2, 2)), RELU),
    "valid": (nn.Conv(8, (2, 3), padding="valid"), RELU, nn.Conv(8, (3, 1), (2, 2), "valid"), RELU),
    "circular": (CIRCULAR, RELU, nn.Conv(8, (1, 2), (1, 2), "circular"), RELU, nn.AvgPool((2, 2)), CIRCULAR, RELU),
    "residual": (CONV, BLOCK, BLOCK, RELU),
    "strided residual": (
        CONV,
        nn.Residual(nn.Serial(RELU, nn.Conv(8, (3, 3), (2, 2)), RELU, CONV), nn.Conv(8, (1, 1), (2, 2))),
        nn.Repeat(nn.Residual(nn.Serial(nn.LayerNorm(), RELU, CONV)), 2),
        RELU,
    ),
    "branches that pool": (
        CONV,
        nn.Parallel(
            nn.Serial(RELU, nn.AvgPool((2, 2)), CONV),
            nn.Serial(nn.AvgPool((2, 2)), CONV),
            nn.Serial(CONV, nn.SumPool((2, 2)), CONV),
        ),
        RELU,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("end", [nn.GlobalAvgPool(), nn.GlobalSumPool(), nn.Flatten()], ids=repr)
@pytest.mark.parametrize("name", SCHEDULES)
def test_both_engines_agree_on_every_schedule(name, end):
    """Not for near-duplicates, whose angle after pooling is known only to the root of rounding."""
    net, x = (
        nn.Serial(*SCHEDULES[name], end, nn.Dense(1, 1.0, 0.1)),
        np.delete(pictures("float64"), 4, axis=0),
    )
    check_same(net, x)
    check_same(net, x[:3].astype("float32"), x[1:].astype("float32"))


@pytest.mark.slow
@pytest.mark.parametrize("end", [nn.GlobalAvgPool(), nn.Flatten()], ids=repr)
def test_both_engines_agree_on_sequences(end):
    x = np.delete(pictures("float64", (9, 2)).reshape(8, 9, 2), 4, axis=0)
    conv = nn.Conv(8, (3,), w_std=1.3, b_std=0.1)
    strided = nn.Conv(8, (3,), (2,), "circular", w_std=1.2)
    block = nn.Residual(nn.Serial(RELU, conv))
    check_same(
        nn.Serial(
            nn.AvgPool((2,), (1,)), conv, block, RELU, nn.AvgPool((2,)), strided, RELU, end, nn.Dense(1)
        ),
        x,
    )
    check_same(nn.Serial(conv, RELU, nn.SumPool((3,)), conv, RELU, end, nn.Dense(1)), x[:3], x[2:])


LAYERS = (
     CONV, nn.Conv(8, (2, 3), (1, 2)), nn.Conv(8, (2, 2), padding="valid"), nn.Dense(8, 1.1, 0.3), RELU, nn.Erf(),
     nn.AvgPool((2, 2)), nn.AvgPool((3, 2), (1, 2), "same"), nn.LayerNorm(), BLOCK,
     nn.Residual(nn.Serial(CONV, RELU, CONV), nn.Conv(8, (1, 1)))
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    numbers=st.lists(st.sampled_from(range(len(LAYERS))), min_size=1, max_size=7),
    flat=st.booleans(),
    seed=st.integers(0, 99),
)
def test_both_engines_agree_on_drawn_networks(numbers, flat, seed):
    """More is allowed than elsewhere: activations after pooling know their angles from variances alone."""
    # Numbers are drawn: the types of layers are checked by random samples, which hypothesis takes for its own.
    layers = [LAYERS[number] for number in numbers]
    x = np.random.default_rng(seed).standard_normal((4, 7, 6, 2))
    try:
        net = nn.Serial(*layers, CONV, RELU, nn.Flatten() if flat else nn.GlobalAvgPool(), nn.Dense(1))
        net.output_shape(x.shape)
        exact = reference.concrete(net, x, None, ntk=True)
    except ValueError:
        return
    found = choice.concrete(net, x, None, ntk=True, engine="fused")
    for ours, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.ConvLocal(4, (3, 3)), "layer 0, ConvLocal"),
        (nn.Dropout(0.5), "layer 0, Dropout"),
        (
            nn.Residual(nn.AvgPool((2, 2)), nn.Conv(2, (2, 2), (2, 2), "valid")),
            "layer 0, Residual.* unequally",
        ),
        (nn.Serial(CONV, CIRCULAR), "layer 1, Conv.* circular and other padding"),
    ],
    ids=["local", "random", "unequal", "mixed"],
)
def test_what_does_not_run_on_planes_says_so_and_takes_the_reference_engine(layer, reason, monkeypatch):
    net, x = (
        nn.Serial(layer, nn.Conv(4, (2, 2)), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1)),
        pictures("float64"),
    )
    with pytest.raises(FusionError, match=reason):
        NTK(net, engine="fused")(x)
    monkeypatch.setattr(choice, "WORTH_COMPILING_IMAGES", 1)
    chosen = choice.choose(reference.prepare(net, x, None, ntk=True), "auto")
    assert chosen.engine == "reference"
    assert re.search(reason, chosen.reason)


def test_small_work_takes_the_reference_engine_and_large_work_is_fused():
    net = SMALLEST
    few, many = pictures("float64"), np.zeros((70, 5, 6, 2))
    assert choice.choose(reference.prepare(net, few, None, ntk=True), "auto").engine == "reference"
    assert choice.choose(reference.prepare(net, many, None, ntk=True), "auto").engine == "fused"
    assert "planes of pixel pairs" in str(NTK(SMALLEST, engine="fused").plan(pictures("float64", (4, 3, 2))))


@pytest.mark.slow
def test_overflow_is_an_error_here_too():
    layers = [layer for _ in range(9) for layer in (nn.Conv(4, (3, 3), w_std=1e5), nn.Relu())]
    net = nn.Serial(*layers, nn.GlobalAvgPool(), nn.Dense(1))
    with pytest.raises(KernelOverflowError, match="kernel needs more than float32 can hold"):
        NTK(net, engine="fused")(pictures("float32"))
