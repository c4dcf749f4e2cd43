"""Errors of the library against the references, relative to each entry's natural scale."""

import warnings
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from tests.oracles import networks
from tests.oracles.arithmetic import exact, mp
from tests.oracles.duals import Oracle

from ntkit import nn
from ntkit.errors import AccuracyWarning
from ntkit.kernels import NNGP, NTK
from ntkit.kernels.infinite import nngp_and_ntk
from ntkit.nn.activations.expansion import Expansion
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import precision


class Errors(NamedTuple):
    """Errors of the NNGP (or dual) and of the NTK (or derivative), and the bound the library reported.

    A missing NTK has the error nan; a closed form has the bound 0.
    """

    nngp: np.ndarray
    ntk: np.ndarray
    bound: float


def relative_error(value, reference, scale) -> float:
    """`|value - reference| / scale`, and what is left of it where the scale is 0; infinity for a NaN."""
    if not np.isfinite(value):
        return np.inf
    difference = abs(exact(value) - reference)
    return float(difference / scale) if scale else float(difference)


def dual_errors(row, pairs, dtype) -> Errors:
    """The two duals of one activation at given covariances, each rounded to the dtype once."""
    activation = row.build(nn)
    bound = 0.0
    with precision(dtype), warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # its number is what the bound is compared with
        cov, var1, var2, defect, surplus = (
            jnp.asarray(np.array([dtype(getattr(pair, name)) for pair in pairs]))
            for name in ("cov", "var1", "var2", "defect", "surplus")
        )
        if isinstance(activation, Expansion):
            both = jnp.concatenate([var1, var2])
            with precision(np.float64):
                state = KernelState.diagonal(jnp.asarray(np.asarray(both, np.float64)), 1, row.has_ntk)
                activation = activation.adapt(state, float(np.finfo(dtype).eps))
                certified = {bound.degree: bound for bound in activation.bounds(state.var1, row.has_ntk)}
            bound = max(certified[activation.degree].dual, certified[activation.degree].dual_derivative)
        ones = jnp.ones_like(cov) if row.has_ntk else None
        state = activation.propagate(KernelState(cov, ones, var1, var2, defect, surplus, 1))
    dual, derivative = [], []
    for i, pair in enumerate(pairs):
        q1, q2 = exact(pair.var1), exact(pair.var2)
        for found, formula, errors in (
            (state.nngp, row.oracle.covariance, dual),
            (state.ntk, row.oracle.derivative, derivative),
        ):
            if formula is not None:
                scale = mp.sqrt(formula(q1, q1, q1) * formula(q2, q2, q2))
                errors.append(relative_error(np.asarray(found)[i], formula(pair.cov, q1, q2), scale))
    return Errors(np.array(dual), np.array(derivative), bound)


def build(layers) -> nn.Serial:
    """The library's network from a reference's layers and rows of the table of activations."""
    built = []
    for layer in layers:
        if isinstance(layer, networks.Dense):
            built.append(nn.Dense(layer.width, layer.w_std, layer.b_std, layer.parametrization))
        elif isinstance(layer, networks.Scale):
            built.append(nn.Scale(np.array(layer.scales)))
        else:
            built.append(layer.build(nn))
    return nn.Serial(*built)


def reference_layers(layers) -> list:
    """The reference's layers: rows of the table replaced by their oracles."""
    return [layer if isinstance(layer, networks.Dense | networks.Scale) else layer.oracle for layer in layers]


def has_ntk(layers) -> bool:
    """Whether no activation jumps."""
    return all(
        layer.derivative is not None for layer in reference_layers(layers) if isinstance(layer, Oracle)
    )


def network_errors(layers, x1, x2) -> Errors:
    """Both kernels of one network at the pairs of rows `(x1_i, x2_i)`, out of the matrix between all rows."""
    network, ntk = build(layers), has_ntk(layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        grams = nngp_and_ntk(network, x1, x2, ntk=ntk)
        bounds = (NTK(network) if ntk else NNGP(network)).bounds(np.concatenate([x1, x2]))
    oracle = reference_layers(layers)
    nngp, tangent = [], []
    for i, (a, b) in enumerate(zip(x1, x2, strict=True)):
        pair = networks.pair(oracle, a, b)
        nngp.append(relative_error(grams.nngp[i, i], pair.nngp, pair.nngp_scale))
        if ntk:
            tangent.append(relative_error(grams.ntk[i, i], pair.ntk, pair.ntk_scale))
    worst = [max(bound.dual, bound.dual_derivative) for bound in bounds]
    return Errors(np.array(nngp), np.array(tangent), float(max(worst, default=0.0)))


def target(dtype, band: str) -> float:
    """The accuracy promised of a closed form: by dtype and band of angles to the line through the other input."""
    if band == "duplicate":
        return 1e-13 if dtype == np.float64 else 1e-5
    wide = ("generic", "1e-3..1e-2", "pi-(1e-3..1e-2)") if dtype == np.float64 else ("generic",)
    if band in wide:
        return 1e-12 if dtype == np.float64 else 1e-5
    return 1e-8 if dtype == np.float64 else 1e-3
