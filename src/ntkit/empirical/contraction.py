"""How derivatives of two sets of examples become a kernel: traced, for each output, or for all pairs of outputs.

Each takes rows of Jacobians, `Σ_p J_op(x) J_op'(x')`, or factors, whose products of Grams are summed over pairs of
positions: `Σ_st (A_s · A'_t) (G_os · G'_o't)` with A what went into a layer and G the cotangents of what came out.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ntkit.empirical.factors import Factors


class Contraction(ABC):
    """A kind of kernel; while it is summed its axes lie as its products leave them.

    Attributes:
        axes: how a finished block for (x, x') becomes one for (x', x).
        mirror: the same for a block that is being summed.
        columns: the axis of x' of a block that is being summed.
        order: the axes of a block that is being summed, as they lie in a finished one.
    """

    axes: tuple[int, ...]
    mirror: tuple[int, ...]
    columns: int
    order: tuple[int, ...]

    @abstractmethod
    def rows(self, left: jax.Array, right: jax.Array) -> jax.Array:
        """From rows (n, k, P) and (m, k, P)."""

    @abstractmethod
    def factors(self, left: Factors, right: Factors) -> jax.Array:
        """From factors with a leading axis of n and of m examples."""

    @abstractmethod
    def deferred(
        self, left: Factors, right: Factors | None, starts: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        """From factors whose gradients are formed a part at a time, while they are in cache, and forgotten.

        For each of `starts` the block of the examples of `left` from there to the next start with those of `right`;
        with `right=None` with those of `left` from there on.
        """

    @abstractmethod
    def pairs_of_outputs(self, outputs: int) -> int:
        """How many pairs of outputs are visited for a pair of examples."""

    @abstractmethod
    def entries(self, outputs: int) -> int:
        """How many numbers result for a pair of examples."""


@dataclass(frozen=True)
class Traced(Contraction):
    """The trace over outputs divided by their number, (n, m)."""

    axes = mirror = (1, 0)
    columns = 1
    order = (0, 1)

    def rows(self, left, right):
        flat_left, flat_right = left.reshape(left.shape[0], -1), right.reshape(right.shape[0], -1)
        return jnp.matmul(flat_left, flat_right.T) / left.shape[1]

    def factors(self, left, right):
        outputs = left.came_out.shape[1]
        if _alone(left):
            came_out = [side.came_out.reshape(side.came_out.shape[0], -1) for side in (left, right)]
            return _single_inputs(left, right) * jnp.matmul(came_out[0], came_out[1].T) / outputs
        together = jnp.einsum("nobsj,mobtj->bnsmt", left.came_out, right.came_out)
        return jnp.einsum("bnsmt,bnsmt->nm", _inputs(left, right), together) / outputs

    def deferred(self, left, right, starts):
        outputs = left.came_out.shape[1]

        def add(output: Any, total: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            return _with_output(left, right, starts, output, total)

        summed = lax.fori_loop(0, outputs, add, _zeros(left, right, starts))
        return tuple(total / outputs for total in summed)

    def pairs_of_outputs(self, outputs):
        return outputs

    def entries(self, outputs):
        return 1


@dataclass(frozen=True)
class PerOutput(Contraction):
    """Each output with itself, (n, m, k)."""

    axes = mirror = (1, 0, 2)
    columns = 1
    order = (0, 1, 2)

    def rows(self, left, right):
        return jnp.einsum("nop,mop->nmo", left, right)

    def factors(self, left, right):
        if _alone(left):
            together = jnp.einsum("noj,moj->nmo", left.came_out[:, :, 0, 0], right.came_out[:, :, 0, 0])
            return _single_inputs(left, right)[:, :, None] * together
        together = jnp.einsum("nobsj,mobtj->obnsmt", left.came_out, right.came_out)
        return jnp.einsum("bnsmt,obnsmt->nmo", _inputs(left, right), together)

    def deferred(self, left, right, starts):
        def of_output(output: jax.Array) -> tuple[jax.Array, ...]:
            return _with_output(left, right, starts, output, _zeros(left, right, starts))

        stacked = lax.map(of_output, jnp.arange(left.came_out.shape[1]))
        return tuple(jnp.moveaxis(strip, 0, 2) for strip in stacked)

    def pairs_of_outputs(self, outputs):
        return outputs

    def entries(self, outputs):
        return outputs


@dataclass(frozen=True)
class Full(Contraction):
    """All pairs of outputs, (n, m, k, k)."""

    axes = (1, 0, 3, 2)
    mirror = (2, 3, 0, 1)
    columns = 2
    order = (0, 2, 1, 3)

    def rows(self, left, right):
        return jnp.einsum("nop,mqp->nomq", left, right)

    def factors(self, left, right):
        if _alone(left):
            together = jnp.einsum("noj,mqj->nomq", left.came_out[:, :, 0, 0], right.came_out[:, :, 0, 0])
            return _single_inputs(left, right)[:, None, :, None] * together
        together = jnp.einsum("nobsj,mqbtj->bnsmtoq", left.came_out, right.came_out)
        return jnp.einsum("bnsmt,bnsmtoq->nomq", _inputs(left, right), together)

    def deferred(self, left, right, starts):
        outputs = left.came_out.shape[1]
        parts = _parts(left, right, outputs)
        sides = [(side, jnp.moveaxis(side.came_out, 1, 0)) for side in (left, right) if side is not None]

        def add(part: Any, total: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            rows = [_gradients(side, cotangents, part, parts) for side, cotangents in sides]
            blocks = _strips(rows[0], rows[1] if len(rows) > 1 else None, starts, axis=1)
            return tuple(
                old + jnp.einsum("onp,qmp->onqm", a, b) for old, (a, b) in zip(total, blocks, strict=True)
            )

        zeros = _zeros(left, right, starts)
        blocks = tuple(
            jnp.zeros((outputs, zero.shape[0], outputs, zero.shape[1]), zero.dtype) for zero in zeros
        )
        return tuple(total.transpose(1, 0, 3, 2) for total in lax.fori_loop(0, parts, add, blocks))

    def pairs_of_outputs(self, outputs):
        return outputs * outputs

    def entries(self, outputs):
        return outputs * outputs


PART_BYTES = 2**24
"""Memory of the parts of gradients that are formed at a time: they should not leave the cache."""


def _parts(left: Factors, right: Factors | None, outputs: int) -> int:
    """Into how many parts of equal size the inputs of a layer are cut."""
    _, batches, _, inputs = left.went_in.shape
    examples = max(side.went_in.shape[0] for side in (left, right) if side is not None)
    row = examples * outputs * batches * left.came_out.shape[-1] * left.came_out.dtype.itemsize
    fitting = [
        count for count in range(1, inputs + 1) if inputs % count == 0 and row * inputs // count <= PART_BYTES
    ]
    return fitting[0] if fitting else inputs


def _part_of_inputs(factors: Factors, part: Any, parts: int) -> jax.Array:
    size = factors.went_in.shape[-1] // parts
    return lax.dynamic_slice_in_dim(factors.went_in, part * size, size, axis=3)


def _with_output(
    left: Factors, right: Factors | None, starts: tuple[int, ...], output: Any, total: tuple[jax.Array, ...]
) -> tuple[jax.Array, ...]:
    """`total` and the products of the gradients of one output, part by part."""
    parts = _parts(left, right, 1)
    sides = [side for side in (left, right) if side is not None]
    cotangents = [lax.dynamic_index_in_dim(side.came_out, output, axis=1, keepdims=False) for side in sides]

    def add(part: Any, summed: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        rows = []
        for side, came_out in zip(sides, cotangents, strict=True):
            formed = jnp.einsum("nbsi,nbsj->nbij", _part_of_inputs(side, part, parts), came_out)
            rows.append(formed.reshape(formed.shape[0], -1))
        blocks = _strips(rows[0], rows[1] if len(rows) > 1 else None, starts)
        return tuple(old + jnp.matmul(a, b.T) for old, (a, b) in zip(summed, blocks, strict=True))

    return lax.fori_loop(0, parts, add, total)


def _gradients(factors: Factors, cotangents: jax.Array, part: Any, parts: int) -> jax.Array:
    """A part of the gradients of all outputs for every example, (k, n, size of the part); output by output."""
    went_in = _part_of_inputs(factors, part, parts)

    def of_output(came_out: jax.Array) -> jax.Array:
        return jnp.einsum("nbsi,nbsj->nbij", went_in, came_out).reshape(came_out.shape[0], -1)

    return lax.map(of_output, cotangents)


def _strips(
    mine: jax.Array, theirs: jax.Array | None, starts: tuple[int, ...], axis: int = 0
) -> list[tuple[jax.Array, jax.Array]]:
    """What is multiplied with what, for every strip of examples, which lie along `axis`."""
    examples = mine.shape[axis]
    ends = (*starts[1:], examples)
    return [
        (
            lax.slice_in_dim(mine, start, end, axis=axis),
            lax.slice_in_dim(mine, start, examples, axis=axis) if theirs is None else theirs,
        )
        for start, end in zip(starts, ends, strict=True)
    ]


def _zeros(left: Factors, right: Factors | None, starts: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """A sum's beginning for every strip, (rows, columns)."""
    examples = left.came_out.shape[0]
    ends = (*starts[1:], examples)
    return tuple(
        jnp.zeros(
            (end - start, examples - start if right is None else right.came_out.shape[0]),
            left.came_out.dtype,
        )
        for start, end in zip(starts, ends, strict=True)
    )


def _alone(factors: Factors) -> bool:
    """Whether each example has one position only, so that nothing is summed over pairs of them."""
    return factors.went_in.ndim == 4 and factors.went_in.shape[1] * factors.went_in.shape[2] == 1


def _single_inputs(left: Factors, right: Factors) -> jax.Array:
    together = jnp.matmul(left.went_in[:, 0, 0], right.went_in[:, 0, 0].T)
    # The factor of a bias is the same for every example.
    return together if left.shift is None else together + jnp.square(left.shift[0])


def _inputs(left: Factors, right: Factors) -> jax.Array:
    """`A_s · A'_t`, (batches, n, positions, m, positions); of a table's rows: whether they are the same."""
    if left.went_in.ndim == 2:
        same = left.went_in[:, :, None, None] == right.went_in[None, None, :, :]
        return same.astype(left.came_out.dtype)[None]
    return jnp.einsum("nbsi,mbti->bnsmt", left.went_in, right.went_in)
