"""Small functions `f(params, x)` with every kind of structure, for tests of the tangent kernel: a table."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

product = partial(jnp.matmul, precision="highest")


@dataclass(frozen=True)
class Model:
    """A function, the shapes of its parameters, its inputs, and the leaves whose structure must be found."""

    name: str
    f: Callable[[Any, Any], Any]
    shapes: dict[str, tuple[int, ...]]
    point: tuple[int, ...]
    structured: tuple[str, ...]
    tokens: int = 0

    def params(self) -> dict[str, np.ndarray]:
        """Drawn parameters, float64."""
        generator = np.random.default_rng(0)
        return {name: generator.normal(size=shape) / 2 for name, shape in self.shapes.items()}

    def inputs(self, n: int, seed: int) -> np.ndarray:
        """Drawn inputs: numbers, or tokens with repetitions."""
        generator = np.random.default_rng(seed)
        if self.tokens:
            return generator.integers(0, self.tokens, (n, *self.point))
        return generator.normal(size=(n, *self.point))

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


def convolution(x, w, strides=(1, 1), padding: Any = "SAME", layout=("NHWC", "HWIO", "NHWC"), **settings):
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=layout, precision="highest", **settings
    )


def scaled_biases(p, x):
    """Constant scaling between product and bias, as in the NTK parametrisation, and one bias in two places."""
    hidden = jnp.tanh(product(x, p["w"]) / 3.0**0.5 * 1.5 + 0.3 * p["b"])
    outputs = (product(hidden, p["v"]) / 2.0 + -p["c"].reshape(1, 2)) * 3.0
    return outputs + p["d"][None, :] * jnp.tanh(p["d"][None, :] + outputs)


def looked_up_and_shifted(p, tokens):
    return (jnp.take(p["table"], tokens[:, 0], axis=0, mode="clip") * 2.0 + p["b"]) ** 2


def dense(p, x):
    return product(jnp.tanh(product(x, p["w"]) / 3.0**0.5 + p["b"][None, :]), p["v"])


def scaled_and_transposed(p, x):
    w = 0.5 * p["w"].T / jnp.sqrt(jnp.asarray(3.0, x.dtype))
    v = (-p["v"]).reshape(4, 2)
    return product(jnp.tanh(product(x, w)), v)


def weight_first(p, x):
    return jax.vmap(lambda point: product(p["v"], jnp.tanh(product(p["w"], point))))(x)


def one_weight_twice(p, x):
    hidden = jnp.tanh(product(jnp.tanh(product(x, p["w"])), p["w"]))
    return product(hidden, p["v"])


def weight_and_its_transpose(p, x):
    return product(jnp.tanh(product(x, p["w"])), p["w"].T)


def heads(p, x):
    """Weights with an axis of heads, mixed with the data by head: batches in the product."""
    split = jnp.einsum("nthd,hde->nthe", x, p["w"], precision="highest")
    return jnp.tanh(split).sum(axis=1).reshape(x.shape[0], -1)


def attention(p, x):
    query, key, value = (jnp.einsum("ntd,dhe->nthe", x, p[name], precision="highest") for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("nthe,nshe->nhts", query, key, precision="highest"))
    mixed = jnp.einsum("nhts,nshe->nthe", weights, value, precision="highest")
    return jnp.einsum("nthe,hek->ntk", mixed, p["o"], precision="highest").mean(axis=1)


def normalised(p, x):
    hidden = product(x, p["w"])
    centred = hidden - hidden.mean(axis=-1, keepdims=True)
    hidden = centred * lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-3)
    return product(jax.nn.gelu(hidden * p["scale"][None, :] + p["shift"][None, :]), p["v"])


def embedding(p, tokens):
    hidden = p["table"][tokens] + p["places"][None]
    return product(jnp.tanh(hidden).sum(axis=1), p["v"])


def tied_embedding(p, tokens):
    return product(jnp.tanh(p["table"][tokens].sum(axis=1)), p["table"].T)


def scanned(p, x):
    hidden, _ = lax.scan(lambda h, w: (jnp.tanh(product(h, w)), None), x, p["w"])
    return product(hidden, p["v"])


def branched(p, x):
    hidden = lax.cond(jnp.sum(p["b"]) > -100.0, lambda h: product(h, p["w"]), lambda h: h, x)
    return product(jnp.tanh(hidden), p["v"])


def rematerialised(p, x):
    return product(jax.checkpoint(lambda w, h: jnp.tanh(product(h, w)))(p["w"], x), p["v"])


def low_rank(p, x):
    """A frozen weight's place is taken by `base`, moved by the product of two factors: met by the data, and not."""
    met = product(x, p["base"]) + product(product(x, p["down"]), p["up"])
    folded = p["base"] + product(p["down"], p["up"])
    return product(jnp.tanh(met), p["v"]) + product(x, folded)[:, :2]


