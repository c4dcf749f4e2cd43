"""Convolutional networks on pairs of images: what each image contributes, and the averages over planes."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import numpy as np

from ntkit.engines.fused.engine import EMPTY, _sides
from ntkit.engines.fused.generate import TERMS, loop_source, sides_of
from ntkit.engines.fused.modules import load
from ntkit.engines.fused.planes import WINDOW_SIDES, plane_source, shifts
from ntkit.engines.fused.program import Program, trace
from ntkit.nn.base import Layer
from ntkit.numerics.dtypes import precision


@dataclass(frozen=True)
class Window:
    """An average over a window of stride 1 with zero padding that keeps the image's size."""

    shape: tuple[int, int]


Step = Window | tuple[Layer, ...]


@dataclass(frozen=True, eq=False)
class FusedImages:
    """A convolutional network made ready."""

    module: ModuleType
    steps: tuple[Step, ...]
    programs: tuple[Program | None, ...]
    kinds: np.ndarray
    windows: tuple
    widths: tuple[int, ...]
    dtype: np.dtype


def fuse_images(steps: Sequence[Step], widths: Sequence[int], image: tuple[int, int], dtype: Any, ntk: bool) -> FusedImages:
    """Compile, or find compiled. `widths` are the fan-ins that blocks of layers see."""
    dtype = np.dtype(dtype)
    programs: list[Program | None] = []
    windows: list = []
    sources: list[str] = []
    kinds = []
    for step in steps:
        if isinstance(step, Window):
            taps = (shifts(step.shape[0]), shifts(step.shape[1]))
            if taps not in windows:
                windows.append(taps)
            kinds.append(windows.index(taps))
            programs.append(None)
            continue
        leaves, structure = jax.tree_util.tree_flatten(step)
        program = trace(structure, tuple(np.shape(leaf) for leaf in leaves), dtype, ntk)
        source = loop_source(program, plane=True)
        if source not in sources:
            sources.append(source)
        kinds.append(sources.index(source))
        programs.append(program)
    reach = max((max(map(abs, down)) for down, _ in windows), default=0) * image[1]
    reach = max(reach, max((max(map(abs, across)) for _, across in windows), default=0))
    margin = reach + -reach % 16
    real = [program for program in programs if program is not None]
    work = max(program.work for program in real)
    vectors = any(sides_of(program).row_vectors for program in real)
    module = load(plane_source(tuple(sources), tuple(windows), work, margin, vectors, dtype))
    return FusedImages(module, tuple(steps), tuple(programs), np.array(kinds), tuple(windows), tuple(widths), dtype)


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
    steps = len(fused.steps)
    constants: list[np.ndarray] = []
    values: list[list[np.ndarray]] = [[] for _ in names]
    vectors: list[list[list[np.ndarray]]] = [[] for _ in names]
    for step, program, fan_in in zip(fused.steps, fused.programs, fused.widths, strict=True):
        if isinstance(step, Window):
            after = window_average(var, step.shape)
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
        table = np.zeros((count, steps, max(WINDOW_SIDES, *(part.shape[1] for part in numbers)), size), fused.dtype)
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


def window_average(planes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The mean over a window of taps, zero outside; shape (n, height, width)."""
    result = planes
    for axis, size in zip((1, 2), shape, strict=True):
        taps = shifts(size)
        width = [(0, 0)] * 3
        width[axis] = (-taps[0], taps[-1])
        padded = np.pad(result, width)
        length = planes.shape[axis]
        result = sum(np.take(padded, range(k, k + length), axis=axis) for k in range(size)) / size
    return result


def evaluate_images(fused: FusedImages, x1: np.ndarray, x2: np.ndarray, rows: PlaneTables, columns: PlaneTables, all_offsets: bool = True):
    """Both kernels between blocks of images, (n1, n2)."""
    n1, height, width, channels = x1.shape
    steps = np.array([0 if isinstance(step, Window) else 1 for step in fused.steps])
    down, across = (
        np.array([(*taps, *(0,) * (most - len(taps))) for taps in (pair[axis] for pair in fused.windows)])
        for axis, most in ((axis, max(len(pair[axis]) for pair in fused.windows)) for axis in (0, 1))
    )
    left, right = (
        np.ascontiguousarray(np.moveaxis(x.reshape(len(x), height * width, channels), 1, 2)) / fused.dtype.type(channels**0.5)
        for x in (x1, x2)
    )
    nngp, ntk = (np.empty((n1, len(x2)), fused.dtype) for _ in range(2))
    fused.module.pairs(
        steps, fused.kinds, down, across, rows.constants, rows.values, columns.values, rows.vectors, columns.vectors,
        left, right, height, width, all_offsets, nngp, ntk,
    )  # fmt: skip
    return nngp, ntk
