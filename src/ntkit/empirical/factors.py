"""Per-example derivatives: rows of the Jacobian, or factors (what went into a layer, cotangents of what came out)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product as every
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ntkit.empirical import convolution
from ntkit.empirical.program import Operation, Program, Value, read, trace
from ntkit.empirical.structure import Convolution, Lookup, Product, Use, View, find_structure


@partial(jax.tree_util.register_dataclass, data_fields=["went_in", "came_out", "shift"], meta_fields=[])
@dataclass(frozen=True)
class Factors:
    """The derivative of a leaf as a sum over positions of outer products, for one example or with an axis of them.

    Attributes:
        went_in: (batches, positions, inputs), or the rows of a table that were looked up, (positions,).
        came_out: cotangents of what came out, (k, batches, positions, outputs).
        shift: the factor of a bias that is added to what comes out, whose derivative is included; None without one.
    """

    went_in: jax.Array
    came_out: jax.Array
    shift: jax.Array | None = None


def derivatives(
    single: Callable[[Any, Any], jax.Array],
    params: Any,
    point: Any,
    factored: tuple[int, ...],
    rows: tuple[int, ...],
    shifts: tuple[int, ...] = (),
    seeds: jax.Array | None = None,
) -> tuple[dict[int, Factors], dict[int, jax.Array]]:
    """The derivatives of all outputs of one example by one reverse pass an output, weights' gradients left in factors.

    With rows alone, of fewer parameters than outputs or through a loop of unknown length, there is one forward pass a
    parameter instead.

    Args:
        single: one example's function, to outputs (k,).
        params: parameters, all of them.
        point: one example.
        factored: leaves with structure (see `find_structure`) whose derivative is wanted as factors.
        rows: leaves whose derivative is wanted as rows (k, size).
        shifts: biases whose derivative is wanted with that of their weights, which are among `factored`.
        seeds: combinations of outputs to differentiate, (g, k); None for each output by itself.
    """
    leaves, structure = jax.tree_util.tree_flatten(params)
    program = trace(single, params, point)
    few = sum(leaves[leaf].size for leaf in rows) < program.output.shape[0]
    reversed_only = any(operation.name.startswith("custom_vjp") for operation in program.operations)
    moving = (*factored, *rows, *shifts)
    found = find_structure(program, tuple(leaf in moving for leaf in range(len(leaves))))
    if not factored and (found.forward_only or (few and not reversed_only)):
        forward_rows = _forward_rows(single, leaves, structure, point, rows)
        return {}, forward_rows if seeds is None else {
            leaf: jnp.matmul(seeds, value) for leaf, value in forward_rows.items()
        }
    flat = [use for leaf in factored for use in found.uses[leaf]]
    added = {found.shifts[leaf][0]: found.shifts[leaf][1] for leaf in shifts}

    def forward(taps: list[jax.Array], moved: list[jax.Array]) -> tuple[jax.Array, Any]:
        current = list(leaves)
        for leaf, value in zip(rows, moved, strict=True):
            current[leaf] = value
        output, values = _run(program, current, jax.tree_util.tree_leaves(point), flat, taps)
        met = [(_what_went_in(use, values), _factor(use.view, values)) for use in flat]
        return output, (met, {leaf: _factor(view, values) for leaf, view in added.items()})

    taps = [jnp.zeros(use.output.shape, use.output.dtype) for use in flat]
    output, pull_back, (inputs, shift_of) = jax.vjp(
        forward, taps, [leaves[leaf] for leaf in rows], has_aux=True
    )
    seeds = jnp.eye(output.shape[0], dtype=output.dtype) if seeds is None else seeds.astype(output.dtype)
    cotangents, gradients = jax.vmap(pull_back)(seeds)
    outward = [_what_came_out(use, value) for use, value in zip(flat, cotangents, strict=True)]
    for index, (use, (went_in, factor)) in enumerate(zip(flat, inputs, strict=True)):
        if isinstance(use.kind, Lookup) and not use.kind.clipped:
            inside = (went_in >= 0) & (went_in < use.inputs)  # what lies beyond the table has no derivative
            outward[index] = jnp.where(inside[None, None, :, None], outward[index], 0)
        if factor is not None and isinstance(use.kind, Lookup):
            outward[index] *= factor
        elif factor is not None:
            inputs[index] = (went_in * factor, factor)
    joined: dict[int, Factors] = {}
    for leaf in factored:
        mine = [index for index, use in enumerate(flat) if use.view.leaf == leaf]
        dtype = leaves[leaf].dtype
        went_in = jnp.concatenate(
            [inputs[index][0] for index in mine], axis=-2 if inputs[mine[0]][0].ndim > 1 else 0
        )
        came_out = jnp.concatenate([outward[index] for index in mine], axis=2).astype(dtype)
        shift = None
        if leaf in shift_of:
            shift = jnp.asarray(1.0 if shift_of[leaf] is None else shift_of[leaf], dtype)
        joined[leaf] = Factors(went_in if went_in.ndim == 1 else went_in.astype(dtype), came_out, shift)
    return joined, {
        leaf: gradient.reshape(seeds.shape[0], -1) for leaf, gradient in zip(rows, gradients, strict=True)
    }


def _forward_rows(
    single: Any, leaves: list[Any], structure: Any, point: Any, rows: tuple[int, ...]
) -> dict[int, jax.Array]:
    """Rows by one forward pass a parameter, for fewer parameters than outputs."""

    def of_moved(moved: list[jax.Array]) -> jax.Array:
        current = list(leaves)
        for leaf, value in zip(rows, moved, strict=True):
            current[leaf] = value
        return single(jax.tree_util.tree_unflatten(structure, current), point)

    gradients = jax.jacfwd(of_moved)([leaves[leaf] for leaf in rows])
    return {
        leaf: gradient.reshape(gradient.shape[0], -1) for leaf, gradient in zip(rows, gradients, strict=True)
    }


def to_rows(factors: Factors, size: int, form: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """The derivative itself, rows (k, size), or in the shape that `form` gives what both factors make together."""
    went_in, came_out = factors.went_in, factors.came_out
    outputs = came_out.shape[0]
    if went_in.ndim == 1:
        table = jnp.zeros((size // came_out.shape[-1], outputs, came_out.shape[-1]), came_out.dtype)
        summed = table.at[went_in].add(came_out[:, 0].transpose(1, 0, 2))
        return summed.transpose(1, 0, 2).reshape(outputs, size)
    return form(went_in, came_out)


def _run(
    program: Program, leaves: list[Any], point: list[Any], uses: list[Use], taps: list[Any]
) -> tuple[Any, dict[Value, Any]]:
    """Run the program, a tap added to the output of each use; returns its output and all values on the way."""
    tap_of = {use.output: tap for use, tap in zip(uses, taps, strict=True)}

    def tapped(operation: Operation, arguments: list[Any]) -> list[Any]:
        results = convolution.step(operation, arguments)
        return [
            result + tap_of[name] if name in tap_of else result
            for name, result in zip(operation.outputs, results, strict=True)
        ]

    return program.evaluate(leaves, point, tapped)


def _what_went_in(use: Use, values: dict[Value, Any]) -> jax.Array:
    """The data of a use, shape (batches, positions, inputs), or the rows looked up (positions,)."""
    data, kind = values[use.data], use.kind
    if isinstance(kind, Lookup):
        return jnp.clip(data.reshape(-1), 0, use.inputs - 1) if kind.clipped else data.reshape(-1)
    if isinstance(kind, Product):
        used = (*kind.data_batch, *kind.data_contracted)
        free = tuple(axis for axis in range(data.ndim) if axis not in used)
        went_in = data.transpose(*kind.data_batch, *free, *kind.data_contracted)
    else:
        went_in = _patches(data, kind)
    return went_in.reshape(use.batches, use.positions, use.inputs)


def _factor(view: View, values: dict[Value, Any]) -> Any:
    """The number that the leaf is multiplied by in this view; None for one."""
    factor = None
    for atom, divided in view.factors:
        number = jnp.reshape(read(atom, values), ())
        number = 1 / number if divided else number
        factor = number if factor is None else factor * number
    return factor


def _patches(data: jax.Array, kind: Convolution) -> jax.Array:
    """What the filter sees at each position, shape (groups, images, *positions, filter places, channels of a group)."""
    settings = dict(kind.settings)
    images_last = settings["dimension_numbers"].lhs_spec
    data = data.transpose(images_last[0], *images_last[2:], images_last[1])
    padding = [
        (low, high, gap - 1)
        for (low, high), gap in zip(settings["padding"], settings["lhs_dilation"], strict=True)
    ]
    data = lax.pad(data, jnp.zeros((), data.dtype), [(0, 0, 0), *padding, (0, 0, 0)])
    strides, gaps, sizes = settings["window_strides"], settings["rhs_dilation"], settings["filter"]
    counts = [
        (length - (size - 1) * gap - 1) // stride + 1
        for length, size, gap, stride in zip(data.shape[1:-1], sizes, gaps, strides, strict=True)
    ]
    seen = []
    for place in every(*(range(size) for size in sizes)):
        starts = [index * gap for index, gap in zip(place, gaps, strict=True)]
        ends = [
            start + (count - 1) * stride + 1
            for start, count, stride in zip(starts, counts, strides, strict=True)
        ]
        seen.append(
            lax.slice(data, (0, *starts, 0), (data.shape[0], *ends, data.shape[-1]), (1, *strides, 1))
        )
    groups = settings["feature_group_count"]
    stacked = jnp.stack(seen, axis=-2)
    split = stacked.reshape(*stacked.shape[:-1], groups, -1)
    return jnp.moveaxis(split, -2, 0)


def _what_came_out(use: Use, cotangent: jax.Array) -> jax.Array:
    """The cotangents of the output of a use, one a network output, as (k, batches, positions, outputs)."""
    outputs, kind = cotangent.shape[0], use.kind
    shape = (outputs, use.batches, use.positions, use.outputs)
    if isinstance(kind, Product) and kind.view_first:
        return cotangent.reshape(outputs, use.batches, use.outputs, use.positions).swapaxes(2, 3)
    if isinstance(kind, Convolution):
        order = dict(kind.settings)["dimension_numbers"].out_spec
        moved = cotangent.transpose(0, *(1 + axis for axis in (order[0], *order[2:], order[1])))
        return jnp.moveaxis(moved.reshape(outputs, use.positions, use.batches, use.outputs), 2, 1)
    return cotangent.reshape(shape)
