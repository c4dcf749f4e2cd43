"""A model linear in its weights, with correlated outputs, and Bayesian inference for it in weight space by NumPy."""

import jax.numpy as jnp
import numpy as np

from ntkit.kernels import Kernel

POINTS, TEST_POINTS, OUTPUTS, WEIGHTS = 7, 4, 3, 5

_GENERATOR = np.random.default_rng(0)
DIRECTIONS = _GENERATOR.normal(size=(2, OUTPUTS * WEIGHTS))
X = _GENERATOR.normal(size=(POINTS, 2))
X_TEST = 2.0 * _GENERATOR.normal(size=(TEST_POINTS, 2))
Y = _GENERATOR.normal(size=(POINTS, OUTPUTS))
LABELS = _GENERATOR.integers(0, OUTPUTS, size=POINTS)


def linear_model(weights, x):
    """Five weights shared by three outputs, so that every output has a covariance with every other."""
    features = jnp.sin(jnp.matmul(x, jnp.asarray(DIRECTIONS, x.dtype), precision="highest"))
    rows = features.reshape(-1, WEIGHTS)
    return jnp.matmul(rows, weights, precision="highest").reshape(x.shape[0], OUTPUTS)


def features_of(x):
    """The same features by NumPy, shape (n k, P)."""
    return np.sin(x @ DIRECTIONS).reshape(-1, WEIGHTS)


def ridge_weights(noise, precision, x=X, y=Y):
    """The posterior mode of the weights under a prior of mean 0."""
    features = features_of(x)
    hessian = features.T @ features / noise + precision * np.eye(WEIGHTS)
    return np.linalg.solve(hessian, features.T @ y.reshape(-1) / noise)


def blocks(covariance, points, outputs=OUTPUTS):
    """From rows over points and outputs to (m, m, k, k)."""
    return covariance.reshape(points, outputs, points, outputs).transpose(0, 2, 1, 3)


class Linear(Kernel):
    """`sign x·x'` by NumPy, without blocks over outputs; a kernel unless the sign is negative."""

    def __init__(self, sign=1.0):
        self.sign = sign

    def __call__(self, x1, x2=None):
        return self.sign * x1 @ (x1 if x2 is None else x2).T

    def diag(self, x):
        return self.sign * np.sum(x**2, axis=1)
