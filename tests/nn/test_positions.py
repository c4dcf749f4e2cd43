"""Embeddings of positions: the peer's numbers, finite networks, and what is refused."""

import json
from functools import partial
from pathlib import Path

import jax.numpy as jnp
from tests.nn.spatial_networks import attention, dense, flat, pooled, relu

from ntkit import nn

PEER = json.loads((Path(__file__).parent / "peer_masks.json").read_text())["embedded"]


def tail(distance):
    """Of an Ornstein-Uhlenbeck process."""
    return jnp.exp(-distance)


embedding, near = nn.PositionalEmbedding, 1.5
scores = partial(attention, scaling="root", mechanism="identity", query_std=0.4, key_std=0.6)
PEER_NETWORKS = {
    "sum": nn.Serial(dense, embedding(0.7), attention(), relu, pooled, dense),
    "sum, decaying": nn.Serial(dense, embedding(0.7, near), attention(), relu, pooled, dense),
    "concat": nn.Serial(
        dense, embedding(0.7, 2.0, tail, merge="concat"), attention(), relu, pooled, dense
    ),
    "concat, channels": nn.Serial(
        dense, embedding(0.7, merge="concat", channels=6), attention(), relu, flat, dense
    ),
    "sum, scores alone": nn.Serial(
        dense, relu, attention(positions=embedding(1.7, near)), relu, pooled, dense
    ),
    "concat, scores alone": nn.Serial(
        dense, relu, attention(positions=embedding(1.7, merge="concat", channels=8)), relu, pooled, dense
    ),
    "root": nn.Serial(dense, relu, embedding(0.7), scores(), relu, pooled, dense),
    "root, scores alone": nn.Serial(
        dense, relu, scores(positions=embedding(0.7, near, merge="concat")), relu, pooled, dense
    ),
}  # fmt: skip
