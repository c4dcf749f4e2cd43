"""Sketches of tensor products of vectors, without forming the products (Pham & Pagh 2013)."""

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.sparse


@dataclass(frozen=True, eq=False)
class TensorSketch:
    """A random linear map S of `a ⊗ b ⊗ ...` to m numbers with `E[S(u)·S(u')] = u·u'`.

    Each factor is hashed into m bins with random signs; the bins are convolved, as a product of Fourier transforms.
    Unlike scikit-learn's `PolynomialCountSketch` the factors may differ.

    Attributes:
        hashes: one sparse matrix (dimension of the factor, m) per factor.
        size: m.
    """

    hashes: tuple[scipy.sparse.csr_array, ...]
    size: int

    @classmethod
    def drawn(cls, dimensions: list[int], size: int, random: np.random.RandomState) -> "TensorSketch":
        """Independent hashes for factors of these dimensions."""
        hashes = []
        for dimension in dimensions:
            signs = random.choice([-1.0, 1.0], dimension)
            bins = random.randint(size, size=dimension)
            hashes.append(
                scipy.sparse.csr_array((signs, (np.arange(dimension), bins)), shape=(dimension, size))
            )
        return cls(tuple(hashes), size)

    def __call__(self, factors: list[np.ndarray]) -> np.ndarray:
        """The sketches of `factors[0][i] ⊗ factors[1][i] ⊗ ...`, shape (n, m), for factors of shape (n, dimension)."""
        product: np.ndarray | float = 1.0
        for factor, hashed in zip(factors, self.hashes, strict=True):
            product = product * scipy.fft.rfft(factor @ hashed, axis=1)
        return scipy.fft.irfft(product, n=self.size, axis=1)
