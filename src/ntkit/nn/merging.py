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
        return _total(states, [1.0] * len(states), states[0].width, _crossed(states))
    widths = [state.width for state in states]
    if not all(isinstance(width, int) for width in widths):
        raise FusionError("concatenation weighs its branches by their widths")
    return _total(states, [width / sum(widths) for width in widths], sum(widths), ())


def _crossed(states: Sequence[KernelState]) -> tuple[int, ...]:
    """The summands whose means enter the sum's covariances: all that have some, if they are more than one.

    A mean that is not followed is that of raw inputs, whose sums with other means are refused when they meet the
    network, or of values in an engine that runs no network with a sum that asks for it (`Layer.needs_means`).
    """
    moved = tuple(number for number, state in enumerate(states) if state.mean1 is not None)
    return moved if len(moved) > 1 else ()


def _total(
    states: Sequence[KernelState], weights: Sequence[float], width: Any, crossed: Sequence[int]
) -> KernelState:
    """Covariances weighted and added, and for each pair among `crossed` the products of their means."""

    def total(arrays: Sequence[Any]) -> Any:
        return sum(weight * array for weight, array in zip(weights, arrays, strict=True))

    first = states[0]
    means = [(states[number].mean1, states[number].mean2) for number in crossed]
    nngp = _with_products(total([state.nngp for state in states]), means)
    ntk = None if first.ntk is None else total([state.ntk for state in states])
    after = replace(
        first,
        nngp=nngp,
        ntk=ntk,
        width=width,
        present1=either([state.present1 for state in states]),
        present2=either([state.present2 for state in states]),
        **_total_means(states, weights),
        **_own(states, lambda own: _total(own, weights, width, crossed)),
    )
    if first.alike:
        return replace(after, var1=nngp, var2=nngp)
    if any(state.var1 is None for state in states):
        return replace(after, var1=None, var2=None, defect=None, surplus=None)
    var1 = _with_products(total([state.var1 for state in states]), [(mean, mean) for mean, _ in means])
    var2 = _with_products(total([state.var2 for state in states]), [(mean, mean) for _, mean in means])
    # As in `Dense`: a unit vector with one entry for each branch.
    root1, root2 = safe_sqrt(var1), safe_sqrt(var2)
    apart, defect, surplus = 0.0, 0.0, 0.0
    for state, weight in zip(states, weights, strict=True):
        share1, share2 = (
            safe_divide(weight**0.5 * safe_sqrt(old), new, 0.0)
            for old, new in ((state.var1, root1), (state.var2, root2))
        )
        apart = apart + 0.5 * jnp.square(share1 - share2)
        defect = defect + share1 * share2 * state.defect
        surplus = surplus + share1 * share2 * state.surplus
    # Branches of means other than 0 are no right angle apart: what they differ by has a mean, too.
    shares = [(safe_divide(m1, root1, 0.0), safe_divide(m2, root2, 0.0)) for m1, m2 in means]
    defect = _with_products(apart + defect, [(m1 - m2, 0.5 * (m1 - m2)) for m1, m2 in shares])
    surplus = _with_products(apart + surplus, [(m1 + m2, 0.5 * (m1 + m2)) for m1, m2 in shares])
    alive = (var1 > 0) & (var2 > 0)
    defect, surplus = (
        jnp.where(alive, snapped(jnp.maximum(distance, 0.0)), 1.0) for distance in (defect, surplus)
    )
    return replace(after, var1=var1, var2=var2, defect=defect, surplus=surplus)


def _with_products(total: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """`total + sum_(j != k) left_j right_k` of pairs (left, right)."""
    for j, (left, _) in enumerate(pairs):
        for k, (_, right) in enumerate(pairs):
            total = total if j == k else total + left * right
    return total


def _total_means(states: Sequence[KernelState], weights: Sequence[float]) -> dict[str, Any]:
    """The means of weighted sums, known where all are."""
    centred = all(state.centred for state in states)
    moved = [(state, weight) for state, weight in zip(states, weights, strict=True) if not state.centred]
    if centred or any(state.mean1 is None for state, _ in moved):
        return {"mean1": None, "mean2": None, "centred": centred}
    return {
        "mean1": sum(weight * state.mean1 for state, weight in moved),
        "mean2": sum(weight * state.mean2 for state, weight in moved),
        "centred": False,
    }


def _product(state1: KernelState, state2: KernelState) -> KernelState:
    nngp = state1.nngp * state2.nngp
    ntk = None if state1.ntk is None else state1.ntk * state2.nngp + state1.nngp * state2.ntk
    mean1, mean2, centred = None, None, state1.centred or state2.centred
    if not (centred or state1.mean1 is None or state2.mean1 is None):
        mean1, mean2 = state1.mean1 * state2.mean1, state1.mean2 * state2.mean2
    after = replace(
        state1,
        nngp=nngp,
        ntk=ntk,
        present1=either((state1.present1, state2.present1)),
        present2=either((state1.present2, state2.present2)),
        mean1=mean1,
        mean2=mean2,
        centred=centred,
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
    fresh = all(law.fresh for law in laws)
    moved = [law for law in laws if law.mean != "zero"]
    mixed = [law for law in (moved if merge == "sum" else laws) if not law.alike]
    if merge != "concat":
        if sum(not law.fresh for law in laws) > 1:
            raise ValueError(
                f"{who} needs weights in all its branches but one, got two without, whose values are correlated. Put a "
                "Dense or Conv layer into them."
            )
        if merge == "sum" and len(moved) > 1 and any(law.mean == "unknown" for law in moved):
            raise ValueError(
                f"{who} needs summands of mean zero but for one, or activations of weighted values, got the "
                f"outputs of {' and '.join(law.source for law in moved)}. End branches with a Dense or Conv layer."
            )
        if len(mixed) > 1:
            raise ValueError(
                f"{who} needs branches whose units are distributed alike but for one, got those after "
                f"{' and '.join(law.source for law in mixed)}. Put Flatten behind it, and concatenation, or a Dense "
                "layer at their end."
            )
    return Law(
        _merged_kind(laws, merge),
        who,
        _merged_mean(laws, merge),
        before.fresh or fresh,
        all(law.alike for law in laws) and (merge != "concat" or len(laws) == 1),
    )


def crosses(laws: Sequence[Law], merge: Merge) -> bool:
    """Whether the sum of branches of these laws asks for their means."""
    return merge == "sum" and sum(law.mean != "zero" for law in laws) > 1


def _merged_kind(laws: Sequence[Law], merge: Merge) -> Any:
    kinds = {law.kind for law in laws}
    if merge != "sum" or not kinds <= {"gaussian", "unknown"}:
        return "other"
    return "unknown" if "unknown" in kinds else "gaussian"


def _merged_mean(laws: Sequence[Law], merge: Merge) -> Any:
    means = [law.mean for law in laws]
    if all(mean == "zero" for mean in means) or (merge == "product" and "zero" in means):
        return "zero"
    return "unknown" if "unknown" in means else "followed"
