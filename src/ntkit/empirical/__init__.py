"""Finite functions `f(params, x)` of JAX: their tangent kernel, their linearisation and Taylor expansion."""

from ntkit.empirical.linearize import linearize
from ntkit.empirical.ntk import EmpiricalNTK
from ntkit.empirical.taylor import taylor_expand

__all__ = ["EmpiricalNTK", "linearize", "taylor_expand"]
