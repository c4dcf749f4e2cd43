"""How derivatives of two sets of examples become a kernel: traced, for each output, or for all pairs of outputs.

Each takes rows of Jacobians, `Σ_p J_op(x) J_op'(x')`, or factors, whose products of Grams are summed over pairs of
positions: `Σ_st (A_s · A'_t) (G_os · G'_o't)` with A what went into a layer and G the cotangents of what came out.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ntkit.empirical.factors import Factors


class Contraction(ABC):
    """A kind of kernel; while it is summed its axes lie as its products leave them.

    Attributes:
        axes: how a finished block for (x, x') becomes one for (x', x).
        mirror: the same for a block that is being summed.
        columns: the axis of x' of a block that is being summed.
        order: the axes of a block that is being summed, as they lie in a finished one.
        sums_outputs: whether outputs are only summed over.
    """

    axes: tuple[int, ...]
    mirror: tuple[int, ...]
    columns: int
    order: tuple[int, ...]
    sums_outputs = False

    @abstractmethod
    def rows(self, left: jax.Array, right: jax.Array) -> jax.Array:
        """From rows (n, k, P) and (m, k, P)."""

    @abstractmethod
    def weigh(self, inputs: jax.Array, together: jax.Array) -> jax.Array:
        """Each pair's block of `together` times its number of `inputs`, (n, m)."""

    @abstractmethod
    def pairs(self, left: Factors, right: Factors) -> jax.Array:
        """From factors with a leading axis of n and of m examples, over all pairs of positions."""

    def gradient(self, went_in: jax.Array, came_out: jax.Array) -> jax.Array:
        """The gradient itself from one example's factors, as rows (k, P), in an order that costs no copy."""
        formed = jnp.einsum("bsi,kbsj->kbji", went_in, came_out)
        return formed.reshape(formed.shape[0], -1)

    @abstractmethod
    def pairs_of_outputs(self, outputs: int) -> int:
        """How many pairs of outputs are visited for a pair of examples."""

    @abstractmethod
    def entries(self, outputs: int) -> int:
        """How many numbers result for a pair of examples."""

    def matrix_rows(self, examples: int, outputs: int) -> int:
        """Rows of the matrix that is multiplied with its transpose for so many examples."""
        return examples * self.pairs_of_outputs(outputs) // outputs

    def finish(self, gram: jax.Array, outputs: int) -> jax.Array:
        """A block whose sum is complete."""
        return gram.transpose(self.order)


@dataclass(frozen=True)
class Traced(Contraction):
    """The trace over outputs divided by their number, (n, m)."""

    axes = mirror = (1, 0)
    columns = 1
    order = (0, 1)
    sums_outputs = True

    def rows(self, left, right):
        return jnp.matmul(left.reshape(left.shape[0], -1), right.reshape(right.shape[0], -1).T)

    def weigh(self, inputs, together):
        return inputs * together

    def gradient(self, went_in, came_out):
        # All outputs are summed over in any case: one row.
        return jnp.einsum("bsi,kbsj->bikj", went_in, came_out).reshape(1, -1)

    def pairs(self, left, right):
        together = jnp.einsum("nobsj,mobtj->bnsmt", left.came_out, right.came_out)
        return jnp.einsum("bnsmt,bnsmt->nm", _inputs(left, right), together)

    def pairs_of_outputs(self, outputs):
        return outputs

    def entries(self, outputs):
        return 1

    def finish(self, gram, outputs):
        return gram / outputs


@dataclass(frozen=True)
class PerOutput(Contraction):
    """Each output with itself, (n, m, k)."""

    axes = mirror = (1, 0, 2)
    columns = 1
    order = (0, 1, 2)

    def rows(self, left, right):
        return jnp.einsum("nop,mop->nmo", left, right)

    def weigh(self, inputs, together):
        return inputs[:, :, None] * together

    def pairs(self, left, right):
        together = jnp.einsum("nobsj,mobtj->obnsmt", left.came_out, right.came_out)
        return jnp.einsum("bnsmt,obnsmt->nmo", _inputs(left, right), together)

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

    def weigh(self, inputs, together):
        return inputs[:, None, :, None] * together

    def pairs(self, left, right):
        together = jnp.einsum("nobsj,mqbtj->bnsmtoq", left.came_out, right.came_out)
        return jnp.einsum("bnsmt,bnsmtoq->nomq", _inputs(left, right), together)

    def pairs_of_outputs(self, outputs):
        return outputs * outputs

    def entries(self, outputs):
        return outputs * outputs


def of_single_positions(factors: Factors) -> bool:
    """Whether each example meets the layer at one position only, so that nothing is summed over pairs of them."""
    return factors.went_in.ndim == 4 and factors.went_in.shape[1] * factors.went_in.shape[2] == 1


def inputs_of_single_positions(left: Factors, right: Factors) -> jax.Array:
    """`A · A'` and the factor of a bias, (n, m), of layers that meet one position in each example."""
    together = jnp.matmul(left.went_in[:, 0, 0], right.went_in[:, 0, 0].T)
    # The factor of a bias is the same for every example.
    return together if left.shift is None else together + jnp.square(left.shift[0])


def _inputs(left: Factors, right: Factors) -> jax.Array:
    """`A_s · A'_t`, (batches, n, positions, m, positions); of a table's rows: whether they are the same."""
    if left.went_in.ndim == 2:
        same = left.went_in[:, :, None, None] == right.went_in[None, None, :, :]
        return same.astype(left.came_out.dtype)[None]
    return jnp.einsum("nbsi,mbti->bnsmt", left.went_in, right.went_in)
