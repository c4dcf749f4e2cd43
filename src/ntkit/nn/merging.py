"""Sums, products and concatenations of branches: both kernels, and the correlations, without cancellation."""

import operator
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ntkit.errors import FusionError
from ntkit.nn.dense import snapped
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.numerics.safe import safe_divide, safe_sqrt

Merge = Literal["sum", "concat", "product"]


def merged(states: Sequence[KernelState], merge: Merge) -> KernelState:
    """The state after merging branches of independent weights that begin at one state."""
    if len(states) == 1:
        return states[0]
    if merge == "product":
        return reduce(_product, states)
    if merge == "sum":
        return _total(states, [1.0] * len(states), states[0].width)
    widths = [state.width for state in states]
    if not all(isinstance(width, int) for width in widths):
        raise FusionError("concatenation weighs its branches by their widths")
    return _total(states, [width / sum(widths) for width in widths], sum(widths))


def _total(states: Sequence[KernelState], weights: Sequence[float], width: Any) -> KernelState:
    """Covariances weighted and added."""

    def total(arrays: Sequence[Any]) -> Any:
        return sum(weight * array for weight, array in zip(weights, arrays, strict=True))

    first = states[0]
    nngp = total([state.nngp for state in states])
    ntk = None if first.ntk is None else total([state.ntk for state in states])
    after = replace(
        first,
        nngp=nngp,
        ntk=ntk,
        width=width,
        present1=either([state.present1 for state in states]),
        present2=either([state.present2 for state in states]),
        **_own(states, lambda own: _total(own, weights, width)),
    )
    if first.alike:
        return replace(after, var1=nngp, var2=nngp)
    if any(state.var1 is None for state in states):
        return replace(after, var1=None, var2=None, defect=None, surplus=None)
    var1, var2 = total([state.var1 for state in states]), total([state.var2 for state in states])
    # As in `Dense`: a unit vector with one entry for each branch.
    apart, defect, surplus = 0.0, 0.0, 0.0
    for state, weight in zip(states, weights, strict=True):
        share1, share2 = (
            safe_divide(weight**0.5 * safe_sqrt(old), safe_sqrt(new), 0.0)
            for old, new in ((state.var1, var1), (state.var2, var2))
        )
        apart = apart + 0.5 * jnp.square(share1 - share2)
        defect = defect + share1 * share2 * state.defect
        surplus = surplus + share1 * share2 * state.surplus
    alive = (var1 > 0) & (var2 > 0)
    defect, surplus = (jnp.where(alive, snapped(apart + part), 1.0) for part in (defect, surplus))
    return replace(after, var1=var1, var2=var2, defect=defect, surplus=surplus)


def _product(state1: KernelState, state2: KernelState) -> KernelState:
    nngp = state1.nngp * state2.nngp
    ntk = None if state1.ntk is None else state1.ntk * state2.nngp + state1.nngp * state2.ntk
    after = replace(
        state1,
        nngp=nngp,
        ntk=ntk,
        present1=either((state1.present1, state2.present1)),
        present2=either((state1.present2, state2.present2)),
        **_own((state1, state2), lambda own: _product(*own)),
    )
    if state1.alike:
        return replace(after, var1=nngp, var2=nngp)
    if state1.var1 is None or state2.var1 is None:
        return replace(after, var1=None, var2=None, defect=None, surplus=None)
    # 1 - rho1 rho2 and 1 + rho1 rho2 from 1 - rho and 1 + rho, without a difference.
    defect = 0.5 * (state1.defect * state2.surplus + state1.surplus * state2.defect)
    surplus = 0.5 * (state1.surplus * state2.surplus + state1.defect * state2.defect)
    var1, var2 = state1.var1 * state2.var1, state1.var2 * state2.var2
    return replace(after, var1=var1, var2=var2, defect=defect, surplus=surplus)


def _own(states: Sequence[KernelState], merge: Any) -> dict[str, KernelState]:
    if states[0].own1 is None:
        return {}
    return {
        "own1": merge([state.own1 for state in states]),
        "own2": merge([state.own2 for state in states]),
    }


def either(presences: Sequence[Any]) -> Any:
    """Which pixels exist after a merge: those that do in any branch."""
    return None if presences[0] is None else reduce(operator.or_, presences)


def merged_outputs(outputs: Sequence[jax.Array], merge: Merge) -> jax.Array:
    """The finite outputs of branches, merged."""
    if merge == "concat":
        return jnp.concatenate(outputs, axis=-1)
    return reduce(jnp.add if merge == "sum" else jnp.multiply, outputs)


def merged_shape(who: str, shapes: Sequence[tuple[int, ...]], merge: Merge) -> tuple[int, ...]:
    """The shape of merged outputs.

    Raises:
        ValueError: when they do not fit.
    """
    compared = [shape[:-1] if merge == "concat" else shape for shape in shapes]
    if any(shape != compared[0] for shape in compared):
        raise ValueError(
            f"{who} needs branches whose outputs have one shape, got {' and '.join(map(str, shapes))}. Give the "
            "branches equal widths, strides and padding; a shortcut past strides or another width is a Conv of filter "
            "1 with them."
        )
    if merge == "concat":
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
    return shapes[0]


def merged_law(who: str, laws: Sequence[Law], before: Law, merge: Merge) -> Law:
    """The distribution of merged values.

    Raises:
        ValueError: where the kernel of the merged values is not that of the branches' kernels.
    """
    fresh, centred = all(law.fresh for law in laws), all(law.centred for law in laws)
    if merge != "concat":
        if sum(not law.fresh for law in laws) > 1:
            raise ValueError(
                f"{who} needs weights in all its branches but one, got two without, whose values are correlated. Put a "
                "Dense or Conv layer into them."
            )
        if merge == "sum" and sum(not law.centred for law in laws) > 1:
            sources = " and ".join(law.source for law in laws if not law.centred)
            raise ValueError(
                f"{who} needs summands of mean zero but for one, got the outputs of {sources}. End branches with a "
                "Dense or Conv layer."
            )
    if merge == "product":
        centred = any(law.centred and law.fresh for law in laws)
    kinds = {law.kind for law in laws}
    kind = "other"
    if merge == "sum" and kinds <= {"gaussian", "unknown"}:
        kind = "unknown" if "unknown" in kinds else "gaussian"
    return Law(kind, who, centred, before.fresh or fresh)
