"""A small model of tokens, with its outputs and Jacobian written out in NumPy, and points for it of both kinds."""

from typing import Any

import jax.numpy as jnp
import numpy as np

VOCABULARY, WIDTH, OUTPUTS = 5, 3, 2
GENERATOR = np.random.default_rng(7)
PARAMS = {
    "head": GENERATOR.normal(size=(WIDTH, OUTPUTS)),
    "table": GENERATOR.normal(size=(VOCABULARY, WIDTH)),
}
Y = GENERATOR.normal(size=(6, OUTPUTS))
Y_NEW = GENERATOR.normal(size=(6, OUTPUTS))


def model(params, x):
    """Lookup, mean over the positions (those of the mask, where there is one), tanh, linear head."""
    tokens, mask = (x["tokens"], x["mask"]) if isinstance(x, dict) else (x, jnp.ones(x.shape, bool))
    kept = mask.astype(params["table"].dtype)
    looked_up = params["table"][tokens] * kept[:, :, None]
    return jnp.matmul(
        jnp.tanh(looked_up.sum(axis=1) / kept.sum(axis=1)[:, None]), params["head"], precision="highest"
    )


def _points(n: int) -> dict[str, Any]:
    tokens = GENERATOR.integers(0, VOCABULARY, (n, 4))
    mask = GENERATOR.uniform(size=(n, 4)) < 0.6
    mask[:, 0] = True
    return {"tokens": tokens, "tree": {"tokens": tokens, "mask": mask}}


X, X_NEW = _points(6), _points(6)
"""By the kind of input: an integer array (6, 4), or a tree of it and a mask. One shape: programs are compiled once."""


def shares(x) -> np.ndarray:
    """The share of each token among a point's positions, (n, vocabulary): the model is linear in it up to the tanh."""
    tokens, mask = (x["tokens"], x["mask"]) if isinstance(x, dict) else (x, np.ones(x.shape, bool))
    one_hot = (tokens[:, :, None] == np.arange(VOCABULARY)) & mask[:, :, None]
    return one_hot.sum(axis=1) / mask.sum(axis=1)[:, None]


def outputs_by_hand(params, x) -> np.ndarray:
    return np.tanh(shares(x) @ params["table"]) @ params["head"]


def jacobian_by_hand(params, x) -> np.ndarray:
    """(n, k, P), the head's parameters first."""
    hidden = np.tanh(shares(x) @ params["table"])
    of_head = np.einsum("nd,ok->nkdo", hidden, np.eye(OUTPUTS))
    of_table = np.einsum("nv,nd,dk->nkvd", shares(x), 1 - hidden**2, params["head"])
    n = len(hidden)
    return np.concatenate([of_head.reshape(n, OUTPUTS, -1), of_table.reshape(n, OUTPUTS, -1)], axis=2)


def kernel_by_hand(x, x2=None, params=PARAMS) -> np.ndarray:
    """The tangent kernel, averaged over outputs."""
    left = jacobian_by_hand(params, x)
    right = left if x2 is None else jacobian_by_hand(params, x2)
    return np.einsum("nkp,mkp->nm", left, right) / OUTPUTS


def nngp_by_hand(x, x2=None) -> np.ndarray:
    """The kernel of the outputs, averaged over them."""
    return outputs_by_hand(PARAMS, x) @ outputs_by_hand(PARAMS, x if x2 is None else x2).T / OUTPUTS


def flat(params) -> np.ndarray:
    return np.concatenate([np.asarray(params["head"]).reshape(-1), np.asarray(params["table"]).reshape(-1)])


def in_float32(params):
    return {name: value.astype(np.float32) for name, value in params.items()}
