"""Functions that are easily taken for layers that they are not: their kernels against explicit Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from tests.empirical.models import explicit_jacobian, product

from ntkit.empirical import EmpiricalNTK


def transposed_while_reshaped(p, x):
    """One weight twice in one shape, its entries in another order the second time."""
    one, other = lax.reshape(p["w"], (2, 3)), lax.reshape(p["w"], (2, 3), (1, 0))
    return jnp.sin(product(x[:, :2], one)) + product(x[:, 2:], other)


def rank_zero(p, x):
    """Low-rank factors of rank zero have no entries."""
    return product(x, p["w"]) + product(product(x, p["down"]), p["up"])


def bias_of_two_layers(p, x):
    hidden = jnp.tanh(product(x, p["w"]) + p["b"][None])
    return product(hidden, p["v"]) + p["b"][None]


def biases_around_a_scaling(p, x):
    scaled = 0.5 * (product(x, p["w"]) + p["b"][None]) + p["c"][None]
    return jnp.tanh(scaled) + p["c"][None] * 2.0


def scaling_before_a_bias(p, x):
    return jnp.tanh(-(product(x, 3.0 * p["w"]) / 2.0) + 0.25 * p["b"][None])


def hidden_value_that_is_an_output(p, x):
    hidden = product(x, p["w"])
    return {
        "before": hidden,
        "after": hidden + p["b"][None],
        "bias": jnp.broadcast_to(p["b"][None], hidden.shape),
    }


def held_fixed_once(p, x):
    hidden = jnp.tanh(product(x, lax.stop_gradient(p["w"])))
    return product(hidden, p["v"]) + product(lax.stop_gradient(hidden), p["v"]) + product(x, p["w"])


@jax.custom_vjp
def own_rule(w, x):
    return product(x, w)


own_rule.defvjp(
    lambda w, x: (own_rule(w, x), (w, x)),
    lambda kept, cotangent: (product(kept[1].T, cotangent), product(cotangent, kept[0].T)),
)


def rule_of_its_own(p, x):
    return product(jnp.tanh(own_rule(p["w"], x)), p["v"])


def complex_inside(p, x):
    spectrum = product(jnp.fft.fft(x, axis=1), p["w"].astype(complex))
    return product(spectrum.real * spectrum.imag, p["v"])


def entries_cut_and_chosen(p, x):
    cut = lax.dynamic_slice(p["w"], (1, 0), (2, 4))
    return product(x[:, :2], jnp.where(cut > 0, cut, 0.1 * cut))


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (transposed_while_reshaped, {"w": (3, 2)}),
        (rank_zero, {"w": (4, 2), "down": (4, 0), "up": (0, 2)}),
        (bias_of_two_layers, {"w": (4, 3), "v": (3, 3), "b": (3,)}),
        (biases_around_a_scaling, {"w": (4, 3), "b": (3,), "c": (3,)}),
        (scaling_before_a_bias, {"w": (4, 3), "b": (3,)}),
        (hidden_value_that_is_an_output, {"w": (4, 3), "b": (3,)}),
        (held_fixed_once, {"w": (4, 3), "v": (3, 3)}),
        (rule_of_its_own, {"w": (4, 3), "v": (3, 2)}),
        (complex_inside, {"w": (4, 3), "v": (3, 2)}),
        (entries_cut_and_chosen, {"w": (3, 4)}),
    ],
)
def test_the_kernel_is_that_of_explicit_jacobians(f, shapes):
    generator = np.random.default_rng(0)
    params = {name: generator.normal(size=shape) for name, shape in shapes.items()}
    x = generator.normal(size=(3, 4))
    rows = np.concatenate(list(explicit_jacobian(f, params, x).values()), axis=-1)
    full = np.einsum("nap,mbp->nmab", rows, rows)
    kernel = EmpiricalNTK(f, params)
    # sums of some hundred float64 products
    bound = 1e-13 * np.abs(full).max()
    np.testing.assert_allclose(kernel.full(x), full, rtol=0, atol=bound)
    traced = np.einsum("nmaa->nm", full) / full.shape[-1]
    np.testing.assert_allclose(kernel(x), traced, rtol=0, atol=bound)
    np.testing.assert_allclose(sum(kernel.blocks(x).values()), traced, rtol=0, atol=bound)


@pytest.mark.parametrize("mode", ["fill", "clip", "promise_in_bounds", None])
@pytest.mark.parametrize("width", [1, pytest.param(4, marks=pytest.mark.slow)], ids=["few outputs", "many"])
def test_tokens_beyond_the_table(mode, width):
    """What is filled in for them has no derivative; clipped ones count as the ends of the table."""
    tokens = np.array([[0, 1, 4], [7, 2, 1], [-1, 7, -7], [2, 2, 7]])
    table = {"table": np.random.default_rng(0).normal(size=(5, 3))}
    fill = {"fill_value": 0.0} if mode == "fill" else {}

    def f(p, x):
        rows = jnp.tanh(p["table"].at[x].get(mode=mode, **fill))
        return rows.sum(axis=1)[:, :1] if width == 1 else rows.reshape(len(x), -1)

    with np.errstate(invalid="ignore"):
        rows = explicit_jacobian(f, table, tokens)["table"]
    full = np.einsum("nap,mbp->nmab", rows, rows)
    np.testing.assert_allclose(EmpiricalNTK(f, table).full(tokens), full, rtol=0, atol=1e-13)


def test_a_reverse_rule_alone_and_fewer_parameters_than_outputs():
    """`custom_vjp` has no forward derivative."""

    @jax.custom_vjp
    def scale(w, x):
        return w * x

    scale.defvjp(lambda w, x: (w * x, (w, x)), lambda kept, c: (jnp.sum(c * kept[1]), c * kept[0]))
    x = np.random.default_rng(0).normal(size=(3, 4))
    kernel = EmpiricalNTK(lambda p, x: scale(p["w"], x), {"w": np.array(0.5)})
    np.testing.assert_allclose(kernel(x), x @ x.T / 4, rtol=1e-13, atol=1e-14)


def test_a_loop_of_unknown_length_behind_a_layer_takes_forward_mode():
    def f(p, x):
        def turn(state):
            return state[0] + 1, jnp.sin(state[1])

        hidden = jnp.matmul(x, p["w"], precision="highest")
        hidden = jax.lax.while_loop(lambda state: state[0] < 3, turn, (0, hidden))[1]
        return hidden * jnp.arange(1.0, 5.0, dtype=x.dtype)[None, :]

    w = np.array([[0.5], [-0.3]])
    x = np.array([[1.0, 2.0], [0.5, -1.0]])
    value = x @ w
    slope = np.cos(value) * np.cos(np.sin(value)) * np.cos(np.sin(np.sin(value)))
    rows = slope[:, :, None] * np.arange(1.0, 5.0)[None, :, None] * x[:, None, :]
    expected = np.einsum("nap,mbp->nmab", rows, rows)
    np.testing.assert_allclose(EmpiricalNTK(f, {"w": w}).full(x), expected, rtol=1e-13, atol=1e-13)
