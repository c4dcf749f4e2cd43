"""Finite networks of PyTorch: their tangent kernel, layer by layer, its products and their linearisation."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "ntkit.torch needs PyTorch, which is not installed. Use pip install 'ntkit[torch]'."
    ) from error

from ntkit.torch.linearize import linearize
from ntkit.torch.nngp import EmpiricalNNGP
from ntkit.torch.ntk import EmpiricalNTK

__all__ = ["EmpiricalNNGP", "EmpiricalNTK", "linearize"]
