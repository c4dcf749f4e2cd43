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
    """A kind of kernel.

    Attributes:
        axes: how a block for (x, x') becomes one for (x', x).
    """

    axes: tuple[int, ...]

    @abstractmethod
    def rows(self, left: jax.Array, right: jax.Array) -> jax.Array:
        """From rows (n, k, P) and (m, k, P)."""

    @abstractmethod
    def factors(self, left: Factors, right: Factors) -> jax.Array:
        """From factors with a leading axis of n and of m examples."""

    @abstractmethod
    def pairs_of_outputs(self, outputs: int) -> int:
        """How many pairs of outputs are visited for a pair of examples."""

    @abstractmethod
    def entries(self, outputs: int) -> int:
        """How many numbers result for a pair of examples."""


@dataclass(frozen=True)
class Traced(Contraction):
    """The trace over outputs divided by their number, (n, m)."""

    axes = (1, 0)

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

    def pairs_of_outputs(self, outputs):
        return outputs

    def entries(self, outputs):
        return 1


@dataclass(frozen=True)
class PerOutput(Contraction):
    """Each output with itself, (n, m, k)."""

    axes = (1, 0, 2)

    def rows(self, left, right):
        return jnp.einsum("nop,mop->nmo", left, right)

    def factors(self, left, right):
        if _alone(left):
            together = jnp.einsum("noj,moj->nmo", left.came_out[:, :, 0, 0], right.came_out[:, :, 0, 0])
            return _single_inputs(left, right)[:, :, None] * together
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

    def rows(self, left, right):
        return jnp.einsum("nop,mqp->nmoq", left, right)

    def factors(self, left, right):
        if _alone(left):
            together = jnp.einsum("noj,mqj->nmoq", left.came_out[:, :, 0, 0], right.came_out[:, :, 0, 0])
            return _single_inputs(left, right)[:, :, None, None] * together
        together = jnp.einsum("nobsj,mqbtj->bnsmtoq", left.came_out, right.came_out)
        return jnp.einsum("bnsmt,bnsmtoq->nmoq", _inputs(left, right), together)

    def pairs_of_outputs(self, outputs):
        return outputs * outputs

    def entries(self, outputs):
        return outputs * outputs


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
