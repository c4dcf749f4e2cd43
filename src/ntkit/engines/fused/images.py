"""Convolutional networks on pairs of images: what each image contributes, and the sums over planes of pixel pairs."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.engines.fused.engine import sides_by_point
from ntkit.engines.fused.image_program import FusedImages, buffer_starts, degree_of, extent
from ntkit.engines.fused.planes import AFFINE
from ntkit.engines.fused.program import Program
from ntkit.engines.fused.schedule import Add, Block, Copy, Enter, Level, Pool, Total, pool_shares
from ntkit.engines.plan import Plan, place, run
from ntkit.engines.reference import Grams, Prepared
from ntkit.errors import KernelOverflowError
from ntkit.nn.base import Layer
from ntkit.nn.dense import Dense
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import precision

OVERFLOW = "The {} kernel needs more than {} can hold. Use float64, a smaller w_std or standardised images."

NAMES = ("var1", "var2")
"""The sides, as programs call them."""


@partial(jax.jit, static_argnames=("ntk",))
def _affine(layer: Dense, fan_in: jax.Array, *, ntk: bool) -> tuple:
    """What weights do: `nngp' = scale nngp + shift`, `ntk' = own nngp + own_one + kept_on ntk`."""

    def both(cov: jax.Array, tangent: jax.Array) -> tuple:
        one = jnp.ones_like(cov)
        state = KernelState(cov, tangent if ntk else None, one, one, one, one, fan_in)
        after = layer.propagate(state)
        return after.nngp, after.ntk if ntk else tangent

    zero, one = jnp.zeros_like(fan_in), jnp.ones_like(fan_in)
    (shift, own_one), (scale, own) = jax.jvp(both, (zero, zero), (one, zero))
    _, (_, kept_on) = jax.jvp(both, (zero, zero), (zero, one))
    return scale, shift, own, own_one, kept_on


def window_average(var: np.ndarray, step: Block, circular: bool) -> np.ndarray:
    """The mean over a block's windows of variances (n, height, width)."""
    result = var
    above, below, left, right = extent(step)
    widths = ((above, below), (left, right))
    for axis in (0, 1):
        size, stride, count = step.window.shape[axis], step.window.strides[axis], step.place.size[axis]
        around = [(0, 0), (0, 0), (0, 0)]
        around[axis + 1] = widths[axis]
        padded = np.pad(result, around, mode="wrap" if circular else "constant")
        # Shares first: a sum could overflow where the mean does not.
        padded = padded / padded.dtype.type(size)
        taps = [np.take(padded, range(k, k + stride * count, stride), axis=axis + 1) for k in range(size)]
        result = np.sum(taps, axis=0)
    return result


@dataclass(eq=False)
class Numbers:
    """What images contribute, and the network's own constants.

    Attributes:
        sides: for the first images, the second, or both: (n, numbers).
        names: which of them, "var1" or "var2".
        constants: of each block, (blocks, c).
    """

    sides: list[np.ndarray]
    names: tuple[str, ...]
    constants: np.ndarray


def contributions(
    fused: FusedImages, x: np.ndarray, own: Sequence[np.ndarray], names: tuple[str, ...]
) -> Numbers:
    """Run every pixel through the network by itself.

    Args:
        fused: the network.
        x: images (n, height, width, channels).
        own: the variances in each buffer, (n, height, width).
        names: the sides wanted.
    """
    numbers = no_numbers(fused, len(x), names)
    for number in range(len(fused.schedule.levels)):
        contribute(fused, number, x, own, numbers)
    return numbers


def no_numbers(fused: FusedImages, count: int, names: tuple[str, ...]) -> Numbers:
    """Where the contributions of so many images go."""
    sides = [np.zeros((count, fused.lengths[NAMES.index(name)]), fused.dtype) for name in names]
    blocks = sum(isinstance(step, Block) for level in fused.schedule.levels for step in level.steps)
    return Numbers(sides, names, np.zeros((max(1, blocks), AFFINE), fused.dtype))


