"""Inputs of a module: one tensor or a dict of tensors, NumPy or PyTorch, with the examples along the first axis."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Inputs = Any
"""An array (n, ...) of NumPy or PyTorch, floating or integer, or a dict of such arrays (keyword arguments)."""


@dataclass(frozen=True)
class Batch:
    """Examples ready for a module.

    Attributes:
        values: the tensors by name; one without a name is passed by position.
        named: whether the tensors are keyword arguments.
        numpy: whether the answer is due as NumPy.
    """

    values: dict[str, torch.Tensor]
    named: bool
    numpy: bool

    def __len__(self) -> int:
        return next(iter(self.values.values())).shape[0]

    def rows(self, chosen: slice | list[int]) -> "Batch":
        """A part of the examples."""
        return Batch({name: value[chosen] for name, value in self.values.items()}, self.named, self.numpy)

    def parts(self, size: int) -> Iterator["Batch"]:
        """The examples, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))

    def converted(self, dtype: torch.dtype, device: torch.device) -> "Batch":
        """Floating tensors in `dtype`, integers as they are, all usable for derivatives."""

        def convert(value: torch.Tensor) -> torch.Tensor:
            value = value.detach()
            value = value.clone() if value.is_inference() else value
            return value.to(device, dtype) if value.is_floating_point() else value.to(device)

        return Batch({name: convert(value) for name, value in self.values.items()}, self.named, self.numpy)

    def channels_last(self) -> "Batch":
        """Images with their channels last in memory; the numbers and shapes are the same."""

        def convert(value: torch.Tensor) -> torch.Tensor:
            image = value.ndim == 4 and value.is_floating_point()
            return value.contiguous(memory_format=torch.channels_last) if image else value

        return Batch({name: convert(value) for name, value in self.values.items()}, self.named, self.numpy)

    def floating(self) -> list[torch.dtype]:
        """The dtypes of the floating tensors."""
        return [value.dtype for value in self.values.values() if value.is_floating_point()]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one example, by name."""
        return {name: tuple(value.shape[1:]) for name, value in self.values.items()}

    def answer(self, result: torch.Tensor) -> Any:
        """A result in the library of the inputs."""
        return result.cpu().numpy() if self.numpy else result


def as_batch(who: str, x: Inputs, name: str, device: torch.device) -> Batch:
    """Check inputs: arrays of one library with at least one example, finite, on the module's device.

    Raises:
        ValueError: naming `who`, the argument and the remedy.
    """
    named = isinstance(x, Mapping)
    arrays = dict(x) if named else {"": x}
    if not arrays:
        raise ValueError(f"{who} needs {name} with at least one array, got an empty dict.")
    numpy = all(isinstance(value, np.ndarray) for value in arrays.values())
    if not numpy and not all(isinstance(value, torch.Tensor) for value in arrays.values()):
        kinds = sorted({type(value).__name__ for value in arrays.values()})
        raise ValueError(
            f"{who} needs {name} as NumPy arrays or as tensors, not a mixture, got {', '.join(kinds)}. "
            "Use numpy.asarray or torch.as_tensor."
        )
    if not named and arrays[""].ndim == 0:
        raise ValueError(f"{who} needs {name} of shape (points, ...), got a single number.")
    counts = {value.shape[0] if value.ndim else None for value in arrays.values()}
    if len(counts) != 1 or None in counts or 0 in counts:
        shapes = {key or name: tuple(value.shape) for key, value in arrays.items()}
        raise ValueError(
            f"{who} needs {name} with one number of examples, at least one, along the first axis, got {shapes}."
        )
    tensors = {}
    for key, value in arrays.items():
        tensor = torch.from_numpy(np.ascontiguousarray(value)) if numpy else value
        if not numpy and tensor.device != device:
            raise ValueError(
                f"{who} needs {name} on the device of the module, {device}, got {tensor.device}. "
                f"Use {name}.to('{device}')."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{who} needs finite values in {name}. Drop or impute missing values first.")
        tensors[key] = tensor
    return Batch(tensors, named, numpy)
