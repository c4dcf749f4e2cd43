"""Networks of images that cover every spatial layer, with inputs to match; the peer's numbers are in peer_kernels.json.

`dense` is `Dense(16, 1.1, 0.1)`, a convolution has w_std 1.3 and b_std 0.2. In neural-tangents 0.6.5 the same networks
are `stax.serial` of the layers of the same names; its version, its inputs and both kernels of them are in the file.
"""

from functools import partial

import numpy as np

from ntkit import nn

SHAPES = {"2d": (6, 5, 3), "1d": (7, 2), "3d": (4, 3, 5, 2), "gray": (6, 6, 1), "square": (8, 8, 2)}


def inputs(kind, count=3, seed=0):
    """Images of one kind."""
    return np.random.default_rng(seed).standard_normal((count, *SHAPES[kind]))


conv = partial(nn.Conv, 16, w_std=1.3, b_std=0.2)
standard = partial(nn.Conv, 16, w_std=1.3, b_std=0.2, parametrization="standard")
transposed = partial(nn.ConvTranspose, 16, w_std=1.3, b_std=0.2)
local = partial(nn.ConvLocal, 16, w_std=1.3, b_std=0.2)
attention = partial(
    nn.GlobalSelfAttention, 16, query_std=0.8, key_std=1.2, value_std=0.9, out_std=1.1, b_std=0.3
)
dense, dense_standard = nn.Dense(16, 1.1, 0.1), nn.Dense(16, 1.1, 0.1, "standard")
relu, erf, flat, pooled = nn.Relu(), nn.Erf(), nn.Flatten(), nn.GlobalAvgPool()
block = (conv((3, 3)), relu)