def contribute(
    fused: FusedImages, number: int, x: np.ndarray, own: Sequence[np.ndarray], numbers: Numbers
) -> None:
    """Enter what the images contribute to the steps of one level."""
    level, count = fused.schedule.levels[number], len(x)
    first_block = sum(
        isinstance(step, Block) for earlier in fused.schedule.levels[:number] for step in earlier.steps
    )
    slots: dict[int, np.ndarray] = {}

    def put(sections: Any, m: int, values: Sequence[Iterable[np.ndarray]]) -> None:
        for out, name, each in zip(numbers.sides, numbers.names, values, strict=True):
            section = sections[NAMES.index(name)][number][m]
            for k, value in enumerate(each):
                tiled = np.tile(value, (1, section.tiles, section.tiles)) if section.tiles > 1 else value
                begin = section.start + k * section.size
                out[:, begin : begin + tiled[0].size] = tiled.reshape(count, -1)

    for m, step in enumerate(level.steps):
        if isinstance(step, Enter) and step.buffer is None:
            channels = np.moveaxis(x, 3, 0) / fused.dtype.type(x.shape[3] ** 0.5)
            put(fused.sections, m, [channels] * len(numbers.names))
            slots[step.slot] = np.einsum("nijc,nijc->nij", x, x) / x.shape[3]
        elif isinstance(step, Enter):
            assert step.buffer is not None
            var = own[step.buffer]
            put(fused.sections, m, [(np.sqrt(var), _inverse_root(var))] * len(numbers.names))
            slots[step.slot] = var
        elif isinstance(step, Copy):
            slots[step.target] = slots[step.slot]
        elif isinstance(step, Add):
            slots[step.target] = slots[step.target] + slots[step.slot]
        elif isinstance(step, Block):
            var = _finite(slots[step.slot])
            if any(extent(step)) and not level.circular:
                put(fused.borders, m, [(var,)] * len(numbers.names))
            slots[step.slot] = _block(fused, number, m, var, numbers, first_block, put)
            first_block += 1


def _block(
    fused: FusedImages, number: int, m: int, var: np.ndarray, numbers: Numbers, index: int, put: Any
) -> np.ndarray:
    """Enter what the images contribute to a block; the variances after it."""
    level, program = fused.schedule.levels[number], fused.programs[number][m]
    step = level.steps[m]
    assert isinstance(step, Block)
    dtype = fused.dtype
    share = 1.0 / (step.window.shape[0] * step.window.shape[1])
    affine = np.array([1.0, 0.0, 0.0, 0.0, 1.0])
    if isinstance(step.layers[0], Dense):
        with precision(np.float64):
            affine = np.array(
                [float(c) for c in _affine(step.layers[0], np.float64(step.fan_in), ntk=fused.ntk)]
            )
    after = (
        dtype.type(affine[0]) * window_average(var, step, level.circular) + dtype.type(affine[1])
    ).astype(dtype)
    constants = affine * [share, 1.0, share, 1.0, share]
    if program is not None:
        bends = step.layers[1:] if isinstance(step.layers[0], Dense) else step.layers
        leaves = tuple(
            np.asarray(leaf, dtype) for leaf in (*jax.tree_util.tree_leaves(bends), float(step.fan_in))
        )
        flat = _finite(after).reshape(-1)
        padded = np.pad(flat, (0, -len(flat) % 256), mode="edge")
        with precision(dtype):
            fixed, sides, bent = sides_by_point(program, leaves, padded, numbers.names)
        constants = np.concatenate([constants, np.asarray(fixed)])
        root, inverse = np.sqrt(after), _inverse_root(after)
        bent = np.asarray(bent)[: len(flat)].reshape(after.shape)
        values = []
        for scalars, series in sides:
            table = np.asarray(scalars)[:, : len(flat)].reshape(-1, *after.shape)
            values.append([root, inverse, np.sqrt(bent), *table, *_terms(program, series, after.shape)])
        put(fused.sections, m, values)
        after = bent
    missing = len(constants) - numbers.constants.shape[1]
    if missing > 0:
        numbers.constants = np.pad(numbers.constants, ((0, 0), (0, missing)))
    numbers.constants[index, : len(constants)] = constants
    return after


