"""What a functional asks of a function in a reproducing kernel Hilbert space: values and its norm."""

from abc import ABC, abstractmethod
from typing import Any

import jax

from ntkit.kernels.base import Kernel
from ntkit.numerics.trees import Value


class Element(ABC):
    """A function `f` in the space `H_K` of a kernel, with k outputs that share the kernel."""

    kernel: Kernel

    @property
    @abstractmethod
    def outputs(self) -> int:
        """The number of outputs, k."""

    @abstractmethod
    def evaluate(self, x: Any) -> Any:
        """`f(x)`, shape (m, k), at points of shape (m, d)."""

    @abstractmethod
    def squared_norm(self) -> Any:
        """`‖f‖² = ⟨f, f⟩` in the space, summed over the outputs."""


def same_kernel(first: Kernel, second: Kernel) -> bool:
    """Whether two kernels are one value: the same structure and the same numbers."""
    if first is second:
        return True
    if type(first).__eq__ is Value.__eq__ and jax.tree_util.all_leaves([first]):
        # A kernel that is no pytree and compares by no rule of its own is the same as itself only.
        return False
    return bool(first == second)


def check_same_space(who: str, first: Element, second: Element) -> None:
    """Raise unless two functions lie in one space: one kernel, equally many outputs.

    Raises:
        ValueError: naming the difference.
    """
    if not same_kernel(first.kernel, second.kernel):
        raise ValueError(
            f"{who} needs functions of one kernel, got {first.kernel!r} and {second.kernel!r}. Build both with the "
            "same kernel; functions of different spaces have neither a sum nor an inner product here."
        )
    if first.outputs != second.outputs:
        raise ValueError(
            f"{who} needs functions with equally many outputs, got {first.outputs} and {second.outputs}."
        )
