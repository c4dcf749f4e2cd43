"""Linearised functions of tokens and trees, against derivatives written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.empirical.token_model import (
    PARAMS,
    X,
    in_float32,
    jacobian_by_hand,
    model,
    outputs_by_hand,
    shares,
)

from ntkit.empirical import linearize, taylor_expand

GENERATOR = np.random.default_rng(1)
MOVED = {name: value + 0.3 * GENERATOR.normal(size=value.shape) for name, value in PARAMS.items()}
STEP = {name: MOVED[name] - PARAMS[name] for name in PARAMS}


def terms_by_hand(x):
    """The terms of degree 0, 1 and 2 in the step."""
    hidden = np.tanh(shares(x) @ PARAMS["table"])
    moved, slope = shares(x) @ STEP["table"], 1 - hidden**2
    return [
        hidden @ PARAMS["head"],
        hidden @ STEP["head"] + (slope * moved) @ PARAMS["head"],
        (slope * moved) @ STEP["head"] - (hidden * slope * moved**2) @ PARAMS["head"],
    ]


@pytest.mark.parametrize("kind", ["tokens", "tree"])
def test_the_expansion_of_a_function_of_tokens_has_the_terms_written_out(kind):
    x, terms = X[kind], terms_by_hand(X[kind])
    step = np.concatenate([STEP["head"].reshape(-1), STEP["table"].reshape(-1)])
    np.testing.assert_allclose(terms[0], outputs_by_hand(PARAMS, x), rtol=1e-14)
    np.testing.assert_allclose(terms[1], jacobian_by_hand(PARAMS, x) @ step, rtol=1e-12)
    linear = linearize(model, PARAMS)(MOVED, x)
    assert isinstance(linear, np.ndarray)
    assert linear.dtype == np.float64
    # a few roundings of numbers of order 1
    np.testing.assert_allclose(linear, terms[0] + terms[1], atol=1e-13)
    np.testing.assert_allclose(taylor_expand(model, PARAMS, 2)(MOVED, x), sum(terms), atol=1e-13)


def test_tokens_take_the_dtype_of_the_parameters_and_floating_inputs_their_own():
    single = in_float32(PARAMS)
    assert linearize(model, single)(MOVED, X["tree"]).dtype == np.float32
    scaled = {**X["tree"], "scale": np.ones((6, 1))}

    def with_scale(params, x):
        return {"outputs": model(params, x) * x["scale"]}

    assert linearize(with_scale, single)(single, scaled)["outputs"].dtype == np.float64


def test_a_tree_of_outputs_is_given_back():
    def two(params, x):
        outputs = model(params, x)
        return {"first": outputs[:, :1], "table": outputs[:, :, None] * outputs[:, None, :]}

    x = X["tree"]
    linear = linearize(two, PARAMS)(MOVED, x)
    value, change = terms_by_hand(x)[:2]
    product = value[:, :, None] * change[:, None, :]
    expected = value[:, :, None] * value[:, None, :] + product + product.transpose(0, 2, 1)
    np.testing.assert_allclose(linear["first"], (value + change)[:, :1], atol=1e-13)
    np.testing.assert_allclose(linear["table"], expected, atol=1e-12)


def test_jax_tokens_give_jax_outputs_at_the_present_precision():
    """The parameters' float64 is not to be had outside of 64 bits; no warning comes of it (they are errors here)."""
    x = jax.tree_util.tree_map(jnp.asarray, X["tree"])
    linear = linearize(model, PARAMS)(MOVED, x)
    assert isinstance(linear, jax.Array)
    assert linear.dtype == jnp.float32
    value, change = terms_by_hand(X["tree"])[:2]
    np.testing.assert_allclose(linear, value + change, atol=1e-5)
