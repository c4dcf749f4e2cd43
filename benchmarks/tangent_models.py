"""The models of `tangent.py` as plain functions of JAX, for any version of it: an MLP, a CNN, a transformer encoder."""

import jax
import jax.numpy as jnp

WIDTH, HEADS, TOKENS = 128, 4, 32


def drawn(key, *shape):
    """A weight with variance 1 / fan-in."""
    fan_in = 1
    for size in shape[:-1]:
        fan_in *= size
    return jax.random.normal(key, shape) / fan_in**0.5


def mlp(params, x):
    """784-512-512-10, ReLU."""
    for number, (w, b) in enumerate(params):
        x = x @ w + b
        if number < len(params) - 1:
            x = jax.nn.relu(x)
    return x


def mlp_params(key, sizes=(784, 512, 512, 10)):
    keys = jax.random.split(key, len(sizes))
    return [(drawn(k, a, b), jnp.zeros(b)) for k, a, b in zip(keys, sizes, sizes[1:], strict=False)]


def cnn(params, x):
    """Three 3x3 convolutions, the second and third with stride 2, global averaging, 10 outputs."""
    for (w, b), stride in zip(params["convolutions"], (1, 2, 2), strict=True):
        x = jax.lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + b)
    return x.mean((1, 2)) @ params["w"] + params["b"]


def cnn_params(key, channels=(3, 32, 64, 64)):
    keys = jax.random.split(key, len(channels))
    convolutions = [
        (drawn(k, 3, 3, a, b), jnp.zeros(b)) for k, a, b in zip(keys, channels, channels[1:], strict=False)
    ]
    return {"convolutions": convolutions, "w": drawn(keys[-1], channels[-1], 10), "b": jnp.zeros(10)}


def normalised(params, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * params[0] + params[1]


def block(params, x):
    """Self-attention and a hidden layer, each with a residual and layer normalisation after it."""
    n, tokens, width = x.shape
    query, key, value = (
        (x @ params[name] + params["b" + name]).reshape(n, tokens, HEADS, width // HEADS) for name in "qkv"
    )
    scores = jnp.einsum("nthd,nshd->nhts", query, key) / (width // HEADS) ** 0.5
    mixed = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores), value).reshape(n, tokens, width)
    x = normalised(params["first"], x + mixed @ params["o"] + params["bo"])
    hidden = jax.nn.gelu(x @ params["up"] + params["bup"]) @ params["down"] + params["bdown"]
    return normalised(params["second"], x + hidden)


def transformer(params, x):
    """Two encoder layers on 32 tokens of 16 numbers, the mean over tokens, 10 outputs."""
    x = x @ params["in"] + params["places"]
    for one in params["blocks"]:
        x = block(one, x)
    return x.mean(1) @ params["out"] + params["b"]


def block_params(key):
    keys = jax.random.split(key, 6)
    params = {name: drawn(k, WIDTH, WIDTH) for name, k in zip("qkvo", keys, strict=False)}
    params.update({"b" + name: jnp.zeros(WIDTH) for name in "qkvo"})
    params.update(
        up=drawn(keys[4], WIDTH, 4 * WIDTH),
        bup=jnp.zeros(4 * WIDTH),
        down=drawn(keys[5], 4 * WIDTH, WIDTH),
        bdown=jnp.zeros(WIDTH),
        first=(jnp.ones(WIDTH), jnp.zeros(WIDTH)),
        second=(jnp.ones(WIDTH), jnp.zeros(WIDTH)),
    )
    return params


def transformer_params(key):
    keys = jax.random.split(key, 5)
    return {
        "in": drawn(keys[0], 16, WIDTH),
        "places": 0.1 * jax.random.normal(keys[1], (TOKENS, WIDTH)),
        "blocks": [block_params(keys[2]), block_params(keys[3])],
        "out": drawn(keys[4], WIDTH, 10),
        "b": jnp.zeros(10),
    }


MODELS = {
    "mlp": (mlp, mlp_params, (784,)),
    "cnn": (cnn, cnn_params, (32, 32, 3)),
    "transformer": (transformer, transformer_params, (TOKENS, 16)),
}
