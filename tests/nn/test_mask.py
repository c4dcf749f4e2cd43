"""Masks: a padded sequence is the sequence by itself, in the finite network and in both kernels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.nn.spatial_networks import attention, conv, dense, flat, local, pooled, relu, transposed
from tests.nn.test_spatial import some

from ntkit import NNGP, NTK, nn
from ntkit.empirical import EmpiricalNTK
from ntkit.kernels import nngp_and_ntk

VALUE = -7.5
SEQUENCES, IMAGES = ((8,), (4,), (6,)), ((6, 4), (4, 6), (6, 6))
block = (conv((3,)), relu)

NETWORKS = {
    "pooled": (SEQUENCES, nn.Serial(*block, conv((2,)), nn.Cos(0.9, 1.1, 0.2), pooled, dense)),
    "summed": (SEQUENCES, nn.Serial(*block, conv((3,)), nn.Erf(), nn.GlobalSumPool(), dense, relu, dense)),
    "windows": (
        SEQUENCES,
        nn.Serial(conv((2,), None, "valid"), relu, conv((3,), (2,), "valid"), relu, pooled, dense),
    ),
    "strides": (SEQUENCES, nn.Serial(*block, conv((3,), (2,)), relu, pooled, dense)),
    "averages": (
        SEQUENCES,
        nn.Serial(
            *block, nn.AvgPool((3,), (1,), "same", True), *block, nn.AvgPool((2,)), conv((1,)), relu, pooled, dense
        ),
    ),
    "local": (SEQUENCES, nn.Serial(local((3,)), relu, nn.SumPool((2,), (2,), "same"), dense, relu, pooled)),
    "enlarged": (
        SEQUENCES, nn.Serial(transposed((3,), (2,)), relu, transposed((2,), (3,), "valid"), relu, pooled, dense)
    ),
    "attention": (SEQUENCES, nn.Serial(dense, relu, attention(), relu, attention(mechanism="identity"), pooled)),
    "scores": (
        SEQUENCES,
        nn.Serial(*block, attention(scaling="root", mechanism="identity", query_std=0.2), relu, pooled, dense),
    ),
    "normalised": (
        SEQUENCES,
        nn.Serial(conv((3,)), nn.LayerNorm((-2, -1), 1e-3), relu, conv((3,)), nn.LayerNorm(), nn.Cos(), pooled, dense),
    ),
    "blocks": (
        SEQUENCES,
        nn.Serial(
            conv((3,)), nn.Residual(nn.Serial(relu, nn.AvgPool((3,), (1,), "same"), conv((3,)))),
            nn.Parallel(*block, merge="concat"), nn.Parallel(conv((1,)), conv((3,)), merge="product"),
            nn.Repeat(nn.Serial(conv((3,)), relu), 5), pooled, nn.LayerNorm() if False else dense, relu, dense,
        ),
    ),
    "nodes": (SEQUENCES[:1] * 2, nn.Serial(dense, nn.Aggregate(np.eye(8, k=1) + 0.5), dense, relu, pooled)),
    "two axes": (
        IMAGES,
        nn.Serial(conv((3, 3)), relu, nn.AvgPool((2, 2)), conv((3, 1)), relu, conv((1, 2), None, "valid"), pooled),
    ),
    "attention over two axes": (IMAGES, nn.Serial(conv((3, 3)), relu, attention(), relu, pooled, dense)),
}  # fmt: skip
"""Networks whose kernels of padded inputs are those of the inputs by themselves."""


def sequences(sizes, channels=3, seed=0):
    """One input of each size, one of its pixels black, and all of them padded to the largest."""
    rng = np.random.default_rng(seed)
    alone = [rng.standard_normal((*size, channels)) for size in sizes]
    alone[1][(1,) * len(sizes[1])] = 0.0
    full = tuple(map(max, zip(*sizes, strict=True)))
    padded = np.full((len(sizes), *full, channels), VALUE)
    for row, x in zip(padded, alone, strict=True):
        row[tuple(map(slice, x.shape[:-1]))] = x
    return alone, padded


def masked(network):
    return nn.Serial(nn.Mask(VALUE), network)
