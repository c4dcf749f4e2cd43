"""A tangent kernel's blocks over outputs as matrices: with the outputs coupled, or each for itself."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.numerics.host import on_host
from ntkit.numerics.points import number_of_points, points_of

DIAGONAL_POINTS = 8
"""Points whose own blocks are cut from one small kernel: the derivatives are used, most of the products are waste."""


class FullKernel(Protocol):
    """A kernel that knows its blocks over outputs."""

    def full(self, x1: Any, x2: Any = None) -> Any:
        """`Θ_ab(x1_i, x2_j)`, shape (n, m, k, k)."""


@dataclass(frozen=True, eq=False)
class OutputBlocks(ABC):
    """A tangent kernel of k outputs in float64 on the host; its matrices have `width` rows per point.

    Args:
        kernel: a `Kernel`; coupled outputs ask for its `full` too.
        outputs: k.
    """

    kernel: Kernel
    outputs: int

    @property
    @abstractmethod
    def width(self) -> int:
        """Rows per point: k, or 1 when all outputs share one matrix."""

    @abstractmethod
    def gram(self, x: Any) -> Float[np.ndarray, "p p"]:
        """The kernel of the points with themselves, points slowest, in its own dtype, which says how exact it is."""

    @abstractmethod
    def cross(self, x1: Any, x2: Any) -> Float[np.ndarray, "q p"]:
        """The kernel between two sets of points."""

    @abstractmethod
    def diagonal(self, x: Any) -> Float[np.ndarray, "m k k"]:
        """The block of each point with itself."""

    @abstractmethod
    def between(self, x: Any) -> Float[np.ndarray, "m m k k"]:
        """All blocks."""

    def averaged(self, x: Any) -> Float[np.ndarray, "m m"]:
        """The average over outputs."""
        return on_host(self.kernel(x))

    def averaged_diagonal(self, x: Any) -> Float[np.ndarray, " m"]:
        """The average over outputs, of each point with itself."""
        return on_host(self.kernel.diag(x))


@dataclass(frozen=True, eq=False)
class Coupled(OutputBlocks):
    """Every output's covariance with every other, `J(x) J(x')^T`."""

    def __post_init__(self) -> None:
        if not callable(getattr(self.kernel, "full", None)):
            raise ValueError(
                "LinearizedLaplace needs a kernel with full(x1, x2), the blocks over outputs, for coupled outputs, got "
                f'{self.kernel!r}. Use outputs="independent".'
            )

    @property
    def width(self) -> int:
        return self.outputs

    def gram(self, x: Any) -> Float[np.ndarray, "p p"]:
        return _as_matrix(self._full(x))

    def cross(self, x1: Any, x2: Any) -> Float[np.ndarray, "q p"]:
        return on_host(_as_matrix(self._full(x1, x2)))

    def diagonal(self, x: Any) -> Float[np.ndarray, "m k k"]:
        count = number_of_points(x)
        parts = []
        for start in range(0, count, DIAGONAL_POINTS):
            full = on_host(self._full(points_of(x, slice(start, start + DIAGONAL_POINTS))))
            parts.append(np.einsum("iiab->iab", full))
        return np.concatenate(parts)

    def between(self, x: Any) -> Float[np.ndarray, "m m k k"]:
        return on_host(self._full(x))

    def _full(self, x1: Any, x2: Any = None) -> Float[np.ndarray, "n m k k"]:
        full = np.asarray(cast(FullKernel, self.kernel).full(x1, x2))
        if full.ndim != 4 or full.shape[2:] != (self.outputs, self.outputs):
            raise ValueError(
                f"LinearizedLaplace needs a kernel with as many outputs as the model, got kernel.full of shape "
                f"{full.shape} and a model of {self.outputs} outputs."
            )
        return full


@dataclass(frozen=True, eq=False)
class Independent(OutputBlocks):
    """One kernel for every output, the average of `J(x) J(x')^T` over its diagonal; no covariance between outputs."""

    @property
    def width(self) -> int:
        return 1

    def gram(self, x: Any) -> Float[np.ndarray, "p p"]:
        return np.asarray(self.kernel(x))

    def cross(self, x1: Any, x2: Any) -> Float[np.ndarray, "q p"]:
        return on_host(self.kernel(x1, x2))

    def diagonal(self, x: Any) -> Float[np.ndarray, "m k k"]:
        return self.averaged_diagonal(x)[:, None, None] * np.eye(self.outputs)

    def between(self, x: Any) -> Float[np.ndarray, "m m k k"]:
        return self.averaged(x)[:, :, None, None] * np.eye(self.outputs)


def _as_matrix(full: Float[np.ndarray, "n m k k"]) -> Float[np.ndarray, "nk mk"]:
    points, others, outputs, _ = full.shape
    return full.transpose(0, 2, 1, 3).reshape(points * outputs, others * outputs)
