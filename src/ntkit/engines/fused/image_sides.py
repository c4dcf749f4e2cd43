"""What each image contributes to a convolutional network's pairs: every pixel goes through the network by itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.engines.fused.engine import sides_by_point
from ntkit.engines.fused.image_program import FusedImages, degree_of, extent
from ntkit.engines.fused.planes import AFFINE
from ntkit.engines.fused.program import Program
from ntkit.engines.fused.schedule import Add, Block, Copy, Enter
from ntkit.errors import KernelOverflowError
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


@np.errstate(over="ignore", invalid="ignore")
def contribute(
    fused: FusedImages, number: int, x: np.ndarray, own: Sequence[np.ndarray], numbers: Numbers
) -> None:
    """Enter what the images contribute to the steps of one level.

    What overflows is infinite in the kernel, which is refused by name of the point: no warning before that.
    """
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
