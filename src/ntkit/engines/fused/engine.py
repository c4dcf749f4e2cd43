"""The fused engine: all layers of a network on a row of pairs while it is in first-level cache, by Numba."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from ntkit.engines.fused.generate import TERMS, loop_source, sides_of
from ntkit.engines.fused.modules import load
from ntkit.engines.fused.program import Program, side_values, trace
from ntkit.engines.fused.strips import module_source
from ntkit.engines.inputs import nearly_parallel
from ntkit.engines.plan import Plan, run
from ntkit.engines.reference import Grams, Prepared
from ntkit.errors import FusionError
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer
from ntkit.nn.dense import Dense
from ntkit.nn.flatten import Flatten
from ntkit.nn.serial import Serial
from ntkit.numerics.dtypes import precision

STRIP = 128
"""Rows of a tile that go through the network before they are written: their results are still in the cache."""

PADDING = 16
"""Entries between the rows of a tile's scratch: columns of a power of two bytes would share few lines of the cache."""

EMPTY = 1
"""Arrays that a network does not need have one entry, so that compiled signatures are few."""


@dataclass(frozen=True, eq=False)
class Fused:
    """A network made ready: a compiled module, and which of its functions each block of layers is.

    Attributes:
        module: has `strip`, `place` and `reflect`.
        kinds: the number of each block's function, shape (blocks,).
        programs: each block's own program; blocks of one kind share the loop over pairs, not what precedes it.
        blocks: the network's layers.
        widths: the width before each block.
        dtype: of all numbers.
    """

    module: ModuleType
    kinds: np.ndarray
    programs: tuple[Program, ...]
    blocks: tuple[tuple[Layer, ...], ...]
    widths: tuple[int, ...]
    dtype: np.dtype


def fuse(network: Layer, features: int, dtype: Any, ntk: bool) -> Fused:
    """Compile a network, or find it compiled.

    Raises:
        FusionError: for a network with a layer that cannot be fused; the text says which and why.
    """
    dtype = np.dtype(dtype)
    blocks = _blocks(network.layers if isinstance(network, Serial) else (network,))
    programs, sources, kinds, widths, width, position = [], [], [], [], features, 0
    for block in blocks:
        leaves, structure = jax.tree_util.tree_flatten(block)
        try:
            program = trace(structure, tuple(np.shape(leaf) for leaf in leaves), dtype, ntk)
            source = loop_source(program)
        except FusionError as reason:
            raise FusionError(f"layer {position + len(block) - 1}, {block[-1]!r}, has {reason}") from None
        position += len(block)
        programs.append(program)
        if source not in sources:
            sources.append(source)
        kinds.append(sources.index(source))
        widths.append(width)
        width = width if program.width is None else program.width
    work = max(program.work for program in programs)
    module = load(module_source(tuple(sources), work, dtype))
    return Fused(module, np.array(kinds), tuple(programs), blocks, tuple(widths), dtype)


def _blocks(layers: Sequence[Layer]) -> tuple[tuple[Layer, ...], ...]:
    """Each activation together with the layer before it: one loop passes over a row's state for both."""
    blocks: list[tuple[Layer, ...]] = []
    for layer in layers:
        if isinstance(layer, Activation) and blocks and isinstance(blocks[-1][-1], Dense):
            blocks[-1] = (*blocks[-1], layer)
        elif not isinstance(layer, Flatten):
            # On vectors it does nothing.
            blocks.append((layer,))
    return tuple(blocks)


@dataclass(frozen=True, eq=False)
class SideTables:
    """What every block needs of the parameters and of each point, block by block.

    Attributes:
        constants: (blocks, c).
        values: (blocks, r, n).
        vectors: (blocks, v, k, n).
    """

    constants: np.ndarray
    values: np.ndarray
    vectors: np.ndarray


def side_tables(fused: Fused, var: np.ndarray, names: tuple[str, ...]) -> list[SideTables]:
    """Run every point through the network by itself, as the first ("var1") or second ("var2") of a pair, or as both."""
    count = len(var)
    padded = np.pad(var, (0, -count % 256), mode="edge")
    constants, values, vectors = ([[] for _ in names] for _ in range(3))
    for block, program, width in zip(fused.blocks, fused.programs, fused.widths, strict=True):
        leaves = tuple(
            np.asarray(leaf, fused.dtype) for leaf in (*jax.tree_util.tree_leaves(block), float(width))
        )
        with precision(fused.dtype):
            fixed, sides, padded = sides_by_point(program, leaves, padded, names)
        for k, (numbers, series) in enumerate(sides):
            constants[k].append(np.asarray(fixed))
            values[k].append(np.asarray(numbers)[:, :count])
            vectors[k].append([np.asarray(part).T[:, :count] for part in series])
    return [
        SideTables(
            _stacked(constants[k], (EMPTY,), fused.dtype),
            _stacked(values[k], (EMPTY, EMPTY), fused.dtype),
            _stacked_vectors(vectors[k], fused.dtype),
        )
        for k in range(len(names))
    ]


