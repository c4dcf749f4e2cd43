"""One small training problem and its kernels, shared by the tests of training."""

import numpy as np

from ntkit.kernels import NNGP, NTK, RBF
from ntkit.nn import Dense, Erf, Relu, Serial

random = np.random.default_rng(5)
X, Y = random.normal(size=(7, 3)), random.normal(size=(7, 2))
TEST, TEST_Y = random.normal(size=(4, 3)), random.normal(size=(4, 2))

DEEP = Serial(Dense(1, w_std=1.4, b_std=0.2), Relu(), Dense(1, w_std=1.4, b_std=0.1), Relu(), Dense(1))
SMOOTH = Serial(Dense(1, w_std=1.3, b_std=0.3), Erf(), Dense(1, w_std=1.2))
KERNELS = {
    "relu": (NTK(DEEP), NNGP(DEEP)),
    "erf": (NTK(SMOOTH), NNGP(SMOOTH)),
    "unrelated": (RBF(0.9), NNGP(DEEP)),
}
WEIGHTS = {"sum": 1.0, "mean": 1.0 / 14, "mean_points": 1.0 / 7}
"""What the reductions make of half the summed squares over 7 points and 2 outputs."""


def start(x):
    """The initial outputs of one given network."""
    return np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
