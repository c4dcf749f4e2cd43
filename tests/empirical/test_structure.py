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
