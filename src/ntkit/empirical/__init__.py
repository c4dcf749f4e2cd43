"""Finite functions `f(params, x)` of JAX: their tangent kernel and their linearisation."""

from ntkit.empirical.linearize import linearize
from ntkit.empirical.ntk import EmpiricalNTK

__all__ = ["EmpiricalNTK", "linearize"]
