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

from ntkit.engines.fused.generate import loop_source, module_source, sides_of
from ntkit.engines.fused.modules import load
from ntkit.engines.fused.program import Program, side_values, trace
from ntkit.engines.inputs import nearly_parallel
from ntkit.engines.plan import Plan, run
from ntkit.engines.reference import Grams, Prepared
from ntkit.errors import FusionError
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer
from ntkit.nn.dense import Dense
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
    work = max(2 * program.sums for program in programs)
    module = load(module_source(tuple(sources), work, dtype))
    return Fused(module, np.array(kinds), tuple(programs), blocks, tuple(widths), dtype)


def _blocks(layers: Sequence[Layer]) -> tuple[tuple[Layer, ...], ...]:
    """Each activation together with the layer before it: one loop passes over a row's state for both."""
    blocks: list[tuple[Layer, ...]] = []
    for layer in layers:
        if isinstance(layer, Activation) and blocks and isinstance(blocks[-1][-1], Dense):
            blocks[-1] = (*blocks[-1], layer)
        else:
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


def side_tables(fused: Fused, var: np.ndarray, name: str) -> SideTables:
    """Run every point through the network by itself, for the first ("var1") or the second ("var2") of a pair."""
    count = len(var)
    padded = np.pad(var, (0, -count % 256), mode="edge")
    constants, values, vectors = [], [], []
    for block, program, width in zip(fused.blocks, fused.programs, fused.widths, strict=True):
        leaves = tuple(
            np.asarray(leaf, fused.dtype) for leaf in (*jax.tree_util.tree_leaves(block), float(width))
        )
        with precision(fused.dtype):
            fixed, numbers, series, padded = _side(program, leaves, padded, name)
        constants.append(np.asarray(fixed))
        values.append(np.asarray(numbers)[:, :count])
        vectors.append([np.asarray(part).T[:, :count] for part in series])
    return SideTables(
        _stacked(constants, (EMPTY,), fused.dtype),
        _stacked(values, (EMPTY, EMPTY), fused.dtype),
        _stacked_vectors(vectors, fused.dtype),
    )


@partial(jax.jit, static_argnums=(0, 3))
def _side(program: Program, parameters: tuple, var: jax.Array, name: str) -> tuple:
    """Constants (c,), numbers (r, n), vectors (n, k) each, and the variance after the block (n,)."""
    sides = sides_of(program)
    first = name == "var1"
    numbers = sides.rows if first else sides.columns
    series = sides.row_vectors if first else sides.column_vectors
    after = program.after[0 if first else 1]

    def point(value: jax.Array) -> tuple:
        *found, last = side_values(program, [*numbers, *series, after], parameters, name, value)
        return _row(found[: len(numbers)], value.dtype), found[len(numbers) :], last.astype(value.dtype)

    stacked, vectors, after_values = jax.vmap(point)(var)
    fixed = side_values(program, sides.constants, parameters, name, var[0])
    return _row(fixed, var.dtype), stacked.T, vectors, after_values


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
    count = next(vector.shape[1] for part in parts for vector in part)
    table = np.zeros((len(parts), most, degree, count), dtype)
    for index, part in enumerate(parts):
        for number, vector in enumerate(part):
            table[index, number, : len(vector)] = vector
    return table


def fill(fused: Fused, prepared: Prepared) -> Grams:
    """Both kernels, tile by tile on the plan's threads; the diagonal is that of the points by themselves."""
    points1, points2, plan = prepared.points1, prepared.points2, prepared.plan
    rows = side_tables(fused, points1.var, "var1")
    columns = side_tables(fused, points2.var, "var2")
    near = fused.dtype.type(nearly_parallel(fused.dtype))
    inverse1, inverse2 = (_inverse(points.root) for points in (points1, points2))
    x1, x2 = (np.ascontiguousarray(points.x) for points in (points1, points2))
    grams = prepared.empty()
    plan = replace(plan, tile=_tile(plan))
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
    if plan.symmetric:
        for gram, diagonal in zip(grams, prepared.diagonals, strict=False):
            np.fill_diagonal(gram, diagonal)
    return Grams(grams[0], grams[1] if prepared.ntk else None)


def _tile(plan: Plan) -> int:
    """The side of a tile: large ones multiply matrices faster, smaller ones share small matrices among all cores."""
    for side in (512, 256):
        if len(replace(plan, tile=side)) >= 8 * plan.threads:
            return side
    return 128


def _inverse(root: np.ndarray) -> np.ndarray:
    """`1 / root`, 0 for an input that is 0."""
    return np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
