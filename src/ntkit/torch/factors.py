"""The gradients of one parameter for a tile of examples, whole or as a sum of outer products, and their contractions.

A contraction adds into a matrix: "traced" (n, m), "per_output" (k, n, m), "full" (k n, k m), not divided by k. Outputs
come first everywhere, as derivatives arise, so that nothing has to be permuted.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

Form = Literal["traced", "per_output", "full"]

SLAB = 1_000_000
"""Numbers in one temporary of a contraction: 4 MB in float32, small enough to stay near the processor.

No power of two, since rows of such lengths would compete for the same places of the cache.
"""

FULL = 4
"""A product of the gradients of all outputs does so much more with each number that slabs may be larger: this often."""

NARROW = 128
"""A symmetric product is made of strips of at least so many rows; narrower ones cost more than they save."""


class Memory:
    """Memory for the slabs of all parameters, taken once: fresh memory costs more than the product written to it."""

    def __init__(self) -> None:
        self._sides: dict[int, torch.Tensor] = {}

    def take(self, side: int, count: int, like: torch.Tensor) -> torch.Tensor:
        """A flat tensor of `count` numbers; what was taken before for this side is lost."""
        if side not in self._sides or len(self._sides[side]) < count:
            self._sides.pop(side, None)
            self._sides[side] = like.new_empty(count)
        return self._sides[side][:count]


class Factor(ABC):
    """The gradients of one parameter for n examples and k outputs."""

    @abstractmethod
    def add(self, form: Form, out: torch.Tensor, other: Any, memory: Memory) -> None:
        """Add the contraction with the gradients at other examples into `out` (with itself, its upper triangle)."""

    @abstractmethod
    def squares(self) -> torch.Tensor:
        """`Σ_o Σ_p J_op²` for each example, shape (n,)."""


@dataclass(frozen=True)
class Rows(Factor):
    """Whole gradients, shape (k, n, p)."""

    values: torch.Tensor

    def add(self, form: Form, out: torch.Tensor, other: Any, memory: Memory) -> None:
        left, right = self.values, other.values
        if form == "full":
            _add_product(out, left.flatten(0, 1), right.flatten(0, 1), other is self)
            return
        for o in range(len(left)):
            _add_product(out if form == "traced" else out[o], left[o], right[o], other is self)

    def squares(self) -> torch.Tensor:
        return self.values.square().sum((0, 2))


@dataclass(frozen=True)
class Outer(Factor):
    """Gradients `Σ_s G_os ⊗ A_s`: inputs (n, s, a) and cotangents (k, n, s, b), contracted by pairs or as gradients.

    Attributes:
        inputs: A; integers (n, s) stand for rows of the identity (-1 for a row of zeros).
        cotangents: G.
        pairs: whether to contract as `(A A') * (G G')` rather than by forming gradients.
    """

    inputs: torch.Tensor
    cotangents: torch.Tensor
    pairs: bool

    def add(self, form: Form, out: torch.Tensor, other: Any, memory: Memory) -> None:
        if self.pairs:
            self._add_pairs(form, out, other)
            return
        a, b = _aligned(self.inputs, other.inputs, self.cotangents.dtype)
        left, g, h = Slabs(a, self.cotangents, form, memory, 0), self.cotangents, other.cotangents
        right = left if other is self else Slabs(b, h, form, memory, 1)
        width = min(left.width, right.width)
        for outputs in (slice(o, o + left.outputs) for o in range(0, len(g), left.outputs)):
            for start in range(0, left.length, width):
                part = slice(start, start + width)
                rows = left.form(outputs, part)
                columns = rows if other is self else right.form(outputs, part)
                rows.add(form, out[outputs] if form == "per_output" else out, columns, memory)

    def _add_pairs(self, form: Form, out: torch.Tensor, other: "Outer") -> None:
        if form == "full":
            self._add_full_pairs(out, other)
            return
        k, n, s, b = self.cotangents.shape
        m = other.cotangents.shape[1]
        entries = m * s * s * (k if form == "per_output" else 1)
        for rows, columns in _strips(n, m, other is self, s, max(1, SLAB // entries)):
            left, right = self.cotangents[:, rows], other.cotangents[:, columns]
            inner = _gram(self.inputs[rows], other.inputs[columns], left.dtype)
            if form == "traced":
                left, right = (part.permute(1, 2, 0, 3).reshape(-1, k * b) for part in (left, right))
                gram = (left @ right.mT).mul_(inner)
                out[rows, columns] += gram if s == 1 else gram.reshape(len(gram) // s, s, -1, s).sum((1, 3))
            else:
                gram = (left.flatten(1, 2) @ right.flatten(1, 2).mT).mul_(inner[None])
                out[:, rows, columns] += gram.unflatten(2, (-1, s)).unflatten(1, (-1, s)).sum((2, 4))

    def _add_full_pairs(self, out: torch.Tensor, other: "Outer") -> None:
        """Each output with all, or of a symmetric kernel with those from itself on."""
        k, n, s, b = self.cotangents.shape
        m = other.cotangents.shape[1]
        place = out.view(k, n, k, m)
        step = max(1, SLAB // (m * s * s * k))
        for rows in (slice(start, start + step) for start in range(0, n, step)):
            inner = _gram(self.inputs[rows], other.inputs, self.cotangents.dtype).view(-1, s, 1, m, s)
            for o in range(k):
                first = o if other is self else 0
                left, right = self.cotangents[o, rows], other.cotangents[first:]
                gram = (
                    (left.reshape(-1, b) @ right.reshape(-1, b).mT).view(-1, s, k - first, m, s).mul_(inner)
                )
                place[o, rows, first:] += gram[:, 0, :, :, 0] if s == 1 else gram.sum((1, 4))

    def squares(self) -> torch.Tensor:
        k, n, s, b = self.cotangents.shape
        tokens = not self.inputs.is_floating_point()
        if tokens or s * (self.inputs.shape[2] + k * b) < k * b * self.inputs.shape[2]:
            parts = []
            step = max(1, SLAB // (s * s))
            for start in range(0, n, step):
                a = self.inputs[start : start + step]
                g = self.cotangents[:, start : start + step].permute(1, 2, 0, 3).flatten(2)
                inner = (
                    ((a[:, :, None] == a[:, None]) & (a[:, :, None] >= 0)).to(g.dtype) if tokens else a @ a.mT
                )
                parts.append(((g @ g.mT) * inner).sum((1, 2)))
            return torch.cat(parts)
        slabs = Slabs(self.inputs, self.cotangents, "traced", Memory(), 0)
        result = self.inputs.new_zeros(n)
        for start in range(0, slabs.length, slabs.width):
            for o in range(k):
                result += slabs.form(slice(o, o + 1), slice(start, start + slabs.width)).squares()
        return result


class Slabs:
    """Gradients formed a slab at a time, always in the same memory.

    Attributes:
        outputs: how many outputs are formed at a time.
        length: along how many inputs or channels slabs are cut, whichever are more.
        width: how many of them make a slab.
    """

    def __init__(
        self, inputs: torch.Tensor, cotangents: torch.Tensor, form: Form, memory: Memory, side: int
    ) -> None:
        k, n, _, b = cotangents.shape
        a = inputs.shape[2]
        self._inputs, self._cotangents, self._by_input = inputs, cotangents, a > b
        self.outputs = k if form == "full" else 1
        self.length, other = max(a, b), min(a, b)
        most = (FULL * SLAB if form == "full" else SLAB) // (self.outputs * n * other)
        self.width = max(1, min(self.length, most))
        self._memory = memory.take(side, self.outputs * n * other * self.width, cotangents)

    def form(self, outputs: slice, part: slice) -> Rows:
        """The gradients of some outputs with respect to a part of the weight; the former slab is lost."""
        a, g = self._inputs, self._cotangents[outputs]
        a, g = (a[..., part], g) if self._by_input else (a, g[..., part])
        shape = (len(g), len(a), g.shape[3], a.shape[2])
        slab = self._memory[: shape[0] * shape[1] * shape[2] * shape[3]].view(shape)
        for one, place in zip(g, slab, strict=True):
            torch.bmm(one.mT, a, out=place)
        return Rows(slab.flatten(2))


def _add_product(out: torch.Tensor, left: torch.Tensor, right: torch.Tensor, same: bool) -> None:
    for rows, columns in _strips(len(left), len(right), same):
        out[rows, columns].addmm_(left[rows], right[columns].mT)


def _strips(
    n: int, m: int, same: bool, each: int = 1, most: int | None = None
) -> Iterator[tuple[slice, slice]]:
    """Rows and columns to multiply, at most `most` rows at a time; of a symmetric matrix the part below is left out.

    `each` says how many rows of the matrices multiplied stand for one of these.
    """
    step = min(n if most is None else most, max(-(-NARROW // each), -(-n // 8)) if same else n)
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


def write_gradients(out: torch.Tensor, inputs: torch.Tensor, cotangents: torch.Tensor, transposed: bool):
    """Whole gradients of a weight in the order of its own entries, into `out` (k, n, p).

    Args:
        out: written to.
        inputs: (n, s, a).
        cotangents: (k, n, s, b).
        transposed: whether the weight is stored as (a, b).
    """
    for one, place in zip(cotangents, out, strict=True):
        left, right = (inputs.mT, one) if transposed else (one.mT, inputs)
        torch.bmm(left, right, out=place.view(len(inputs), left.shape[1], right.shape[2]))


def grouped_gradients(inputs: torch.Tensor, cotangents: torch.Tensor, groups: int, own: int) -> torch.Tensor:
    """The same for a convolution whose groups of `own` input channels are multiplied apart, shape (k, n, p)."""
    k = len(cotangents)
    left = cotangents.unflatten(3, (groups, -1)).permute(1, 3, 0, 4, 2)  # n g k b s
    right = inputs.unflatten(2, (-1, groups, own)).permute(0, 3, 1, 2, 4).flatten(3)  # n g s a
    return (left.flatten(2, 3) @ right).unflatten(2, (k, -1)).permute(2, 0, 1, 3, 4).flatten(2)
