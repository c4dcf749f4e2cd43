"""The Nyström approximation of any kernel, as features."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ntkit.inference.blocks import in_blocks
from ntkit.kernels.base import Kernel
from ntkit.rkhs.feature_map import FeatureMap
from ntkit.rkhs.landmarks import LANDMARKS
from ntkit.solvers import decompose


class Nystrom(FeatureMap):
    """Nyström features `φ(x) = K(x, Z) K(Z, Z)^{-1/2}` of any kernel, for landmarks Z among the data.

    `φ(x)·φ(x')` is the kernel of the functions projected onto the span of the landmarks' representers: exact at the
    landmarks, never above K(x, x) on the diagonal, and better the faster the kernel's eigenvalues decay. Null
    directions of K(Z, Z) are left out.

    Args:
        kernel: any `ntkit.kernels.Kernel`.
        count: number of landmarks; all points where there are fewer.
        landmarks: "pivoted_cholesky" (the worst represented point next; the best, and needs the whole Gram matrix of
            the data), "leverage" (random by ridge leverage score; needs it too, and its eigenvalues), "kmeans++"
            (spread in the inputs) or "uniform" (neither evaluates the kernel on the data).
        random_state: seed of the random choices.

    Attributes:
        landmarks_: the landmarks Z, shape (count, d).
        n_features_in_: number of features seen at fit.
        n_features_out_: number of features, the rank of K(Z, Z).

    Raises:
        ValueError: at fit, for a count below 1 or an unknown choice of landmarks.
        NotPositiveDefiniteError: at fit, when the kernel is none.

    Source:
        Williams & Seeger (2001), Using the Nyström method to speed up kernel machines.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> x = np.linspace(0.0, 1.0, 100)[:, None]
    >>> features = Nystrom(RBF(), count=6).fit(x)
    >>> features.transform(x).shape, bool(np.abs(features(x) - RBF()(x)).max() < 1e-6)
    ((100, 6), True)
    """

    def __init__(
        self, kernel: Kernel, count: int = 100, landmarks: str = "pivoted_cholesky", random_state: Any = 0
    ) -> None:
        self.kernel = kernel
        self.count = count
        self.landmarks = landmarks
        self.random_state = random_state

    def _prepare(self, X: np.ndarray) -> int:
        if self.count < 1:
            raise ValueError(f"Nystrom needs a count of at least 1, got {self.count}.")
        if self.landmarks not in LANDMARKS:
            raise ValueError(
                f"Nystrom needs landmarks as one of {', '.join(map(repr, LANDMARKS))}, got {self.landmarks!r}."
            )
        count = min(int(self.count), len(X))
        chosen = LANDMARKS[self.landmarks](self.kernel, X, count, check_random_state(self.random_state))
        self.landmarks_ = X[chosen]
        spectrum = decompose(self.kernel(self.landmarks_), name=repr(self.kernel), who="Nystrom")
        kept = spectrum.retained
        if not kept.any():
            raise ValueError(f"Nystrom needs a kernel that is not zero on the data, got {self.kernel!r}.")
        self._root = spectrum.eigenvectors[:, kept] / np.sqrt(spectrum.eigenvalues[kept])[None, :]
        return self._root.shape[1]

    def _features(self, X: np.ndarray) -> np.ndarray:
        return in_blocks(
            lambda points: self.kernel(points, self.landmarks_) @ self._root, X, len(self.landmarks_)
        )
