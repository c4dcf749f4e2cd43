"""The same weights in JAX and in PyTorch have the same kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'ntkit[torch]'")

from torch import nn  # noqa: E402

import ntkit  # noqa: E402
from ntkit.torch import EmpiricalNTK  # noqa: E402

FRAMEWORKS = 1e-5
"""Relative to the largest entry, float32: both sum some thousand products, in different orders. Random signs make
that √1000 ε = 4e-6; entries without cancellation, which are the largest, err less relative to themselves."""


def weights(module):
    return [jnp.asarray(value.detach().numpy()) for value in module.parameters()]


def mlp(parameters, x):
    w1, b1, w2, b2 = parameters
    h = jnp.tanh(jnp.matmul(x, w1.T, precision="highest") + b1[None, :])
    return jnp.matmul(h, w2.T, precision="highest") + b2[None, :]


def cnn(parameters, x):
    w1, b1, w2, b2 = parameters
    h = jax.lax.conv_general_dilated(
        x, w1, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NCHW", "OIHW", "NCHW"), precision="highest"
    )
    h = jax.nn.relu(h + b1[None, :, None, None]).mean((2, 3))
    return jnp.matmul(h, w2.T, precision="highest") + b2[None, :]


@pytest.mark.parametrize(
    ("function", "layers", "shape"),
    [
        (mlp, lambda: [nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 3)], (6,)),
        (
            cnn,
            lambda: [
                nn.Conv2d(3, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(16, 3),
            ],
            (3, 8, 8),
        ),
    ],
)
def test_both_frameworks_agree_on_the_same_weights(function, layers, shape):
    torch.manual_seed(0)
    module = nn.Sequential(*layers())
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    ours, theirs = EmpiricalNTK(module), ntkit.EmpiricalNTK(function, weights(module))
    for form in ("__call__", "full"):
        a, b = getattr(ours, form)(x), getattr(theirs, form)(x)
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=FRAMEWORKS * np.abs(b).max())
    np.testing.assert_allclose(ours(x, x[:2]), theirs(x, x[:2]), rtol=0, atol=FRAMEWORKS * np.abs(b).max())
