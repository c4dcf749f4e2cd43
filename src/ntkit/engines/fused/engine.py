"""The fused engine: all layers of a network on a row of pairs while it is in first-level cache, by Numba."""

from dataclasses import dataclass
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
from ntkit.engines.plan import run
from ntkit.engines.reference import Grams, Prepared
from ntkit.errors import FusionError
from ntkit.nn.base import Layer
from ntkit.nn.serial import Serial
from ntkit.numerics.dtypes import precision

EMPTY = 1
"""Arrays that a network does not need have one entry, so that compiled signatures are few."""


@dataclass(frozen=True, eq=False)
class Fused:
    """A network made ready: a compiled module, and which of its functions each layer is.

    Attributes:
        module: has `tile` and `mirror`.
        kinds: the number of each layer's function, shape (layers,).
        programs: each layer's own program; layers of one kind share the loop over pairs, not what precedes it.
        layers: the network's layers.
        widths: the width before each layer.
        dtype: of all numbers.
    """

    module: ModuleType
    kinds: np.ndarray
    programs: tuple[Program, ...]
    layers: tuple[Layer, ...]
    widths: tuple[int, ...]
    dtype: np.dtype


def fuse(network: Layer, features: int, dtype: Any, ntk: bool) -> Fused:
    """Compile a network, or find it compiled.

    Raises:
        FusionError: for a network with a layer that cannot be fused; the text says which and why.
    """
    dtype = np.dtype(dtype)
    layers = network.layers if isinstance(network, Serial) else (network,)
    programs, sources, kinds, widths, width = [], [], [], [], features
    for position, layer in enumerate(layers):
        leaves, structure = jax.tree_util.tree_flatten(layer)
        try:
            program = trace(structure, tuple(np.shape(leaf) for leaf in leaves), dtype, ntk)
            source = loop_source(program)
        except FusionError as reason:
            raise FusionError(f"layer {position}, {layer!r}, has {reason}") from None
        programs.append(program)
        if source not in sources:
            sources.append(source)
        kinds.append(sources.index(source))
        widths.append(width)
        width = width if program.width is None else program.width
    work = max(2 * program.sums for program in programs)
    module = load(module_source(tuple(sources), work, dtype))
    return Fused(module, np.array(kinds), tuple(programs), layers, tuple(widths), dtype)


@dataclass(frozen=True, eq=False)
class SideTables:
    """What every layer needs of the parameters and of each point, layer by layer.

    Attributes:
        constants: (layers, c).
        values: (layers, r, n).
        vectors: (layers, v, k, n).
    """

    constants: np.ndarray
    values: np.ndarray
    vectors: np.ndarray


def side_tables(fused: Fused, var: np.ndarray, name: str) -> SideTables:
    """Run every point through the network by itself, for the first ("var1") or the second ("var2") of a pair."""
    count = len(var)
    padded = np.pad(var, (0, -count % 256), mode="edge")
    constants, values, vectors = [], [], []
    for layer, program, width in zip(fused.layers, fused.programs, fused.widths, strict=True):
        leaves = tuple(
            np.asarray(leaf, fused.dtype) for leaf in (*jax.tree_util.tree_leaves(layer), float(width))
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
    """Constants (c,), numbers (r, n), vectors (n, k) each, and the variance after the layer (n,)."""
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
    rows, columns = side_tables(fused, points1.var, "var1"), side_tables(fused, points2.var, "var2")
    near = fused.dtype.type(nearly_parallel(fused.dtype))
    grams = prepared.empty()
    tangent = grams[1] if prepared.ntk else np.empty((0, 0), fused.dtype)
    x1, x2 = (np.ascontiguousarray(points.x) for points in (points1, points2))

    def compute(down: slice, across: slice) -> None:
        product = x1[down] @ x2[across].T
        same = plan.symmetric and down.start == across.start
        fused.module.tile(
            fused.kinds, rows.constants, rows.values, columns.values, rows.vectors, columns.vectors,
            x1, x2, points1.root, points2.root, near, same, down.start, across.start, product, grams[0], tangent,
        )  # fmt: skip
        for gram in grams if plan.symmetric else ():
            if same:
                # One triangle decides, so that rounding cannot make the matrix unsymmetric.
                block = gram[down, across]
                block[...] = np.triu(block) + np.triu(block, 1).T
            else:
                fused.module.mirror(gram, down.start, down.stop, across.start, across.stop)

    with threadpool_limits(1 if plan.threads > 1 and len(plan) > 1 else None, user_api="blas"):
        run(plan, compute, "kernel")
    if plan.symmetric:
        for gram, diagonal in zip(grams, prepared.diagonals, strict=False):
            np.fill_diagonal(gram, diagonal)
    return Grams(grams[0], grams[1] if prepared.ntk else None)
