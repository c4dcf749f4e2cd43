"""Convolutional networks on pairs of images: what each image contributes, and the averages over planes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from types import ModuleType
from typing import Any

import jax
import numpy as np

from ntkit.engines.fused.engine import EMPTY, _sides
from ntkit.engines.fused.generate import TERMS, loop_source, sides_of
from ntkit.engines.fused.modules import load
from ntkit.engines.fused.planes import WINDOW_SIDES, Taps, plane_source, shifts
from ntkit.engines.fused.program import Program, trace
from ntkit.engines.plan import Plan, place, run
from ntkit.engines.reference import Grams, Prepared
from ntkit.errors import FusionError, KernelOverflowError
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer
from ntkit.nn.convolution import Conv
from ntkit.nn.dense import Dense
from ntkit.nn.flatten import Flatten
from ntkit.nn.pooling import GlobalAvgPool
from ntkit.nn.serial import Serial
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import precision

BLOCK = 16
"""Images of the first set that share what is prepared of an image of the second, and the side of a tile."""


OVERFLOW = "The {} kernel needs more than {} can hold. Use float64, a smaller w_std or standardised images."


@dataclass(frozen=True)
class Window:
    """An average over a window of stride 1 with zero padding that keeps the image's size."""

    shape: tuple[int, int]


Step = Window | tuple[Layer, ...]


@dataclass(frozen=True, eq=False)
class Chain:
    """A network taken apart: what happens on pixels, how they are averaged, and what follows.

    Attributes:
        steps: windows and blocks of layers in turn.
        widths: the fan-in that each block sees.
        pooled: whether all pairs of pixels are averaged, not only equal ones.
        head: the layers on vectors.
        width: before the head.
    """

    steps: tuple[Step, ...]
    widths: tuple[int, ...]
    pooled: bool
    head: tuple[Layer, ...]
    width: int


@dataclass(frozen=True, eq=False)
class FusedImages:
    """A convolutional network made ready.

    Attributes:
        module: has `pairs`.
        chain: the network.
        programs: of each step that is a block of layers, None for windows.
        kinds: the number of each step's function among those of its sort.
        windows: the kinds of windows.
        dtype: of all numbers.
    """

    module: ModuleType
    chain: Chain
    programs: tuple[Program | None, ...]
    kinds: np.ndarray
    windows: tuple[Taps, ...]
    dtype: np.dtype


def chain_of(network: Layer, image: tuple[int, ...]) -> Chain:
    """A network as a chain, for images of shape (height, width, channels).

    Raises:
        FusionError: for what is no such chain; the text says which layer.
    """
    if len(image) != 3:
        raise FusionError(f"images of {len(image) - 1} spatial axes, where 2 are supported")
    layers = network.layers if isinstance(network, Serial) else (network,)
    steps: list[Step] = []
    widths: list[int] = []
    width = image[-1]
    for position, layer in enumerate(layers):
        if isinstance(layer, GlobalAvgPool | Flatten):
            pooled = isinstance(layer, GlobalAvgPool)
            width *= 1 if pooled else prod(image[:2])
            return Chain(tuple(steps), tuple(widths), pooled, tuple(layers[position + 1 :]), width)
        if isinstance(layer, Conv) and layer.padding == "same" and set(layer.strides or (1,)) == {1}:
            steps.append(Window(layer.filter_shape))  # type: ignore[arg-type]
            # A convolution is an average over its window, and a dense layer at each pixel.
            dense = Dense(layer.width, layer.w_std, layer.b_std, layer.parametrization)
            steps.append((dense,))
            widths += [width, width * prod(layer.filter_shape)]
        elif isinstance(layer, Dense):
            if not steps:
                steps.append(Window((1, 1)))
                widths.append(width)
            steps.append((layer,))
            widths.append(width)
        elif isinstance(layer, Activation) and steps:
            before = steps[-1]
            assert not isinstance(before, Window)
            steps[-1] = (*before, layer)
        else:
            raise FusionError(f"layer {position}, {layer!r}, which does not run on planes of pixel pairs")
        width = getattr(layer, "width", width)
    raise FusionError("no Flatten or GlobalAvgPool")