def normalised_weight(p, x):
    return product(x, p["w"] / jnp.sqrt(jnp.sum(jnp.square(p["w"]))))


def outputs_of_two_shapes(p, x):
    hidden = jnp.tanh(product(x, p["w"]))
    return {"one": hidden[:, :1], "table": product(hidden, p["v"])[:, :, None] * hidden[:, None, :2]}


def images(p, x):
    hidden = jax.nn.relu(convolution(x, p["a"], (2, 1), ((1, 0), (0, 2))) + p["b"][None, None, None])
    return product(
        convolution(hidden, p["c"], padding="VALID", rhs_dilation=(1, 2)).mean(axis=(1, 2)), p["v"]
    )


def channels_first_in_groups(p, x):
    layout = ("NCHW", "OIHW", "NCHW")
    hidden = jnp.tanh(convolution(x, p["a"], layout=layout, feature_group_count=2))
    up = convolution(hidden, p["c"], layout=layout, lhs_dilation=(2, 2), padding=((1, 2), (2, 1)))
    return up.mean(axis=(2, 3))


MODELS = (
    Model("dense", dense, {"w": (3, 4), "b": (4,), "v": (4, 2)}, (3,), ("w", "v")),
    Model(
        "scaled biases",
        scaled_biases,
        {"w": (3, 4), "b": (1, 4), "v": (4, 2), "c": (2,), "d": (2,)},
        (3,),
        ("w", "v"),
    ),
    Model(
        "looked up and shifted", looked_up_and_shifted, {"table": (3, 2), "b": (1, 2)}, (1,), ("table",), 5
    ),
    Model("scaled and transposed", scaled_and_transposed, {"w": (4, 3), "v": (8,)}, (3,), ("w", "v")),
    Model("weight first", weight_first, {"w": (4, 3), "v": (2, 4)}, (3,), ("w", "v")),
    Model("one weight twice", one_weight_twice, {"w": (3, 3), "v": (3, 2)}, (3,), ("w", "v")),
    Model("weight and its transpose", weight_and_its_transpose, {"w": (3, 4)}, (3,), ()),
    Model("heads", heads, {"w": (2, 3, 2)}, (5, 2, 3), ("w",)),
    Model(
        "attention",
        attention,
        {"q": (3, 2, 2), "k": (3, 2, 2), "v": (3, 2, 2), "o": (2, 2, 2)},
        (4, 3),
        ("q", "k", "v", "o"),
    ),
    Model(
        "normalised", normalised, {"w": (3, 4), "scale": (4,), "shift": (4,), "v": (4, 2)}, (3,), ("w", "v")
    ),
    Model("embedding", embedding, {"table": (5, 3), "places": (4, 3), "v": (3, 2)}, (4,), ("table", "v"), 5),
    Model("tied embedding", tied_embedding, {"table": (5, 3)}, (4,), (), 5),
    Model("scanned", scanned, {"w": (3, 3, 3), "v": (3, 2)}, (3,), ("v",)),
    Model("branched", branched, {"w": (3, 3), "b": (2,), "v": (3, 2)}, (3,), ("v",)),
    Model("rematerialised", rematerialised, {"w": (3, 4), "v": (4, 2)}, (3,), ("w", "v")),
    Model(
        "low rank",
        low_rank,
        {"base": (3, 4), "down": (3, 2), "up": (2, 4), "v": (4, 2)},
        (3,),
        ("v",),
    ),
    Model("normalised weight", normalised_weight, {"w": (3, 2)}, (3,), ()),
    Model("outputs of two shapes", outputs_of_two_shapes, {"w": (3, 4), "v": (4, 2)}, (3,), ("w", "v")),
    Model(
        "images",
        images,
        {"a": (3, 2, 2, 3), "b": (3,), "c": (2, 2, 3, 4), "v": (4, 2)},
        (6, 5, 2),
        ("a", "c", "v"),
    ),
    Model(
        "channels first, in groups",
        channels_first_in_groups,
        {"a": (4, 1, 2, 2), "c": (2, 4, 3, 3)},
        (2, 4, 4),
        ("a", "c"),
    ),
)


def explicit_jacobian(f, params, x) -> dict[str, np.ndarray]:
    """(n, k, size) for each leaf in float64, by JAX's reverse mode on one example at a time."""

    def single(p, point):
        outputs = f(p, point[None])
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree_util.tree_leaves(outputs)])

    with jax.enable_x64(True):
        of = jax.jit(jax.vmap(jax.jacrev(single), in_axes=(None, 0)))
        tree = of(jax.tree_util.tree_map(jnp.asarray, params), jnp.asarray(x))
        return {name: np.array(leaf).reshape(len(x), leaf.shape[1], -1) for name, leaf in tree.items()}