def _terms(program: Program, series: Sequence[Any], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Every term of every vector as an array over pixels, filled up with zeros."""
    degree, result = degree_of(program), []
    for vector in series:
        terms = np.asarray(vector)[: np.prod(shape, dtype=int)].T.reshape(-1, *shape)
        result += [*terms, *[np.zeros(shape, terms.dtype)] * (degree - len(terms))]
    return result


def _inverse_root(var: np.ndarray) -> np.ndarray:
    root = np.sqrt(var)
    return np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)


def _finite(var: np.ndarray) -> np.ndarray:
    """Variances of pixels, if they are numbers.

    Raises:
        KernelOverflowError: otherwise.
    """
    if not np.isfinite(var).all():
        raise KernelOverflowError(OVERFLOW.format("nngp", var.dtype))
    return var


class Scratch:
    """Work space of one thread, and what all threads share: the network as the compiled functions take it."""

    def __init__(self, fused: FusedImages) -> None:
        schedule, lanes, dtype = fused.schedule, fused.lanes, fused.dtype
        vector = 64 // dtype.itemsize
        steps = [step for level in schedule.levels for step in level.steps]
        blocks = [step for step in steps if isinstance(step, Block)]
        reach = max([step.window.reach for step in blocks], default=0)
        high, wide = (max(step.place.size[axis] for step in steps) for axis in (0, 1))
        # Beyond the last column so much that a row may be filled up to whole vectors.
        pitch = (wide + 2 * reach) * lanes + vector
        self.pitch, self.origin = pitch, reach * (pitch + lanes)
        self.plane = (high + 2 * reach) * pitch + 2 * vector
        slots = 1 + max(max(step.slot, getattr(step, "target", 0)) for step in steps)
        tall = max([step.window.shape[0] for step in blocks], default=1)
        capacity = wide * lanes + 2 * vector
        self.slots = np.zeros(slots * 3 * self.plane + vector, dtype)
        # Every block divides it by its own window's rows.
        self.kept = np.zeros(3 * tall * capacity, dtype)
        rows = max((program.work for level in fused.programs for program in level if program), default=0)
        self.work = np.zeros((max(1, rows), capacity), dtype)
        self.line = np.zeros(capacity, dtype)
        self.pooled = np.zeros(buffer_starts(schedule, lanes)[-1], dtype)
        self.totals = np.zeros((2, lanes))

    @property
    def bytes(self) -> int:
        """Of memory."""
        return sum(array.nbytes for array in (self.slots, self.kept, self.work, self.line, self.pooled))


def pool_tables(fused: FusedImages) -> tuple[np.ndarray, np.ndarray]:
    """The windows that each pixel lies in, and its shares, for every pooling: (poolings, 2, pixels, windows)."""
    pools = [step for level in fused.schedule.levels for step in level.steps if isinstance(step, Pool)]
    shares = [[pool_shares(step.layer, step.place.size[axis], axis) for axis in (0, 1)] for step in pools]
    pixels = max([len(axis) for pair in shares for axis in pair], default=1)
    most = max([len(each) for pair in shares for axis in pair for each in axis], default=1)
    targets = np.zeros((max(1, len(pools)), 2, pixels, max(1, most)), np.int64)
    weights = np.zeros(targets.shape, fused.dtype)
    for k, pair in enumerate(shares):
        for axis, found in enumerate(pair):
            for pixel, each in enumerate(found):
                for number, (target, share) in enumerate(each):
                    targets[k, axis, pixel, number], weights[k, axis, pixel, number] = target, share
    return targets, weights


def sums(
    fused: FusedImages, rows: Numbers, columns: Numbers, scratch: Scratch, upper: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Both kernels before the head between two sets of images, (n1, n2)."""
    levels = fused.schedule.levels
    left, right = rows.sides[0], columns.sides[-1]
    nngp, ntk = (np.zeros((len(left), len(right)), fused.dtype) for _ in range(2))
    targets, shares = pool_tables(fused)
    downs, acrosses = ([np.array(level.offsets[axis]) for level in levels] for axis in (0, 1))
    fused.module.pairs(
        np.concatenate(fused.steps), _ends_of(fused.steps), np.concatenate(downs), _ends_of(downs),
        np.concatenate(acrosses), _ends_of(acrosses), np.array([level.circular for level in levels]), rows.constants,
        left, right, upper, _share(levels[-1]), scratch.plane, scratch.pitch, scratch.origin, scratch.slots,
        scratch.kept, scratch.work, scratch.line, shares, targets, scratch.pooled, nngp, ntk,
    )  # fmt: skip
    return nngp, ntk


def _ends_of(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *map(len, parts)])


def _share(level: Level) -> float:
    return next(step.share for step in level.steps if isinstance(step, Total))


@dataclass(frozen=True, eq=False)
class Own:
    """Images with themselves: the variances in each buffer, (n, height, width), and both kernels before the head."""

    buffers: list[np.ndarray]
    nngp: np.ndarray
    ntk: np.ndarray


