"""Solvers of `(K + noise I) v = b`: factor a Gram matrix once, then ask it many times."""

from ntkit.solvers.base import Factor, Solver
from ntkit.solvers.cholesky import Cholesky
from ntkit.solvers.eigh import Eigh
from ntkit.solvers.spectrum import Spectrum, decompose

__all__ = ["Cholesky", "Eigh", "Factor", "Solver", "Spectrum", "decompose"]
