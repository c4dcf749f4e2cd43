"""Convolutional networks on pairs of images: tiles, threads and the sums over planes of pixel pairs."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.engines.fused.image_program import FusedImages, buffer_starts
from ntkit.engines.fused.image_sides import NAMES, OVERFLOW, Numbers, contribute, contributions, no_numbers
from ntkit.engines.fused.schedule import Block, Level, Pool, Total, pool_shares
from ntkit.engines.plan import Plan, place, run
from ntkit.engines.reference import Grams, Prepared
from ntkit.errors import KernelOverflowError
from ntkit.nn.base import Layer
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import precision


@dataclass(frozen=True)
class Room:
    """How large the work space of a thread is.

    Attributes:
        pitch: entries from one row of a plane to the next.
        origin: the entry of a plane's first pixel.
        plane: entries of a plane.
        shapes: of the arrays, as the compiled functions call them.
    """

    pitch: int
    origin: int
    plane: int
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, fused: FusedImages) -> "Room":
        """What a network needs."""
        schedule, lanes = fused.schedule, fused.lanes
        vector = 64 // fused.dtype.itemsize
        steps = [step for level in schedule.levels for step in level.steps]
        blocks = [step for step in steps if isinstance(step, Block)]
        reach = max([step.window.reach for step in blocks], default=0)
        high, wide = (max(step.place.size[axis] for step in steps) for axis in (0, 1))
        # Beyond the last column so much that a row may be filled up to whole vectors.
        pitch = (wide + 2 * reach) * lanes + vector
        plane = (high + 2 * reach) * pitch + 2 * vector
        slots = 1 + max(max(step.slot, getattr(step, "target", 0)) for step in steps)
        tall = max([step.window.shape[0] for step in blocks], default=1)
        capacity = wide * lanes + 2 * vector
        rows = max((program.work for level in fused.programs for program in level if program), default=0)
        shapes = {
            "slots": (slots * 3 * plane + vector,),
            # Every block divides it by its own window's rows.
            "kept": (3 * tall * capacity,),
            "work": (max(1, rows), capacity),
            "line": (capacity,),
            "pooled": (buffer_starts(schedule, lanes)[-1],),
        }
        return cls(pitch, reach * (pitch + lanes), plane, shapes)


class Scratch:
    """Work space of one thread, and the tables that its compiled functions read."""

    def __init__(self, fused: FusedImages) -> None:
        room = Room.of(fused)
        self.pitch, self.origin, self.plane = room.pitch, room.origin, room.plane
        arrays = {name: np.zeros(shape, fused.dtype) for name, shape in room.shapes.items()}
        self.slots, self.kept, self.work = arrays["slots"], arrays["kept"], arrays["work"]
        self.line, self.pooled = arrays["line"], arrays["pooled"]
        self.totals = np.zeros((2, fused.lanes))
        self.targets, self.shares = pool_tables(fused)


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
    downs, acrosses = ([np.array(level.offsets[axis]) for level in levels] for axis in (0, 1))
    fused.module.pairs(
        np.concatenate(fused.steps), _ends_of(fused.steps), np.concatenate(downs), _ends_of(downs),
        np.concatenate(acrosses), _ends_of(acrosses), np.array([level.circular for level in levels]), rows.constants,
        left, right, upper, _share(levels[-1]), scratch.plane, scratch.pitch, scratch.origin, scratch.slots,
        scratch.kept, scratch.work, scratch.line, scratch.shares, scratch.targets, scratch.pooled, nngp, ntk,
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
                scratch.work, scratch.line, scratch.shares, scratch.targets, scratch.pooled, scratch.totals,
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
    numbers = sum(fused.lengths) * (plan.tile + fused.lanes)
    scratch = sum(prod(shape) for shape in Room.of(fused).shapes.values())
    return plan.threads * (numbers + scratch) * fused.dtype.itemsize


def fill(fused: FusedImages, prepared: Prepared, plan: Plan) -> Grams:
    """Both kernels, tile by tile on the plan's threads."""
    x1, x2 = (images_of(fused, points.x) for points in (prepared.points1, prepared.points2))
    bends = any(layer.needs_variances for layer in fused.schedule.head)
    own1 = own2 = None
    if fused.schedule.buffers or bends:
        own1 = own_sums(fused, x1, plan.threads)
        own2 = own1 if plan.symmetric else own_sums(fused, x2, plan.threads)
    grams = [np.empty((plan.rows, plan.columns), fused.dtype) for _ in range(2)]
    local = threading.local()

    # Kernels are symmetric functions: the larger set fills the lanes better.
    turned = plan.rows < plan.columns

    first, second = reversed(NAMES) if turned else NAMES

    def compute(down: slice, across: slice) -> None:
        if getattr(local, "down", None) != down:
            # A thread's tiles are often of one row of tiles.
            local.down, local.rows = down, _contributed(fused, x1, own1, down, first)
        rows, columns = local.rows, _contributed(fused, x2, own2, across, second)
        if turned:
            rows, columns = columns, rows
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


def _contributed(fused: FusedImages, x: np.ndarray, own: Own | None, part: slice, name: str) -> Numbers:
    """What some of the images contribute as the first ("var1") or second ("var2") of a pair."""
    return contributions(fused, x[part], [] if own is None else [b[part] for b in own.buffers], (name,))


def images_of(fused: FusedImages, x: np.ndarray) -> np.ndarray:
    """The images that enter planes: those of the user, pooled where a network begins with that.

    Sequences become images of one row.
    """
    with precision(fused.dtype):
        for pooling in fused.schedule.pooled_first:
            x = np.asarray(pooling.apply((), jnp.asarray(x)))
    return x[:, None] if x.ndim == 3 else x


def diagonal(fused: FusedImages, x: np.ndarray, threads: int) -> Grams:
    """Both kernels of every image with itself, shape (n,)."""
    own = own_sums(fused, images_of(fused, x), threads)
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
