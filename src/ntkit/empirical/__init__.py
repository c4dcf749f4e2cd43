"""Finite functions `f(params, x)` of JAX: tangent kernel as matrix, operator and sketch, and linearisation."""

from ntkit.empirical.conjugate_gradient import LinearSolution
from ntkit.empirical.lanczos import Eigenpairs
from ntkit.empirical.linearize import linearize
from ntkit.empirical.nngp import EmpiricalNNGP
from ntkit.empirical.ntk import EmpiricalNTK
from ntkit.empirical.operator import NTKOperator
from ntkit.empirical.sketch import SketchedNTK
from ntkit.empirical.taylor import taylor_expand
from ntkit.empirical.trace import TraceEstimate

__all__ = [
    "Eigenpairs",
    "EmpiricalNNGP",
    "EmpiricalNTK",
    "LinearSolution",
    "NTKOperator",
    "SketchedNTK",
    "TraceEstimate",
    "linearize",
    "taylor_expand",
]
