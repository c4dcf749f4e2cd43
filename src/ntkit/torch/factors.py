"""The gradients of one parameter for a tile of examples, whole or as a sum of outer products, and their contractions.

A contraction adds into a matrix: "traced" (n, m), "outputs" (k, n, m), "full" (n k, m k), not divided by k.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Form = Literal["traced", "outputs", "full"]

SLAB = 1 << 23
"""Numbers in one temporary of a contraction: 32 MiB in float32, small enough to stay near the processor."""


class Factor(ABC):
    """The gradients of one parameter for n examples and k outputs."""

    @abstractmethod
    def add(self, form: Form, out: torch.Tensor, other: "Factor") -> None:
        """Add the contraction with the gradients at other examples into `out`."""

    @abstractmethod
    def squares(self) -> torch.Tensor:
        """`Σ_o Σ_p J_op²` for each example, shape (n,)."""


@dataclass(frozen=True)
class Rows(Factor):
    """Whole gradients, shape (n, k, p)."""

    values: torch.Tensor

    def add(self, form: Form, out: torch.Tensor, other: "Rows") -> None:
        left, right = self.values, other.values
        if form == "traced":
            out.addmm_(left.flatten(1), right.flatten(1).mT)
        elif form == "outputs":
            out.baddbmm_(left.transpose(0, 1), right.permute(1, 2, 0))
        else:
            out.addmm_(left.flatten(0, 1), right.flatten(0, 1).mT)

    def squares(self) -> torch.Tensor:
        return self.values.square().sum((1, 2))


@dataclass(frozen=True)
class Outer(Factor):
    """Gradients `Σ_s G_so ⊗ A_s`: inputs (n, s, a) and cotangents (n, s, k, b), contracted pair by pair or as gradients.

    Attributes:
        inputs: A; integers (n, s) stand for rows of the identity (-1 for a row of zeros).
        cotangents: G.
        pairs: whether to contract as `(A A') * (G G')` rather than by forming gradients.
    """

    inputs: torch.Tensor
    cotangents: torch.Tensor
    pairs: bool

    def add(self, form: Form, out: torch.Tensor, other: "Outer") -> None:
        if self.pairs:
            self._add_pairs(form, out, other)
            return
        left, right = _aligned(self.inputs, other.inputs, self.cotangents.dtype)
        n, s, k, b = self.cotangents.shape
        step = max(1, SLAB // (max(n, len(right)) * k * left.shape[2]))
        same = other is self
        for start in range(0, b, step):
            part = slice(start, start + step)
            rows = Rows(_gradients(left, self.cotangents[..., part]))
            rows.add(form, out, rows if same else Rows(_gradients(right, other.cotangents[..., part])))

    def _add_pairs(self, form: Form, out: torch.Tensor, other: "Outer") -> None:
        n, s, k, b = self.cotangents.shape
        m, t = other.cotangents.shape[:2]
        entries = m * s * t * (k * k if form == "full" else k if form == "outputs" else 1)
        step = max(1, SLAB // entries)
        for start in range(0, n, step):
            part = slice(start, start + step)
            inner = _gram(self.inputs[part], other.inputs, self.cotangents.dtype)
            left = self.cotangents[part]
            if form == "traced":
                gram = left.reshape(-1, k * b) @ other.cotangents.reshape(-1, k * b).mT
                out[part] += gram.mul_(inner).reshape(-1, s, m, t).sum((1, 3))
            elif form == "outputs":
                gram = left.permute(2, 0, 1, 3).reshape(k, -1, b) @ other.cotangents.permute(
                    2, 3, 0, 1
                ).reshape(k, b, -1)
                out[:, part] += gram.mul_(inner[None]).reshape(k, -1, s, m, t).sum((2, 4))
            else:
                gram = left.reshape(-1, b) @ other.cotangents.reshape(-1, b).mT
                gram = gram.reshape(-1, s, k, m, t, k).mul_(inner.reshape(-1, s, 1, m, t, 1)).sum((1, 4))
                out[start * k : (start + step) * k] += gram.reshape(-1, m * k)

    def squares(self) -> torch.Tensor:
        n, s, k, b = self.cotangents.shape
        tokens = not self.inputs.is_floating_point()
        if tokens or s * (self.inputs.shape[2] + k * b) < k * b * self.inputs.shape[2]:
            parts = []
            step = max(1, SLAB // (s * s))
            for start in range(0, n, step):
                a, g = self.inputs[start : start + step], self.cotangents[start : start + step].flatten(2)
                inner = (
                    ((a[:, :, None] == a[:, None]) & (a[:, :, None] >= 0)).to(g.dtype) if tokens else a @ a.mT
                )
                parts.append(((g @ g.mT) * inner).sum((1, 2)))
            return torch.cat(parts)
        step = max(1, SLAB // (n * k * self.inputs.shape[2]))
        slices = (self.cotangents[..., start : start + step] for start in range(0, b, step))
        return torch.stack([_gradients(self.inputs, part).square().sum((1, 2)) for part in slices]).sum(0)


def _gram(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """All inner products of inputs, shape (n s, m t)."""
    if left.is_floating_point():
        return left.flatten(0, 1) @ right.flatten(0, 1).mT
    left = left.reshape(-1, 1)
    return ((left == right.reshape(1, -1)) & (left >= 0)).to(dtype)


def _aligned(
    left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs as vectors: tokens become rows of an identity over the tokens that occur on the left."""
    if left.is_floating_point():
        return left, right
    occurring = torch.unique(left)
    occurring = occurring[occurring >= 0]
    return tuple((tokens[..., None] == occurring).to(dtype) for tokens in (left, right))  # type: ignore[return-value]


def _gradients(inputs: torch.Tensor, cotangents: torch.Tensor) -> torch.Tensor:
    """`Σ_s G_so ⊗ A_s`, shape (n, k, b a)."""
    n, s, k, b = cotangents.shape
    return (cotangents.flatten(2).mT @ inputs).reshape(n, k, -1)


def gradients(inputs: torch.Tensor, cotangents: torch.Tensor, groups: int, transposed: bool) -> torch.Tensor:
    """Whole gradients of a weight in the order of its own entries, shape (n, k, p).

    Args:
        inputs: (n, s, groups a).
        cotangents: (n, s, k, groups b).
        groups: how many groups of channels are multiplied apart.
        transposed: whether the weight is stored as (a, b).
    """
    n, s, k, _ = cotangents.shape
    left = cotangents.unflatten(3, (groups, -1)).permute(0, 3, 2, 4, 1)  # n g k b s
    right = inputs.unflatten(2, (groups, -1)).transpose(1, 2)  # n g s a
    result = (left.flatten(2, 3) @ right).unflatten(2, (k, -1)).transpose(1, 2)  # n k g b a
    return (result.mT if transposed else result).flatten(2)


def joined(parts: Sequence[Factor]) -> Factor:
    """The factor of several blocks of examples together."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Rows):
        return Rows(torch.cat([part.values for part in parts]))  # type: ignore[attr-defined]
    inputs = torch.cat([part.inputs for part in parts])  # type: ignore[attr-defined]
    return Outer(inputs, torch.cat([part.cotangents for part in parts]), first.pairs)  # type: ignore