NETWORKS = {
    "flat": ("2d", nn.Serial(*block, *block, flat, dense)),
    "gap": ("2d", nn.Serial(*block, *block, pooled, dense)),
    "valid_stride": (
        "2d",
        nn.Serial(conv((2, 3), (2, 1), "valid"), erf, conv((2, 2), (1, 2)), relu, flat, dense),
    ),
    "circ": (
        "2d",
        nn.Serial(conv((3, 3), None, "circular"), relu, conv((3, 2), (2, 1), "circular"), relu, pooled, dense),
    ),
    "1d": ("1d", nn.Serial(conv((3,)), relu, conv((4,), (2,)), erf, pooled, dense)),
    "3d": ("3d", nn.Serial(conv((3, 2, 3)), relu, conv((2, 2, 2), (2, 1, 2)), relu, pooled, dense)),
    "std": (
        "2d",
        nn.Serial(standard((3, 3)), relu, standard((3, 3)), relu, flat, dense_standard, relu, dense_standard),
    ),
    "std_gap": (
        "2d",
        nn.Serial(standard((3, 3)), relu, standard((3, 3), (2, 2)), relu, pooled, dense_standard),
    ),
    "gray": ("gray", nn.Serial(*block, *block, pooled, dense)),
    "head": ("2d", nn.Serial(*block, flat, dense, relu, dense)),
    "gap_head": ("2d", nn.Serial(*block, pooled, dense, relu, dense)),
    "pool_between": (
        "square",
        nn.Serial(
            *block, nn.AvgPool((2, 2)), *block, nn.AvgPool((2, 2)), *block, pooled, dense, relu, dense
        ),
    ),
    "pool_same": ("2d", nn.Serial(*block, nn.AvgPool((3, 3), (2, 2), "same"), *block, flat, dense)),
    "pool_norm": (
        "2d",
        nn.Serial(conv((3, 3)), nn.AvgPool((3, 3), (2, 2), "same", True), relu, flat, dense),
    ),
    "sumpool": (
        "2d",
        nn.Serial(*block, nn.SumPool((2, 2), (1, 1)), *block, nn.GlobalSumPool(), dense, erf, dense),
    ),
    "pool_circ": ("2d", nn.Serial(*block, nn.AvgPool((3, 2), (2, 1), "circular"), *block, pooled, dense)),
    "res": (
        "2d",
        nn.Serial(conv((3, 3)), nn.Residual(nn.Serial(relu, *block, conv((3, 3)))), relu, pooled, dense),
    ),
    "res_proj": (
        "2d",
        nn.Serial(*block, nn.Residual(conv((3, 3), (2, 2)), conv((1, 1), (2, 2))), relu, flat, dense),
    ),
    "res_deep_pool": (
        "square",
        nn.Serial(
            conv((3, 3)),
            nn.Residual(
                nn.Serial(relu, conv((3, 3)), nn.AvgPool((2, 2), (1, 1), "same"), relu, conv((3, 3)))
            ),
            nn.AvgPool((2, 2)),
            relu,
            *block,
            pooled,
            dense,
        ),
    ),
    "prod": (
        "2d",
        nn.Serial(
            conv((3, 3)),
            nn.Parallel(nn.Serial(relu, conv((3, 3))), nn.Serial(erf, conv((3, 3))), merge="product"),
            *block,
            pooled,
            dense,
        ),
    ),
    "concat": (
        "2d",
        nn.Serial(
            *block,
            nn.Parallel(nn.Conv(8, (3, 3), None, "same", 1.3, 0.2), nn.Conv(24, (1, 1), None, "same", 1.3, 0.2),
                        merge="concat"),
            *block,
            pooled,
            dense,
        ),
    ),
    "ln": ("2d", nn.Serial(conv((3, 3)), nn.LayerNorm((-1,), 1e-2), relu, *block, pooled, dense)),
    "ln_sp": ("2d", nn.Serial(conv((3, 3)), nn.LayerNorm((-1, -2), 1e-3), relu, *block, flat, dense)),
    "ln_pair": (
        "2d",
        nn.Serial(
            conv((3, 3)), nn.LayerNorm((-1, -3, -2), 1e-3), relu, pooled, dense, nn.LayerNorm((-1,), 1e-2), relu, dense
        ),
    ),
    "drop": ("2d", nn.Serial(*block, nn.Dropout(0.7), *block, flat, dense)),
    "drop_gap": (
        "2d",
        nn.Serial(*block, nn.Dropout(0.7), *block, pooled, nn.Dropout(0.6), dense, relu, dense),
    ),
    "convt": ("2d", nn.Serial(transposed((3, 3), (2, 2)), relu, transposed((2, 3), (1, 2)), relu, pooled, dense)),
    "convt_v": (
        "2d",
        nn.Serial(transposed((3, 2), (2, 3), "valid"), relu, transposed((2, 3), (1, 2), "valid"), relu, flat, dense),
    ),
    "convt_c": (
        "2d",
        nn.Serial(
            transposed((3, 3), (2, 2), "circular"), relu, transposed((2, 3), (1, 2), "circular"), relu, pooled, dense
        ),
    ),
    "convl": ("2d", nn.Serial(local((3, 3)), relu, local((2, 3), (1, 2), "valid"), relu, pooled, dense)),
    "convl2": ("2d", nn.Serial(*block, local((3, 3)), relu, *block, pooled, dense)),
    "resize_even": ("2d", nn.Serial(*block, *block, nn.ImageResize((3, 7)), *block, pooled, dense)),
    "resize_near": (
        "2d",
        nn.Serial(*block, conv((3, 3)), nn.ImageResize((4, 8), "nearest"), relu, flat, dense),
    ),
    "attn": ("2d", nn.Serial(*block, attention(), relu, *block, pooled, dense)),
    "attn_first": ("1d", nn.Serial(attention(), attention(mechanism="identity"), relu, flat, dense)),
    "attn_root": (
        "1d",
        nn.Serial(
            nn.Conv(16, (3,), None, "same", 0.5, 0.2), relu, attention(scaling="root", mechanism="identity"), relu,
            pooled, dense,
        ),
    ),
    "index": (
        "2d",
        nn.Serial(*block, nn.Index((slice(1, 6, 2), slice(0, 3))), *block, pooled, dense),
    ),
}  # fmt: skip
