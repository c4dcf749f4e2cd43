"""How alike two kernels are on data, and how alike a kernel is to the targets it is to explain."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.kernels import evaluate
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_targets, check_finite
from ntkit.numerics.host import on_host


def center_gram(gram: Float[Array, "n n"]) -> Float[np.ndarray, "n n"]:
    """`H K H` with `H = I − 1 1ᵀ / n`: the Gram matrix of the features less their mean over the data.

    >>> center_gram(np.array([[4.0, 2.0], [2.0, 2.0]])).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    gram = on_host(gram)
    return gram - gram.mean(axis=0)[None, :] - gram.mean(axis=1)[:, None] + gram.mean()


def alignment(first: Float[Array, "n n"], second: Float[Array, "n n"]) -> float:
    """Kernel alignment `⟨K, L⟩_F / (‖K‖_F ‖L‖_F)`, in [0, 1] for two Gram matrices.

    Raises:
        ValueError: for a matrix that is zero or not finite.

    Source:
        Cristianini, Shawe-Taylor, Elisseeff & Kandola (2001), On kernel-target alignment, definition 1.

    >>> round(alignment(np.eye(2), np.ones((2, 2))), 6)
    0.707107
    """
    return _cosine(*_two("alignment", first, second))


def centered_alignment(first: Float[Array, "n n"], second: Float[Array, "n n"]) -> float:
    """Centred kernel alignment (CKA): the alignment of `H K H` and `H L H`, in [0, 1].

    Unlike `alignment`, it does not count what both kernels see of the constant function, which in high dimensions
    makes any two kernels look alike.

    Raises:
        ValueError: for a matrix that is not finite, or constant up to the features' mean.

    Source:
        Cortes, Mohri & Rostamizadeh (2012), Algorithms for learning kernels based on centered alignment, definition 4;
        Kornblith et al. (2019), Similarity of neural network representations revisited, equation 3.

    >>> round(centered_alignment(np.diag([1.0, 2.0, 3.0]), np.eye(3)), 6)
    0.960769
    """
    first, second = _two("centered_alignment", first, second)
    centered = center_gram(first), center_gram(second)
    for gram, whole in zip(centered, (first, second), strict=True):
        # What rounding alone leaves of a constant matrix.
        if np.linalg.norm(gram) <= 4 * len(gram) * np.finfo(np.float64).eps * np.linalg.norm(whole):
            raise ValueError(
                "centered_alignment needs Gram matrices that differ from a constant, got one that does not. "
                "Its kernel sees no difference between the points."
            )
    return _cosine(*centered)


def target_alignment(gram: Float[Array, "n n"], y: Float[Array, "n k"]) -> float:
    """Kernel-target alignment, `alignment(K, Y Yᵀ)`.

    >>> target_alignment(np.eye(2), np.array([[1.0], [-1.0]])).__round__(6)
    0.707107
    """
    y = on_host(as_targets("target_alignment", y, len(gram)))
    return alignment(gram, y @ y.T)


def centered_target_alignment(gram: Float[Array, "n n"], y: Float[Array, "n k"]) -> float:
    """Centred kernel-target alignment, `centered_alignment(K, Y Yᵀ)`.

    >>> centered_target_alignment(np.eye(2), np.array([[3.0], [1.0]])).__round__(6)
    1.0
    """
    y = on_host(as_targets("centered_target_alignment", y, len(gram)))
    return centered_alignment(gram, y @ y.T)


@dataclass(frozen=True, eq=False)
class Alignments:
    """All pairwise alignments of several kernels on the same data.

    Attributes:
        uncentered: `alignment` of each pair, shape (kernels, kernels).
        centered: `centered_alignment` (CKA) of each pair, shape (kernels, kernels).
        target: `target_alignment` of each kernel, shape (kernels,); None without targets.
        centered_target: `centered_target_alignment` of each kernel, shape (kernels,); None without targets.
    """

    uncentered: Float[np.ndarray, "kernels kernels"]
    centered: Float[np.ndarray, "kernels kernels"]
    target: Float[np.ndarray, " kernels"] | None
    centered_target: Float[np.ndarray, " kernels"] | None


def compare_kernels(kernels: tuple[Kernel, ...], x: Any, y: Float[Array, "n k"] | None = None) -> Alignments:
    """The alignments of kernels with each other, and with targets, on data.

    Args:
        kernels: at least one; NNGP and NTK of one network share one pass over the data.
        x: n points, as the kernels take them: an array, or a pytree of arrays.
        y: targets, shape (n, k).

    >>> from ntkit import NNGP, NTK, nn
    >>> net = nn.Serial(nn.Dense(8), nn.Relu(), nn.Dense(1))
    >>> compare_kernels((NNGP(net), NTK(net)), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).centered[0, 1].round(4)
    np.float64(0.9975)
    """
    if not kernels:
        raise ValueError("compare_kernels needs at least one kernel, got none.")
    for kernel in kernels:
        x = kernel.as_inputs("compare_kernels", x)
    grams = [on_host(gram) for gram in evaluate(kernels, x)]
    for kernel, gram in zip(kernels, grams, strict=True):
        check_finite("compare_kernels", gram, f"the Gram matrix of {type(kernel).__name__}")
    target = centered_target = None
    if y is not None:
        target = np.array([target_alignment(gram, y) for gram in grams])
        centered_target = np.array([centered_target_alignment(gram, y) for gram in grams])
    return Alignments(
        np.array([[alignment(a, b) for b in grams] for a in grams]),
        np.array([[centered_alignment(a, b) for b in grams] for a in grams]),
        target,
        centered_target,
    )


def _two(who: str, first: Array, second: Array) -> tuple[np.ndarray, np.ndarray]:
    """Both matrices in float64, divided by their largest entry so that no square overflows."""
    scaled = []
    for name, given in (("first", first), ("second", second)):
        gram = on_host(given)
        check_finite(who, gram, name)
        largest = float(np.abs(gram).max())
        if largest == 0.0:
            raise ValueError(f"{who} needs Gram matrices that are not zero, got a zero matrix.")
        scaled.append(gram / largest)
    return scaled[0], scaled[1]


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.vdot(first, second) / (np.linalg.norm(first) * np.linalg.norm(second)))
