"""Convolutional networks made ready for the compiled engine: their module, and where everything lies in its arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import jax
import numpy as np

from ntkit.engines.fused.generate import sides_of
from ntkit.engines.fused.modules import load
from ntkit.engines.fused.planes import (
    BLOCK_SIDES,
    ENTER_SIDES,
    OPERATIONS,
    block_source,
    pieces_source,
    plane_source,
    vector_length,
)
from ntkit.engines.fused.program import Program, trace
from ntkit.engines.fused.schedule import (
    Add,
    Block,
    Copy,
    Enter,
    Pool,
    Schedule,
    Step,
    Total,
    schedule_of,
)
from ntkit.errors import FusionError
from ntkit.nn.base import Layer
from ntkit.nn.dense import Dense

SIDE_BYTES, BUFFER_BYTES = 2**23, 2**29
"""Memory that what one pair of blocks of images contributes, and what poolings add to, should not exceed by much."""

ALIGNMENT = 16
"""Entries: what images contribute begins at multiples of it."""


@dataclass(frozen=True)
class Section:
    """Where in an image's numbers those of one step begin, and how they lie there.

    Attributes:
        start: the first number.
        size: from one kind of number to the next.
        count: of kinds of numbers.
        tiles: how often the image is repeated along each axis.
    """

    start: int
    size: int
    count: int
    tiles: int


@dataclass(frozen=True, eq=False)
class FusedImages:
    """A convolutional network made ready.

    Attributes:
        module: the compiled functions.
        schedule: the network.
        programs: by level and step, of the layers in blocks; None where there are none.
        sections: by side (first and second images), level and step; with those for borders.
        borders: the same for what lies beyond borders.
        lengths: how many numbers an image contributes, by side.
        steps: by level, what the compiled functions are told of each step.
        lanes: images side by side.
        dtype: of all numbers.
        ntk: whether the tangent kernel is wanted.
    """

    module: ModuleType
    schedule: Schedule
    programs: tuple[tuple[Program | None, ...], ...]
    sections: tuple[tuple[tuple[Section, ...], ...], ...]
    borders: tuple[tuple[tuple[Section, ...], ...], ...]
    lengths: tuple[int, int]
    steps: tuple[np.ndarray, ...]
    lanes: int
    dtype: np.dtype
    ntk: bool


def fuse_images(network: Layer, image: tuple[int, ...], dtype: Any, ntk: bool) -> FusedImages:
    """Compile a convolutional network for images of shape (height, width, channels), or find it compiled.

    Raises:
        FusionError: for a network with a layer that cannot be fused; the text says which and why.
    """
    dtype = np.dtype(dtype)
    schedule = schedule_of(network, image)
    programs, kinds, sources = [], [], []
    for level in schedule.levels:
        of_level, kinds_of_level = [], []
        for number, step in enumerate(level.steps):
            program, kind = None, 0
            if isinstance(step, Block):
                bends = step.layers[1:] if isinstance(step.layers[0], Dense) else step.layers
                try:
                    program = _traced(bends, dtype, ntk) if bends else None
                    source = block_source(program, step.window, dtype, _ends(level.steps, number))
                except FusionError as reason:
                    raise FusionError(f"{step.layers[-1]!r} has {reason}") from None
                if source not in sources:
                    sources.append(source)
                kind = sources.index(source)
            of_level.append(program)
            kinds_of_level.append(kind)
        programs.append(tuple(of_level))
        kinds.append(kinds_of_level)
    laid = [_laid_out(schedule, tuple(programs), image[-1], side) for side in (0, 1)]
    sections, borders, lengths = zip(*laid, strict=True)
    lanes = 64 // dtype.itemsize
    while lanes > 16 // dtype.itemsize and (
        sum(lengths) * lanes * dtype.itemsize > SIDE_BYTES
        or buffer_starts(schedule, lanes)[-1] * dtype.itemsize > BUFFER_BYTES
    ):
        lanes //= 2
    pieces = load(pieces_source(lanes, dtype)).__name__
    module = load(plane_source(tuple(sources), lanes, dtype, pieces))
    steps = _encoded(schedule, kinds, sections, borders, lanes, image[-1])
    return FusedImages(
        module, schedule, tuple(programs), sections, borders, lengths, steps, lanes, dtype, ntk
    )


def _traced(layers: tuple[Layer, ...], dtype: np.dtype, ntk: bool) -> Program:
    leaves, structure = jax.tree_util.tree_flatten(layers)
    return trace(structure, tuple(np.shape(leaf) for leaf in leaves), dtype, ntk)


def _ends(steps: Sequence[Step], number: int) -> bool:
    """Whether what follows a block asks for covariances and tangents only."""
    return isinstance(steps[number + 1], Pool | Total)


def extent(step: Block) -> tuple[int, int, int, int]:
    """How far a block's window reaches beyond what both images share: above, below, to the left and right."""
    reaches = []
    for axis in (0, 1):
        shape, stride, before = step.window.shape[axis], step.window.strides[axis], step.window.before[axis]
        last = (step.place.size[axis] - 1) * stride - before + shape - 1
        reaches += [before, max(0, last - (step.before.size[axis] - 1))]
    above, below, left, right = reaches
    return above, below, left, right