def fuse_images(network: Layer, image: tuple[int, ...], dtype: Any, ntk: bool) -> FusedImages:
    """Compile a convolutional network for images of shape (height, width, channels), or find it compiled.

    Raises:
        FusionError: for a network with a layer that cannot be fused; the text says which and why.
    """
    dtype = np.dtype(dtype)
    chain = chain_of(network, image)
    programs: list[Program | None] = []
    windows: list[Taps] = []
    sources: list[str] = []
    kinds = []
    for step in chain.steps:
        if isinstance(step, Window):
            taps = (shifts(step.shape[0]), shifts(step.shape[1]))
            if taps not in windows:
                windows.append(taps)
            kinds.append(windows.index(taps))
            programs.append(None)
            continue
        leaves, structure = jax.tree_util.tree_flatten(step)
        try:
            program = trace(structure, tuple(np.shape(leaf) for leaf in leaves), dtype, ntk)
            source = loop_source(program, plane=True)
        except FusionError as reason:
            raise FusionError(f"{step[-1]!r} has {reason}") from None
        if source not in sources:
            sources.append(source)
        kinds.append(sources.index(source))
        programs.append(program)
    reach = max(max(map(abs, down)) * image[1] + max(map(abs, across)) for down, across in windows)
    real = [program for program in programs if program is not None]
    work = max(program.work for program in real)
    vectors = any(sides_of(program).row_vectors for program in real)
    module = load(plane_source(tuple(sources), tuple(windows), work, reach + -reach % 16, vectors, dtype))
    return FusedImages(module, chain, tuple(programs), np.array(kinds), tuple(windows), dtype)


@dataclass(frozen=True, eq=False)
class PlaneTables:
    """What every step needs of the parameters and of each image's pixels."""

    constants: np.ndarray
    values: np.ndarray
    vectors: np.ndarray


def plane_tables(fused: FusedImages, x: np.ndarray, names: tuple[str, ...]) -> list[PlaneTables]:
    """Run every pixel through the network by itself."""
    count, height, width = x.shape[:3]
    size = height * width
    var = np.einsum("nijc,nijc->nij", x, x) / x.shape[3]
    steps = len(fused.chain.steps)
    constants: list[np.ndarray] = []
    values: list[list[np.ndarray]] = [[] for _ in names]
    vectors: list[list[list[np.ndarray]]] = [[] for _ in names]
    for step, program, fan_in in zip(fused.chain.steps, fused.programs, fused.chain.widths, strict=True):
        if isinstance(step, Window):
            after = window_average(_finite(var), step.shape)
            root, root_after = np.sqrt(var), np.sqrt(after)
            inverse = np.divide(1.0, root_after, out=np.zeros_like(root_after), where=root_after > 0)
            numbers = np.stack([part.reshape(count, size) for part in (root, root_after, inverse)], axis=1)
            constants.append(np.zeros(EMPTY, fused.dtype))
            for k in range(len(names)):
                values[k].append(numbers)
                vectors[k].append([])
            var = after
            continue
        assert program is not None
        leaves = tuple(
            np.asarray(leaf, fused.dtype) for leaf in (*jax.tree_util.tree_leaves(step), float(fan_in))
        )
        flat = var.reshape(-1)
        padded = np.pad(flat, (0, -len(flat) % 256), mode="edge")
        with precision(fused.dtype):
            fixed, sides, after = _sides(program, leaves, padded, names)
        constants.append(np.asarray(fixed))
        for k, (numbers, series) in enumerate(sides):
            table = np.asarray(numbers)[:, : len(flat)].reshape(-1, count, size)
            values[k].append(np.moveaxis(table, 0, 1))
            parts = [np.asarray(part)[: len(flat)].reshape(count, size, -1) for part in series]
            vectors[k].append([np.moveaxis(part, 1, 2) for part in parts])
        var = np.asarray(after)[: len(flat)].reshape(var.shape)
    longest = max(len(fixed) for fixed in constants)
    fixed_table = np.zeros((steps, max(EMPTY, longest)), fused.dtype)
    for k, fixed in enumerate(constants):
        fixed_table[k, : len(fixed)] = fixed
    tables = []
    for numbers, series in zip(values, vectors, strict=True):
        table = np.zeros(
            (count, steps, max(WINDOW_SIDES, *(part.shape[1] for part in numbers)), size), fused.dtype
        )
        for k, part in enumerate(numbers):
            table[:, k, : part.shape[1]] = part
        most = max(len(part) for part in series)
        if most == 0:
            vector_table = np.zeros((count, steps, EMPTY, EMPTY, EMPTY), fused.dtype)
        else:
            terms = max(vector.shape[1] for part in series for vector in part)
            vector_table = np.zeros((count, steps, most, terms + -terms % TERMS, size), fused.dtype)
            for k, part in enumerate(series):
                for number, vector in enumerate(part):
                    vector_table[:, k, number, : vector.shape[1]] = vector
        tables.append(PlaneTables(fixed_table, table, vector_table))
    return tables


