"""Kernels: functions of two sets of points, and the algebra that makes new ones."""

from ntkit.kernels.algebra import Product, Scaled, Sum
from ntkit.kernels.base import Kernel
from ntkit.kernels.infinite import NNGP, NTK, nngp_and_ntk
from ntkit.kernels.stationary import RBF
from ntkit.kernels.together import evaluate

__all__ = ["NNGP", "NTK", "RBF", "Kernel", "Product", "Scaled", "Sum", "evaluate", "nngp_and_ntk"]
