"""A network on images that begins with Flatten is the network on vectors, to the last digit of near-duplicates."""

import numpy as np
import pytest

from ntkit import NTK, nn, zoo
from ntkit.engines import choice

NETWORK = zoo.mlp(2)
ON_VECTORS = nn.Serial(*NETWORK.layers[1:])


def images():
    x = np.random.default_rng(0).standard_normal((5, 4, 3, 2))
    x[1] = x[0] + 1e-9
    return x


@pytest.mark.parametrize(
    "network", [NETWORK, nn.Serial(nn.Mask(-9.0), *NETWORK.layers)], ids=["plain", "masked"]
)
def test_kernels_are_those_of_the_vectors(network):
    x = images()
    vectors = x.reshape(5, -1)
    np.testing.assert_array_equal(NTK(network)(x), NTK(ON_VECTORS)(vectors))
    np.testing.assert_array_equal(NTK(network).diag(x), NTK(ON_VECTORS).diag(vectors))


def test_the_fused_engine_of_vectors_runs_it():
    x = images()
    chosen = choice.concrete(NETWORK, x, None, ntk=True, engine="fused").ntk
    np.testing.assert_allclose(chosen, NTK(ON_VECTORS)(x.reshape(5, -1)), rtol=1e-13)


def test_a_later_flatten_still_sees_pixels():
    x = images()
    conv, dense = nn.Conv(4, (2, 2)), nn.Dense(1)
    nested, plain = nn.Serial(conv, nn.Serial(nn.Flatten(), dense)), nn.Serial(conv, nn.Flatten(), dense)
    np.testing.assert_array_equal(NTK(nested)(x), NTK(plain)(x))
