"""Small spaces, functions and learning problems, shared by the tests of function space."""

import numpy as np

from ntkit.kernels import NNGP, NTK, Kernel
from ntkit.nn import Dense, Erf, Relu, Serial
from ntkit.rkhs import Expansion

random = np.random.default_rng(11)
X, Y = random.normal(size=(9, 3)), random.normal(size=(9, 2))
OTHER = random.normal(size=(5, 3))
TEST = random.normal(size=(6, 3))

DEEP = Serial(Dense(1, w_std=1.4, b_std=0.2), Relu(), Dense(1, w_std=1.3, b_std=0.1))
SMOOTH = Serial(Dense(1, w_std=1.3, b_std=0.3), Erf(), Dense(1, w_std=1.2))


class Laplace(Kernel):
    """`exp(-|x − x'|)` in plain NumPy: strictly positive definite, and evaluated in microseconds."""

    def __repr__(self):
        return "Laplace()"  # names tests, which must be the same in every process

    def __call__(self, x1, x2=None):
        x2 = x1 if x2 is None else x2
        differences = x1[:, None, :] - x2[None, :, :]
        return np.exp(-np.sqrt((differences**2).sum(axis=2))).astype(x1.dtype)

    def diag(self, x):
        return np.ones(len(x), x.dtype)


class Gaussian(Kernel):
    """`exp(-|x − x'|² / 4)` in plain NumPy: smooth, so that its matrices soon have no full numerical rank."""

    def __call__(self, x1, x2=None):
        x2 = x1 if x2 is None else x2
        differences = x1[:, None, :] - x2[None, :, :]
        return np.exp(-(differences**2).sum(axis=2) / 4).astype(x1.dtype)

    def diag(self, x):
        return np.ones(len(x), x.dtype)


KERNELS = {
    "ntk relu": NTK(DEEP),
    "nngp erf": NNGP(SMOOTH),
    "sum": Laplace() + 0.5 * NTK(DEEP),
    "laplace": Laplace(),
}


class Given(Kernel):
    """A kernel between the points 0, 1, 2, ... with a given matrix, positive definite or not."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, dtype=float)

    def __call__(self, x1, x2=None):
        x2 = x1 if x2 is None else x2
        return self.matrix[np.ix_(x1[:, 0].astype(int), x2[:, 0].astype(int))].astype(x1.dtype)

    def diag(self, x):
        return np.diag(self(x))


def drawn(kernel, seed, centers=X, outputs=2):
    """A function with normal coefficients."""
    coefficients = np.random.default_rng(seed).normal(size=(len(centers), outputs))
    return Expansion(kernel, centers, coefficients)


def scale(f):
    """`(Σ_i |α_i| √K_ii)²`, which bounds every partial sum of an inner product and so its rounding."""
    sizes = np.sqrt(f.kernel.diag(f.centers)) @ np.abs(f.coefficients)
    return float((sizes**2).sum())
