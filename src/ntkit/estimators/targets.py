"""Targets of a regression, standardised for the zero-mean models inside, and back."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.numerics.dtypes import Array


@dataclass(frozen=True, eq=False)
class TargetScaling:
    """`standardised = (y - mean) / scale`, output by output.

    Attributes:
        mean: what is subtracted, shape (k,).
        scale: what is divided by, shape (k,); 1 for a constant output.
        flat: whether the targets were given as a vector, as predictions will be.
    """

    mean: Float[np.ndarray, " k"]
    scale: Float[np.ndarray, " k"]
    flat: bool

    @classmethod
    def of(cls, y: Float[np.ndarray, "n *k"], normalize: bool) -> "TargetScaling":
        """The scaling of targets of shape (n,) or (n, k); the identity unless `normalize`."""
        columns = y.reshape(len(y), -1)
        outputs = columns.shape[1]
        if not normalize:
            return cls(np.zeros(outputs), np.ones(outputs), y.ndim == 1)
        scale = columns.std(axis=0)
        # A constant column's standard deviation is rounding, not information.
        constant = scale <= 10.0 * np.finfo(np.float64).eps * np.abs(columns).max(axis=0)
        return cls(columns.mean(axis=0), np.where(constant, 1.0, scale), y.ndim == 1)

    def standardised(self, y: Float[np.ndarray, "n *k"]) -> Float[np.ndarray, "n k"]:
        """Targets for the model."""
        return (y.reshape(len(y), -1) - self.mean[None, :]) / self.scale[None, :]

    def mean_in_units(self, mean: Float[Array, "m k"]) -> Float[np.ndarray, "m *k"]:
        """A predicted mean in the targets' units and shape."""
        return self._shaped(np.asarray(mean) * self.scale[None, :] + self.mean[None, :])

    def std_in_units(self, std: Float[Array, " m"]) -> Float[np.ndarray, "m *k"]:
        """A standard deviation that the outputs share, in each output's units."""
        return self._shaped(np.asarray(std)[:, None] * self.scale[None, :])

    def _shaped(self, values: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m *k"]:
        return values[:, 0] if self.flat else values