@partial(jax.jit, static_argnums=(0, 3))
def sides_by_point(program: Program, parameters: tuple, var: jax.Array, names: tuple[str, ...]) -> tuple:
    """Constants (c,) with tables behind them, each after its length; per name numbers (r, n) and vectors (n, k) each.

    Last, the variances after the block (n,). What both sides need XLA computes once.
    """
    sides = sides_of(program)
    wanted = {
        "var1": (sides.rows, sides.row_vectors, program.after[0]),
        "var2": (sides.columns, sides.column_vectors, program.after[1]),
    }

    def point(value: jax.Array) -> tuple:
        found, after_block = [], value
        for name in names:
            numbers, series, after = wanted[name]
            *each, after_block = side_values(program, [*numbers, *series, after], parameters, name, value)
            found.append((_row(each[: len(numbers)], value.dtype), each[len(numbers) :]))
        return found, after_block.astype(value.dtype)

    found, after_values = jax.vmap(point)(var)
    fixed = side_values(program, [*sides.constants, *sides.tables], parameters, names[0], var[0])
    constants = [_row(fixed[: len(sides.constants)], var.dtype)]
    for table in fixed[len(sides.constants) :]:
        constants += [jnp.full(1, len(table), var.dtype), table]
    return jnp.concatenate(constants), [(numbers.T, series) for numbers, series in found], after_values


def _row(values: list[Any], dtype: Any) -> jax.Array:
    """Numbers and truth values as one vector."""
    return jnp.stack([value.astype(dtype) for value in values]) if values else jnp.zeros(0, dtype)


def _stacked(parts: list[np.ndarray], smallest: tuple[int, ...], dtype: Any) -> np.ndarray:
    shape = tuple(max([least, *(part.shape[axis] for part in parts)]) for axis, least in enumerate(smallest))
    table = np.zeros((len(parts), *shape), dtype)
    for index, part in enumerate(parts):
        table[(index, *(slice(size) for size in part.shape))] = part
    return table


def _stacked_vectors(parts: list[list[np.ndarray]], dtype: Any) -> np.ndarray:
    most = max(len(part) for part in parts)
    if most == 0:
        return np.zeros((len(parts), EMPTY, EMPTY, EMPTY), dtype)
    degree = max(vector.shape[0] for part in parts for vector in part)
    degree += -degree % TERMS
    count = next(vector.shape[1] for part in parts for vector in part)
    table = np.zeros((len(parts), most, degree, count), dtype)
    for index, part in enumerate(parts):
        for number, vector in enumerate(part):
            table[index, number, : len(vector)] = vector
    return table


def fill(fused: Fused, prepared: Prepared, plan: Plan) -> Grams:
    """Both kernels, tile by tile on the plan's threads; the diagonal is that of the points by themselves."""
    points1, points2 = prepared.points1, prepared.points2
    if plan.symmetric:
        rows, columns = side_tables(fused, points1.var, ("var1", "var2"))
    else:
        (rows,), (columns,) = (
            side_tables(fused, points.var, (name,)) for points, name in ((points1, "var1"), (points2, "var2"))
        )
    near = fused.dtype.type(nearly_parallel(fused.dtype))
    inverse1, inverse2 = (_inverse(np.sqrt(points.var)) for points in (points1, points2))
    x1, x2 = (np.ascontiguousarray(points.x) for points in (points1, points2))
    grams = prepared.empty()
    local = threading.local()

    def compute(down: slice, across: slice) -> None:
        if not hasattr(local, "products"):
            # Reused from tile to tile: fresh memory would have to be cleared by the system first.
            local.products = np.empty((plan.tile, plan.tile + PADDING), fused.dtype)
            local.scratch = np.empty((len(grams), STRIP, plan.tile + PADDING), fused.dtype)
        height, width = down.stop - down.start, across.stop - across.start
        np.matmul(x1[down], x2[across].T, out=local.products[:height, :width])
        same = plan.symmetric and down.start == across.start
        for top in range(0, height, STRIP):
            lines = min(STRIP, height - top)
            fused.module.strip(
                fused.kinds, rows.constants, rows.values, columns.values, rows.vectors, columns.vectors, x1, x2,
                inverse1, inverse2, near, same, down.start + top, across.start, local.products, top, lines, width,
                local.scratch,
            )  # fmt: skip
            for gram, block in zip(grams, local.scratch, strict=True):
                fused.module.place(
                    block,
                    lines,
                    width,
                    gram,
                    down.start + top,
                    across.start,
                    plan.symmetric and not same,
                    same,
                )
        for gram in grams if same else ():
            fused.module.reflect(gram, down.start, down.stop)

    with threadpool_limits(1 if plan.threads > 1 and len(plan) > 1 else None, user_api="blas"):
        run(plan, compute, "kernel")
    if plan.symmetric and prepared.diagonals is not None:
        for gram, diagonal in zip(grams, prepared.diagonals, strict=False):
            np.fill_diagonal(gram, diagonal)
    return Grams(grams[0], grams[1] if prepared.ntk else None)


def tiled(plan: Plan) -> Plan:
    """The plan with tiles for this engine: large ones multiply matrices faster, small ones keep all cores busy."""
    for side in (512, 256, 128):
        if len(replace(plan, tile=side)) >= 8 * plan.threads:
            return replace(plan, tile=side)
    return replace(plan, tile=128)


def working_bytes(fused: Fused, plan: Plan, grams: int) -> int:
    """Memory beside the results: each thread's products and finished strip, and what each point contributes."""
    scratch = plan.threads * (plan.tile + grams * STRIP) * (plan.tile + PADDING)
    sides = [sides_of(program) for program in fused.programs]
    points = max(len(side.rows) + len(side.columns) for side in sides) * len(sides)
    vectors = [
        sum(program.forms[name].shape[0] for name in (*side.row_vectors, *side.column_vectors))
        for side, program in zip(sides, fused.programs, strict=True)
    ]
    return (
        scratch + (points + max(vectors) * len(sides)) * max(plan.rows, plan.columns)
    ) * fused.dtype.itemsize


def _inverse(root: np.ndarray) -> np.ndarray:
    """`1 / root`, 0 for an input that is 0."""
    return np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
