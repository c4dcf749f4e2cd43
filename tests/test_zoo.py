"""Ready-made networks: each is a finite network and has a kernel; sizes that make none are refused."""

import jax
import numpy as np
import pytest

from ntkit import NTK, nn, zoo

NETWORKS = {
    "mlp": (zoo.mlp(2, 8), (3, 5)),
    "mlp of images": (zoo.mlp(2, 8), (3, 2, 2, 1)),
    "residual_mlp": (zoo.residual_mlp(2, 8), (3, 5)),
    "lenet": (zoo.lenet(), (2, 12, 12, 1)),
    "vgg_like": (zoo.vgg_like(2, 4), (2, 4, 5, 3)),
    "myrtle5": (zoo.myrtle(5, 4), (2, 8, 8, 3)),
    "resnet8": (zoo.resnet(8, 4), (2, 8, 8, 3)),
    "wide_resnet": (zoo.wide_resnet(1, 1), (2, 8, 8, 3)),
    "transformer_block": (
        nn.Serial(nn.Dense(16), zoo.transformer_block(16, 2), nn.Flatten(), nn.Dense(1)),
        (2, 5, 3),
    ),
}
QUICK = ("mlp", "mlp of images", "residual_mlp")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_every_ready_made_network_is_a_function_and_a_kernel(name):
    network, shape = NETWORKS[name]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    outputs = network.apply(network.init(jax.random.key(0), shape), jax.numpy.asarray(x))
    assert outputs.shape == network.output_shape(shape)
    gram = NTK(network)(x)
    eigenvalues = np.linalg.eigvalsh(gram)
    assert eigenvalues[0] > 1e-5 * eigenvalues[-1]


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("mlp", zoo.mlp(outputs=3)),
        ("MLP2", zoo.mlp(2, outputs=3)),
        ("residual-mlp2", zoo.residual_mlp(2, outputs=3)),
        ("vgg_like1", zoo.vgg_like(1, outputs=3)),
        ("myrtle10", zoo.myrtle(10, outputs=3)),
        ("resnet20", zoo.resnet(20, outputs=3)),
        ("wide_resnet2", zoo.wide_resnet(2, outputs=3)),
        ("lenet", zoo.lenet(3)),
    ],
)
def test_a_name_and_a_number_name_a_network(name, network):
    assert zoo.network_named(name, 3) == network


@pytest.mark.parametrize("depth", [5, 7, 10])
def test_myrtles_have_as_many_layers_with_weights_as_they_say(depth):
    weights = [layer for layer in zoo.myrtle(depth).layers if isinstance(layer, nn.Conv | nn.Dense)]
    assert len(weights) == depth


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: zoo.mlp(0), "mlp needs a depth of at least 1"),
        (lambda: zoo.myrtle(6), "5, 7 or 10"),
        (lambda: zoo.resnet(9), r"8, 14, 20"),
        (lambda: zoo.network_named("myrtle6"), "5, 7 or 10"),
        (lambda: zoo.network_named("vgg"), "one of mlp, residual_mlp, lenet.*got 'vgg'"),
        (lambda: zoo.network_named("lenet5"), "no choice of depth"),
    ],
)
def test_sizes_that_make_no_network_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