def own_sums(fused: FusedImages, x: np.ndarray, threads: int) -> Own:
    """Every image with itself."""
    schedule, lanes = fused.schedule, fused.lanes
    buffers = [np.zeros((len(x), *size), fused.dtype) for size in schedule.buffers]
    grams = [np.zeros(len(x), fused.dtype) for _ in range(2)]
    starts = buffer_starts(schedule, lanes)
    targets, shares = pool_tables(fused)
    local = threading.local()

    def compute(block: slice, _: slice) -> None:
        scratch = _scratch_of(local, fused)
        images = x[block]
        own = [buffer[block] for buffer in buffers]
        numbers = no_numbers(fused, len(images), NAMES)
        scratch.pooled[:] = 0.0
        scratch.totals[:] = 0.0
        filled = np.arange(lanes) % len(images)
        for k, level in enumerate(schedule.levels):
            contribute(fused, k, images, own, numbers)
            laid = []
            for side in numbers.sides:
                out = np.zeros(side.shape[1] * lanes + 256 // fused.dtype.itemsize, fused.dtype)
                fused.module.interleave(np.ascontiguousarray(side[filled]), out)
                laid.append(out)
            fused.module.level(
                fused.steps[k], np.array(level.offsets[0]), np.array(level.offsets[1]), level.circular,
                numbers.constants, *laid, scratch.plane, scratch.pitch, scratch.origin, scratch.slots, scratch.kept,
                scratch.work, scratch.line, shares, targets, scratch.pooled, scratch.totals,
            )  # fmt: skip
            for step in level.steps:
                if isinstance(step, Pool):
                    high, wide = step.after
                    pairs = scratch.pooled[starts[step.buffer] :][: (high * wide) ** 2 * lanes]
                    found = np.einsum("aabbl->lab", pairs.reshape(high, high, wide, wide, lanes))
                    own[step.buffer][:] = found[: len(images)]
        for gram, totals in zip(grams, scratch.totals, strict=True):
            gram[block] = totals[: len(images)] * _share(schedule.levels[-1])

    run(Plan(len(x), 1, False, tile=lanes, threads=threads), compute, "diagonal")
    return Own(buffers, *grams)


def _scratch_of(local: threading.local, fused: FusedImages) -> Scratch:
    """A thread's work space, made once."""
    if not hasattr(local, "scratch"):
        local.scratch = Scratch(fused)
    return local.scratch


def tiled(fused: FusedImages, plan: Plan) -> Plan:
    """The plan with tiles for this engine, smaller where there are few for all cores, but of whole lanes.

    Where only equal pixels count, a pair of images is little work beside what each image contributes to a tile.
    """
    little = all(len(axis) == 1 for level in fused.schedule.levels for axis in level.offsets)
    for factor in (8, 4, 2):
        if len(replace(plan, tile=factor * fused.lanes)) >= (2 if little else 8) * plan.threads:
            return replace(plan, tile=factor * fused.lanes)
    return replace(plan, tile=fused.lanes)


def working_bytes(fused: FusedImages, plan: Plan) -> int:
    """Memory beside the results: each thread's work space, and what both blocks of images of its tile contribute."""
    numbers = sum(fused.lengths) * (plan.tile + fused.lanes) * fused.dtype.itemsize
    return plan.threads * (numbers + Scratch(fused).bytes)


def fill(fused: FusedImages, prepared: Prepared) -> Grams:
    """Both kernels, tile by tile on the plan's threads."""
    x1, x2 = prepared.points1.x, prepared.points2.x
    plan = tiled(fused, prepared.plan)
    bends = any(layer.needs_variances for layer in fused.schedule.head)
    own1 = own2 = None
    if fused.schedule.buffers or bends:
        own1 = own_sums(fused, x1, plan.threads)
        own2 = own1 if plan.symmetric else own_sums(fused, x2, plan.threads)
    grams = [np.empty((plan.rows, plan.columns), fused.dtype) for _ in range(2)]
    local = threading.local()

    # Kernels are symmetric functions: the larger set fills the lanes better.
    turned = plan.rows < plan.columns

    def compute(down: slice, across: slice) -> None:
        sides = [(x1, own1, down), (x2, own2, across)]
        rows, columns = (
            contributions(fused, x[part], [] if own is None else [b[part] for b in own.buffers], (name,))
            for (x, own, part), name in zip(reversed(sides) if turned else sides, NAMES, strict=True)
        )
        upper = plan.symmetric and down.start == across.start
        found = sums(fused, rows, columns, _scratch_of(local, fused), upper)
        for gram, block in zip(grams, found, strict=True):
            place(plan, gram, down, across, block.T if turned else block)

    run(plan, compute, "kernel")
    if own1 is None or own2 is None:
        # Nobody asks for them.
        var1, var2 = np.ones(plan.rows, fused.dtype), np.ones(plan.columns, fused.dtype)
    else:
        var1, var2 = own1.nngp, own2.nngp
        if plan.symmetric:
            np.fill_diagonal(grams[0], own1.nngp)
            np.fill_diagonal(grams[1], own1.ntk)
    return _with_head(fused, grams, var1[:, None], var2[None, :], same=False)


def diagonal(fused: FusedImages, x: np.ndarray, plan: Plan) -> Grams:
    """Both kernels of every image with itself, shape (n,)."""
    own = own_sums(fused, x, plan.threads)
    return _with_head(fused, (own.nngp, own.ntk), own.nngp, own.nngp, same=True)


def _with_head(
    fused: FusedImages, grams: Sequence[np.ndarray], var1: np.ndarray, var2: np.ndarray, *, same: bool
) -> Grams:
    """The layers on vectors, by their own `propagate`.

    Raises:
        KernelOverflowError: when a value exceeds the dtype.
    """
    with precision(fused.dtype):
        tangent = grams[1] if fused.ntk else None
        head, width = fused.schedule.head, fused.schedule.width
        values = _head(head, grams[0], tangent, var1, var2, width=width, same=same)
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
