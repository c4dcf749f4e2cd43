"""Small modules of every kind, and their Jacobians by brute force: one example and one output at a time."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'ntkit[torch]'")

from torch import nn  # noqa: E402
from torch.func import functional_call  # noqa: E402

ROUNDING = 1e-12
"""Relative to the largest entry: float64 sums of a few hundred products err by some 100 ε = 2e-14."""


def points(n, *shape, seed=0, dtype=torch.float64):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make(build, *arguments):
    torch.manual_seed(0)
    return build(*arguments).double().eval()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * float(abs(expected).max()))


def rows(x, chosen):
    return {name: value[chosen] for name, value in x.items()} if isinstance(x, dict) else x[chosen]


def jacobian(module, x, outputs=None, names=None):
    """∂f_o(x_i)/∂θ in the order of `named_parameters`, shape (n, k, P), by `torch.autograd` alone."""
    names = [name for name, _ in module.named_parameters()] if names is None else names
    count = len(next(iter(x.values()))) if isinstance(x, dict) else len(x)
    found = []
    for i in range(count):
        point = rows(x, slice(i, i + 1))
        leaves = {name: module.get_parameter(name).detach().clone().requires_grad_() for name in names}
        arguments, keywords = ((), point) if isinstance(x, dict) else ((point,), {})
        result = functional_call(module, leaves, arguments, keywords)
        result = result if outputs is None else outputs(result)
        gradients = [
            torch.autograd.grad(
                value, list(leaves.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for value in result[0]
        ]
        found.append(torch.stack([torch.cat([part.flatten() for part in row]) for row in gradients]))
    return torch.stack(found)


def blocks_by_brute_force(module, x1, x2=None, outputs=None, names=None):
    """`J(x1) J(x2)ᵀ`, shape (n, m, k, k)."""
    left = jacobian(module, x1, outputs, names)
    right = left if x2 is None else jacobian(module, x2, outputs, names)
    return torch.einsum("nap,mbp->nmab", left, right)


def mlp(inputs=4):
    return nn.Sequential(
        nn.Linear(inputs, 9), nn.ReLU(inplace=True), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 3)
    )


def cnn():
    """Strides, paddings, dilation, groups, a depthwise layer, two norms."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, (3, 2), padding="same", dilation=(2, 1), groups=2, padding_mode="circular"),
        nn.GroupNorm(2, 6),
        nn.GELU(),
        nn.Conv2d(6, 6, 3, groups=6, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


class Encoder(nn.Module):
    """Positions twice (a raw parameter and an embedding shared by all examples), masks, attention elsewhere."""

    def __init__(self, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.inward, self.position = nn.Linear(5, 8), nn.Parameter(torch.randn(1, 6, 8))
        self.place = nn.Embedding(6, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.other = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.inward(x) + self.position + self.place(torch.arange(6))
        h = h if self.batch_first else h.transpose(0, 1)
        causal = nn.Transformer.generate_square_subsequent_mask(6, dtype=x.dtype)
        encoded = self.layers(h, mask=causal, is_causal=True)
        padded = torch.arange(6)[None, :] > 3 + (x[:, 0, 0] > 0)[:, None]
        encoded = encoded + self.other(encoded, 2 * h, h, key_padding_mask=padded, need_weights=False)[0]
        encoded = encoded if self.batch_first else encoded.transpose(0, 1)
        return self.head(self.norm(encoded).mean(1))


class Recurrent(nn.Module):
    """An LSTM and a dense layer on its last state."""

    def __init__(self):
        super().__init__()
        self.memory, self.head = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.memory(x)[0][:, -1])


class Tied(nn.Module):
    """A layer called twice, a weight shared by two layers, an embedding tied to the last layer, a parameter unused."""

    def __init__(self):
        super().__init__()
        self.again, self.left, self.right = nn.Linear(5, 5), nn.Linear(5, 4), nn.Linear(5, 4)
        self.right.weight = self.left.weight
        self.tokens, self.head = nn.Embedding(4, 5, padding_idx=0), nn.Linear(5, 4, bias=False)
        self.head.weight = self.tokens.weight
        self.idle = nn.Linear(3, 3)

    def forward(self, x):
        chosen = (x[..., 0] > 0).long() + 2 * (x[..., 1] > 0).long()
        h = self.again(torch.tanh(self.again(x + self.tokens(chosen))))
        h = (self.left(h) * self.right(h)).mean(1)
        return h + self.head(x[:, 0])


class Direct(Tied):
    """The same, and one weight besides used without its layer."""

    def forward(self, x):
        return super().forward(x) + x[:, 1] @ self.left.weight.T


class Folded(nn.Module):
    """Positions folded into the axis of examples, example by example or position by position."""

    def __init__(self, major):
        super().__init__()
        self.major, self.inward, self.head = major, nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = x if self.major else x.transpose(0, 1)
        h = torch.tanh(self.inward(h.reshape(-1, 5))).reshape(*h.shape[:2], 4)
        return self.head(h if self.major else h.transpose(0, 1)).mean(1)


class Volume(nn.Module):
    """Convolutions along one and three axes."""

    def __init__(self):
        super().__init__()
        self.line, self.space = (
            nn.Conv1d(5, 6, 2, padding=1, padding_mode="reflect"),
            nn.Conv3d(1, 3, 2, stride=2),
        )

    def forward(self, x):
        h = torch.tanh(self.line(x.transpose(1, 2))).reshape(len(x), 1, 3, 2, -1)
        return self.space(h).flatten(2).mean(2)
