"""Ensembles of finite networks, which both kernels of infinite width are held against."""

import jax
import jax.numpy as jnp
import numpy as np

from ntkit import nn
from ntkit.empirical import EmpiricalNTK
from ntkit.kernels import nngp_and_ntk


def of_outputs(network, params, x):
    """The mean of f fᵀ over the outputs of one network."""
    f = network.apply(params, x)
    return f @ f.T / f.shape[1]


def of_last_units(network, params, x):
    """The covariance of the outputs over the weights of the dense layer at the end: less scatter than f fᵀ."""
    end = network.layers[-1]
    units = nn.Serial(*network.layers[:-1]).apply(params[:-1], x)
    return end.w_std**2 * units @ units.T / units.shape[-1] + end.b_std**2


def samples(network, x, networks, covariance=of_outputs):
    """The covariance and the empirical NTK of so many networks in float32, each (networks, n, n)."""
    x = jnp.asarray(x, jnp.float32)

    @jax.jit
    def sample(keys):
        def one(key):
            params = network.init(key, x.shape)
            return covariance(network, params, x), EmpiricalNTK(network.apply, params)(x)

        return jax.lax.map(one, keys)

    return [np.array(part, np.float64) for part in sample(jax.random.split(jax.random.key(0), networks))]


def assert_tend_to_both_kernels(network, x, networks, *, bias, most, covariance=of_outputs, exact=None):
    """The mean of each kernel over the networks is its limit, but for five standard errors and `bias`.

    Bias, of the order of 1/width, and the bound that both make, which is to be below `most` for the test to tell
    anything, are in units of √(k(x, x) k(x', x')). The limits are those of the network itself unless given.
    """
    # The limits at the inputs as the networks see them.
    x = np.asarray(x, np.float32)
    limits = nngp_and_ntk(network, x.astype(np.float64)) if exact is None else exact
    for values, limit in zip(samples(network, x, networks, covariance), limits, strict=True):
        scale = np.sqrt(np.outer(np.diag(limit), np.diag(limit)))
        bound = 5 * values.std(axis=0, ddof=1) / np.sqrt(networks) + bias * scale
        assert (bound < most * scale).all()
        assert (np.abs(values.mean(axis=0) - limit) < bound).all()
