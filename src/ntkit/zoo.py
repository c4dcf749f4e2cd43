"""Ready-made networks: plain values of `ntkit.nn`, to print, to change, to use as they are.

Widths matter to the finite networks and to the standard parametrisation alone. Weights have variance 2 over fan-in, as
suits ReLU (He et al. 2015), so that the kernels neither grow nor vanish with depth.
"""

import re
from collections.abc import Callable

from ntkit.nn import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    GlobalSelfAttention,
    LayerNorm,
    Relu,
    Residual,
    Serial,
)
from ntkit.nn.base import Layer

_HE = 2.0**0.5


def network_named(name: str, outputs: int = 10) -> Serial:
    """A whole network by its name, a number at the end being its depth: "myrtle5", "resnet14", "vgg_like", "mlp3".

    The number is the first argument of the function of that name, which see: layers, hidden layers or blocks.

    Raises:
        ValueError: for an unknown name, listing those there are, or a depth that the network does not have.

    >>> network_named("mlp1", 3) == mlp(1, outputs=3)
    True
    """
    known: dict[str, Callable[..., Serial]] = {
        "mlp": mlp,
        "residual_mlp": residual_mlp,
        "lenet": lenet,
        "vgg_like": vgg_like,
        "myrtle": myrtle,
        "resnet": resnet,
        "wide_resnet": wide_resnet,
    }
    found = re.fullmatch(r"(.*?)(\d*)", name.strip().lower().replace("-", "_"))
    assert found is not None  # every text has this form
    base, depth = found.groups()
    if base not in known:
        raise ValueError(
            f"network needs one of {', '.join(known)}, with its depth at the end where it has one (myrtle5, resnet14, "
            f"mlp3), got {name!r}."
        )
    if not depth:
        return known[base](outputs=outputs)
    if base == "lenet":
        raise ValueError(f"network lenet has no choice of depth, got {name!r}. Leave the number out.")
    return known[base](int(depth), outputs=outputs)


def mlp(depth: int = 3, width: int = 512, outputs: int = 1, b_std: float = 0.1) -> Serial:
    """A fully connected ReLU network of `depth` hidden layers; images are flattened.

    >>> mlp(1, 64)
    Serial(Flatten(), Dense(width=64, w_std=1.4142135623730951, b_std=0.1, parametrization='ntk', axis=-1), Relu(), \
Dense(width=1, w_std=1.0, b_std=0.0, parametrization='ntk', axis=-1))
    """
    _check("mlp", depth)
    hidden = (Dense(width, _HE, b_std), Relu()) * depth
    return Serial(Flatten(), *hidden, Dense(outputs))


def residual_mlp(depth: int = 3, width: int = 512, outputs: int = 1, b_std: float = 0.1) -> Serial:
    """A fully connected network of `depth` residual blocks, each ReLU, then weights."""
    _check("residual_mlp", depth)
    block = Residual(Serial(Relu(), Dense(width, 1.0, b_std)))
    return Serial(Flatten(), Dense(width, _HE, b_std), *(block,) * depth, Relu(), Dense(outputs))


def lenet(outputs: int = 10) -> Serial:
    """LeNet-5 with ReLU and average pooling (LeCun et al. 1998), for images of at least 12 x 12 pixels."""
    return Serial(
        *_block(6, (5, 5)),
        AvgPool((2, 2)),
        Conv(16, (5, 5), None, "valid", _HE),
        Relu(),
        AvgPool((2, 2)),
        Flatten(),
        Dense(120, _HE),
        Relu(),
        Dense(84, _HE),
        Relu(),
        Dense(outputs),
    )


def vgg_like(depth: int = 3, width: int = 64, outputs: int = 10) -> Serial:
    """Convolutions of 3 x 3, then the mean over all pixels: the plain convolutional kernel (Arora et al. 2019)."""
    _check("vgg_like", depth)
    return Serial(*_block(width) * depth, GlobalAvgPool(), Dense(outputs))


def myrtle(depth: int = 5, width: int = 64, outputs: int = 10) -> Serial:
    """The Myrtle network of 5, 7 or 10 layers, with average pooling between blocks (Shankar et al. 2020, figure 3).

    Raises:
        ValueError: for another depth.
    """
    blocks = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}
    if depth not in blocks:
        raise ValueError(f"myrtle needs a depth of 5, 7 or 10, got {depth}.")
    first, second, third = (_block(width) * count for count in blocks[depth])
    pool = AvgPool((2, 2))
    return Serial(*first, pool, *second, pool, *third, GlobalAvgPool(), Dense(outputs))


def resnet(depth: int = 14, width: int = 64, outputs: int = 10) -> Serial:
    """A residual network of `6 k + 2` layers in three stages, the later two strided (He et al. 2016).

    ReLU before weights, without batch normalisation, which has no kernel of two inputs (see `BatchNorm`).

    Raises:
        ValueError: for a depth that is not of this form.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"resnet needs a depth of 8, 14, 20, ... (6 k + 2), got {depth}.")
    return _residual_stages((depth - 2) // 6, width, outputs)


def wide_resnet(blocks: int = 4, widen: int = 10, outputs: int = 10) -> Serial:
    """A wide residual network (Zagoruyko and Komodakis 2016): three stages of `blocks` blocks, `16 widen` channels."""
    _check("wide_resnet", blocks)
    return _residual_stages(blocks, 16 * widen, outputs)


def transformer_block(width: int = 128, heads: int = 8) -> Serial:
    """Self-attention, then a ReLU layer, each past a residual connection and after normalisation (Xiong et al. 2020).

    It stands after weights, such as a `Dense` that embeds tokens of shape (n, tokens, c), and leaves Gaussian values.
    """
    attention = GlobalSelfAttention(width, heads, max(1, width // heads))
    hidden = Serial(LayerNorm(), Dense(4 * width), Relu(), Dense(width, _HE))
    return Serial(Residual(Serial(LayerNorm(), attention)), Residual(hidden))


def _check(who: str, depth: int) -> None:
    if depth < 1:
        raise ValueError(f"{who} needs a depth of at least 1, got {depth}.")


def _block(width: int, filter_shape: tuple[int, int] = (3, 3)) -> tuple[Layer, ...]:
    return (Conv(width, filter_shape, None, "same", _HE), Relu())


def _residual_stages(blocks: int, width: int, outputs: int) -> Serial:
    layers: list[Layer] = [Conv(width, (3, 3), None, "same", _HE)]
    for stage in range(3):
        for block in range(blocks):
            strides = (2, 2) if stage > 0 and block == 0 else (1, 1)
            body = Serial(
                Relu(),
                Conv(width, (3, 3), strides, "same", _HE),
                Relu(),
                Conv(width, (3, 3), None, "same", _HE),
            )
            if strides == (1, 1):
                layers.append(Residual(body))
            else:
                layers.append(Residual(body, Conv(width, (1, 1), strides)))
    return Serial(*layers, Relu(), GlobalAvgPool(), Dense(outputs))
