"""What the kernels of finite functions have in common: their points are whatever the function takes."""

from abc import ABC
from typing import Any

from ntkit.empirical.function import as_examples
from ntkit.kernels.base import Kernel


class FunctionKernel(Kernel, ABC):
    """A kernel of a finite function: points are arrays of any shape and pytrees of arrays with one first axis.

    Integers (tokens) and booleans (masks) reach the function as they are.
    """

    def as_inputs(self, who: str, x: Any, name: str = "x") -> Any:
        """Check points for the function; they are given back as they are.

        Raises:
            ValueError: naming `who`, the argument and the remedy.
        """
        as_examples(who, x, name)
        return x