def _laid_out(schedule: Schedule, programs: Any, channels: int, side: int) -> tuple[Any, Any, int]:
    """The sections of every step, those of borders, and the length of all."""
    start = 0
    sections, borders = [], []

    def section(count: int, size: tuple[int, int], tiles: int) -> Section:
        nonlocal start
        length = size[0] * size[1] * tiles**2
        length += -length % ALIGNMENT
        found = Section(start, length, count, tiles)
        start += count * length
        return found

    for level, of_level in zip(schedule.levels, programs, strict=True):
        tiles = 2 if level.circular and side == 1 else 1
        sections_of_level, borders_of_level = [], []
        for step, program in zip(level.steps, of_level, strict=True):
            count, border = 0, 0
            if isinstance(step, Enter):
                count = channels if step.buffer is None else ENTER_SIDES
            elif isinstance(step, Block):
                border = int(any(extent(step)) and not level.circular)
                if program is not None:
                    sides = sides_of(program)
                    names = (sides.columns, sides.column_vectors) if side else (sides.rows, sides.row_vectors)
                    vectors = sum(degree_of(program) for _ in names[1])
                    count = BLOCK_SIDES + len(names[0]) + vectors
                borders_of_level.append(section(border, step.before.size, 1))
            if not isinstance(step, Block):
                borders_of_level.append(Section(0, 0, 0, 1))
            sections_of_level.append(section(count, step.place.size, tiles))
        sections.append(tuple(sections_of_level))
        borders.append(tuple(borders_of_level))
    return tuple(sections), tuple(borders), start


def degree_of(program: Program) -> int:
    """Terms that every vector of a block is given."""
    sides = sides_of(program)
    return max(
        (vector_length(program, name) for name in (*sides.row_vectors, *sides.column_vectors)), default=0
    )


def _encoded(
    schedule: Schedule, kinds: Any, sections: Any, borders: Any, lanes: int, channels: int
) -> tuple[np.ndarray, ...]:
    """Each step as a row of whole numbers, in the order in which `level` of the compiled module takes them apart."""
    starts = buffer_starts(schedule, lanes)
    levels, constants, table = [], 0, 0
    for k, level in enumerate(schedule.levels):
        rows = []
        for m, step in enumerate(level.steps):
            row, column = sections[0][k][m], sections[1][k][m]
            border_row, border_column = borders[0][k][m], borders[1][k][m]
            operation, slot, target, number, buffer = "", step.slot, step.slot, 0, 0
            before, beyond, used_table = step.place, (0, 0, 0, 0), 0
            if isinstance(step, Enter):
                operation = "ENTER" if step.buffer is None else "ENTER_POOLED"
                number = channels
                buffer = 0 if step.buffer is None else starts[step.buffer]
            elif isinstance(step, Copy | Add):
                operation, target = ("COPY" if isinstance(step, Copy) else "ADD"), step.target
            elif isinstance(step, Pool):
                operation, buffer, before = "POOL", starts[step.buffer], replace(before, size=step.after)
                used_table = table
                table += 1
            elif isinstance(step, Total):
                operation = "TOTAL"
            else:
                operation, before, beyond, number = "BLOCK", step.before, extent(step), constants
                constants += 1
            rows.append(
                [
                    OPERATIONS.index(operation), kinds[k][m], slot, target, *step.place.size, *step.place.strides,
                    *before.size, *before.strides, row.start * lanes, row.size * lanes, column.start * lanes,
                    column.size * lanes, border_row.start * lanes, border_column.start * lanes, *beyond, buffer, number,
                    used_table,
                ]
            )  # fmt: skip
        levels.append(np.array(rows))
    return tuple(levels)


def buffer_starts(schedule: Schedule, lanes: int) -> list[int]:
    """Where each buffer begins, and last where all end: both kernels of all pairs of pixels."""
    starts = [0]
    for height, width in schedule.buffers:
        starts.append(starts[-1] + 2 * (height * width) ** 2 * lanes)
    return starts