def _finite(var: np.ndarray) -> np.ndarray:
    """Variances of pixels, if they are numbers.

    Raises:
        KernelOverflowError: otherwise.
    """
    if not np.isfinite(var).all():
        raise KernelOverflowError(OVERFLOW.format("nngp", var.dtype))
    return var


def window_average(planes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The mean over a window of taps, zero outside; shape (n, height, width)."""
    result = planes
    for axis, size in zip((1, 2), shape, strict=True):
        taps = shifts(size)
        width = [(0, 0)] * 3
        width[axis] = (-taps[0], taps[-1])
        padded = np.pad(result, width)
        length = planes.shape[axis]
        # Shares first: a sum could overflow where the mean does not.
        padded = padded / padded.dtype.type(size)
        result = np.sum([np.take(padded, range(k, k + length), axis=axis) for k in range(size)], axis=0)
    return result


def averages(
    fused: FusedImages, x1: np.ndarray, x2: np.ndarray, rows: PlaneTables, columns: PlaneTables
) -> tuple[np.ndarray, np.ndarray]:
    """Both kernels before the head between blocks of images, (n1, n2)."""
    n1, height, width, channels = x1.shape
    steps = np.array([0 if isinstance(step, Window) else 1 for step in fused.chain.steps])
    down, across = (
        np.array([(*taps, *(0,) * (most - len(taps))) for taps in (pair[axis] for pair in fused.windows)])
        for axis, most in ((axis, max(len(pair[axis]) for pair in fused.windows)) for axis in (0, 1))
    )
    left, right = (
        np.ascontiguousarray(np.moveaxis(x.reshape(len(x), height * width, channels), 1, 2))
        / fused.dtype.type(channels**0.5)
        for x in (x1, x2)
    )
    nngp, ntk = (np.empty((n1, len(x2)), fused.dtype) for _ in range(2))
    fused.module.pairs(
        steps, fused.kinds, down, across, rows.constants, rows.values, columns.values, rows.vectors, columns.vectors,
        left, right, height, width, fused.chain.pooled, nngp, ntk,
    )  # fmt: skip
    return nngp, ntk


def tiled(fused: FusedImages, plan: Plan) -> Plan:
    """The plan with tiles for this engine, smaller where there are few for all cores.

    Where only equal pixels count, a pair of images is little work beside preparing the images: tiles are larger.
    """
    for side in (BLOCK, 8, 4, 2) if fused.chain.pooled else (128, 64, 32, BLOCK, 4):
        if len(replace(plan, tile=side)) >= 2 * plan.threads:
            return replace(plan, tile=side)
    return replace(plan, tile=1)


def working_bytes(fused: FusedImages, plan: Plan, pixels: int) -> int:
    """Memory beside the results: what both blocks of images of each tile in progress contribute, and planes."""
    numbers = WINDOW_SIDES
    for program in fused.programs:
        if program is not None:
            sides = sides_of(program)
            vectors = sum(
                program.forms[name].shape[0] for name in (*sides.row_vectors, *sides.column_vectors)
            )
            numbers = max(numbers, len(sides.rows) + len(sides.columns) + vectors)
    return plan.threads * 3 * plan.tile * len(fused.kinds) * numbers * pixels * fused.dtype.itemsize


def fill(fused: FusedImages, prepared: Prepared) -> Grams:
    """Both kernels, tile by tile on the plan's threads."""
    x1, x2 = prepared.points1.x, prepared.points2.x
    plan = tiled(fused, prepared.plan)
    grams = [np.empty((plan.rows, plan.columns), fused.dtype) for _ in range(2)]

    def compute(down: slice, across: slice) -> None:
        (rows,) = plane_tables(fused, x1[down], ("var1",))
        (columns,) = plane_tables(fused, x2[across], ("var2",))
        for gram, block in zip(grams, averages(fused, x1[down], x2[across], rows, columns), strict=True):
            place(plan, gram, down, across, block)

    run(plan, compute, "kernel")
    if any(layer.needs_variances for layer in fused.chain.head):
        var1 = np.diag(grams[0]).copy() if plan.symmetric else own_averages(fused, x1, plan)[0]
        var2 = var1 if plan.symmetric else own_averages(fused, x2, plan)[0]
    else:
        # Nobody asks for them.
        var1, var2 = np.ones(plan.rows, fused.dtype), np.ones(plan.columns, fused.dtype)
    return _with_head(fused, grams, var1[:, None], var2[None, :], prepared.ntk, same=False)


def diagonal(fused: FusedImages, x: np.ndarray, plan: Plan, ntk: bool) -> Grams:
    """Both kernels of every image with itself, shape (n,)."""
    grams = own_averages(fused, x, plan)
    return _with_head(fused, grams, grams[0], grams[0], ntk, same=True)


def own_averages(fused: FusedImages, x: np.ndarray, plan: Plan) -> list[np.ndarray]:
    """Both kernels before the head of every image with itself, shape (n,)."""
    grams = [np.empty(len(x), fused.dtype) for _ in range(2)]

    def compute(block: slice, _: slice) -> None:
        for index in range(block.start, block.stop):
            image = x[index : index + 1]
            rows, columns = plane_tables(fused, image, ("var1", "var2"))
            for gram, value in zip(grams, averages(fused, image, image, rows, columns), strict=True):
                gram[index] = value[0, 0]

    run(Plan(len(x), 1, False, tile=1, threads=plan.threads), compute, "diagonal")
    return grams


def _with_head(
    fused: FusedImages,
    grams: Sequence[np.ndarray],
    var1: np.ndarray,
    var2: np.ndarray,
    ntk: bool,
    *,
    same: bool,
) -> Grams:
    """The layers on vectors, by their own `propagate`.

    Raises:
        KernelOverflowError: when a value exceeds the dtype.
    """
    with precision(fused.dtype):
        width = fused.chain.width
        values = _head(
            fused.chain.head, grams[0], grams[1] if ntk else None, var1, var2, width=width, same=same
        )
        result = Grams(*(None if value is None else np.array(value) for value in values))
    for name, gram in zip(("nngp", "ntk"), result, strict=True):
        if gram is not None and not np.isfinite(gram).all():
            raise KernelOverflowError(OVERFLOW.format(name, gram.dtype))
    return result


@partial(jax.jit, static_argnames=("width", "same"))
def _head(layers: tuple[Layer, ...], nngp, ntk, var1, var2, *, width: int, same: bool) -> tuple:
    if same:
        state = replace(KernelState.diagonal(nngp, width), ntk=ntk)
    else:
        state = KernelState(nngp, ntk, var1, var2, None, None, width).with_variances(var1, var2)
    for layer in layers:
        state = layer.propagate(state)
    return state.nngp, state.ntk
