"""The gradients of one parameter for a tile of examples, whole or as a sum of outer products, and their contractions.

A contraction adds into a matrix: "traced" (n, m), "outputs" (k, n, m), "full" (n k, m k), not divided by k.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

Form = Literal["traced", "outputs", "full"]

SLAB = 1 << 20
"""Numbers in one temporary of a contraction: 4 MiB in float32, small enough to stay in the cache."""


NARROW = 32
"""A symmetric product is made of strips of at least so many rows; narrower ones cost more than they save."""


class Factor(ABC):
    """The gradients of one parameter for n examples and k outputs."""

    @abstractmethod
    def add(self, form: Form, out: torch.Tensor, other: Any) -> None:
        """Add the contraction with the gradients at other examples into `out` (with itself, its upper triangle)."""

    @abstractmethod
    def squares(self) -> torch.Tensor:
        """`Σ_o Σ_p J_op²` for each example, shape (n,)."""


@dataclass(frozen=True)
class Rows(Factor):
    """Whole gradients, shape (n, k, p)."""

    values: torch.Tensor

    def add(self, form: Form, out: torch.Tensor, other: Any) -> None:
        left, right = (part.values.flatten(0, 1) if form == "full" else part.values for part in (self, other))
        for rows, columns in _strips(len(left), len(right), other is self):
            if form == "outputs":
                out[:, rows, columns].baddbmm_(left[rows].transpose(0, 1), right[columns].permute(1, 2, 0))
            else:
                out[rows, columns].addmm_(left[rows].flatten(1), right[columns].flatten(1).mT)

    def squares(self) -> torch.Tensor:
        return self.values.square().sum((1, 2))


@dataclass(frozen=True)
class Outer(Factor):
    """Gradients `Σ_s G_so ⊗ A_s`: inputs (n, s, a) and cotangents (n, s, k, b), contracted by pairs or as gradients.

    Attributes:
        inputs: A; integers (n, s) stand for rows of the identity (-1 for a row of zeros).
        cotangents: G.
        pairs: whether to contract as `(A A') * (G G')` rather than by forming gradients.
    """

    inputs: torch.Tensor
    cotangents: torch.Tensor
    pairs: bool

    def add(self, form: Form, out: torch.Tensor, other: Any) -> None:
        if self.pairs:
            self._add_pairs(form, out, other)
            return
        left, right = _aligned(self.inputs, other.inputs, self.cotangents.dtype)
        n, _, k, b = self.cotangents.shape
        step = max(1, SLAB // (max(n, len(right)) * k * left.shape[2]))
        same = other is self
        for start in range(0, b, step):
            part = slice(start, start + step)
            rows = Rows(_gradients(left, self.cotangents[..., part]))
            rows.add(form, out, rows if same else Rows(_gradients(right, other.cotangents[..., part])))

    def _add_pairs(self, form: Form, out: torch.Tensor, other: "Outer") -> None:
        n, s, k, b = self.cotangents.shape
        m = len(other.cotangents)
        entries = m * s * s * (k * k if form == "full" else k if form == "outputs" else 1)
        for rows, columns in _strips(n, m, other is self, max(1, SLAB // entries)):
            left, right = self.cotangents[rows], other.cotangents[columns]
            inner = _gram(self.inputs[rows], other.inputs[columns], left.dtype)
            if form == "traced":
                gram = left.reshape(-1, k * b) @ right.reshape(-1, k * b).mT
                gram = gram.mul_(inner)
                out[rows, columns] += gram if s == 1 else gram.reshape(len(left), s, -1, s).sum((1, 3))
            elif form == "outputs":
                gram = left.permute(2, 0, 1, 3).reshape(k, -1, b) @ right.permute(2, 3, 0, 1).reshape(
                    k, b, -1
                )
                gram = gram.mul_(inner[None]).reshape(k, len(left), s, -1, s)
                out[:, rows, columns] += gram.sum((2, 4))
            else:
                gram = (left.reshape(-1, b) @ right.reshape(-1, b).mT).reshape(len(left), s, k, -1, s, k)
                gram = gram.mul_(inner.reshape(len(left), s, 1, -1, s, 1)).sum((1, 4))
                whole = slice(rows.start * k, rows.stop * k), slice(columns.start * k, columns.stop * k)
                out[whole] += gram.reshape(len(left) * k, -1)

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


def _strips(n: int, m: int, same: bool, most: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Rows and columns to multiply, at most `most` rows at a time; of a symmetric matrix the part below is left out."""
    step = min(n if most is None else most, max(NARROW, -(-n // 4)) if same else n)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n)), slice(start if same else 0, m)


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
    n, _, k, _ = cotangents.shape
    return (cotangents.flatten(2).mT @ inputs).reshape(n, k, -1)


def gradients(inputs: torch.Tensor, cotangents: torch.Tensor, groups: int, transposed: bool) -> torch.Tensor:
    """Whole gradients of a weight in the order of its own entries, shape (n, k, p).

    Args:
        inputs: (n, s, groups a).
        cotangents: (n, s, k, groups b).
        groups: how many groups of channels are multiplied apart.
        transposed: whether the weight is stored as (a, b).
    """
    k = cotangents.shape[2]
    left = cotangents.unflatten(3, (groups, -1)).permute(0, 3, 2, 4, 1)  # n g k b s
    right = inputs.unflatten(2, (groups, -1)).transpose(1, 2)  # n g s a
    result = (left.flatten(2, 3) @ right).unflatten(2, (k, -1)).transpose(1, 2)  # n k g b a
    return (result.mT if transposed else result).flatten(2)
