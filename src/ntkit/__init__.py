"""ntkit: infinitely wide neural networks and the neural tangent kernel."""

from ntkit import nn
from ntkit.kernels import NNGP, NTK, RBF

__version__ = "0.1.0"

__all__ = ["NNGP", "NTK", "RBF", "nn"]
