"""Convolutional networks on planes of pixel pairs against the layers' own arrays over all pairs of pixels."""

import numpy as np
import pytest
from tests.engines.test_fused import compiled_modules  # noqa: F401

from ntkit import NTK, nn
from ntkit.engines import choice, reference
from ntkit.engines.fused import images
from ntkit.errors import FusionError, KernelOverflowError
from ntkit.nn.activations.base import Activation


def pictures(dtype, shape=(5, 6, 2)):
    """Images with a duplicate, an opposite, a multiple, a near-duplicate, an empty one and one with black borders."""
    x = np.random.default_rng(0).standard_normal((8, *shape))
    x[1], x[2], x[3], x[4], x[5] = x[0], -x[0], 2 * x[0], x[0] + 1e-5, 0
    x[6, 0], x[6, :, 0] = 0, 0
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


def test_both_engines_agree_on_the_smallest_network():
    net = nn.Serial(nn.Conv(8, (3, 2), w_std=1.3, b_std=0.1), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    check_same(net, pictures("float64", (4, 3, 2)))


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

    first = images.fuse_images(chain(1, 1.0), (5, 6, 2), np.float64, True)
    assert images.fuse_images(chain(4, 1.5), (5, 6, 2), np.float64, True).module is first.module


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


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv(4, (3, 3), strides=(2, 2)), "layer 0, Conv"),
        (nn.Conv(4, (3, 3), padding="valid"), "layer 0, Conv"),
        (nn.AvgPool((2, 2)), "layer 0, AvgPool"),
    ],
    ids=repr,
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
    assert reason in chosen.reason


def test_small_work_takes_the_reference_engine_and_large_work_is_fused():
    net = network(nn.Relu(), nn.GlobalAvgPool())
    few, many = pictures("float32"), np.zeros((70, 5, 6, 2), np.float32)
    assert choice.choose(reference.prepare(net, few, None, ntk=True), "auto").engine == "reference"
    assert choice.choose(reference.prepare(net, many, None, ntk=True), "auto").engine == "fused"
    assert "a chain of convolutions" in str(NTK(net, engine="fused").plan(few))


@pytest.mark.slow
def test_overflow_is_an_error_here_too():
    layers = [layer for _ in range(9) for layer in (nn.Conv(4, (3, 3), w_std=1e5), nn.Relu())]
    net = nn.Serial(*layers, nn.GlobalAvgPool(), nn.Dense(1))
    with pytest.raises(KernelOverflowError, match="kernel needs more than float32 can hold"):
        NTK(net, engine="fused")(pictures("float32"))
