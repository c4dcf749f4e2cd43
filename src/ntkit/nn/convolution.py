"""The convolutional layer, finite and infinite, in both parametrisations."""

from dataclasses import dataclass
from typing import Any

from ntkit.nn.convolving import Sharing, Sliding
from ntkit.nn.dense import Parametrization
from ntkit.nn.windows import Padding
from ntkit.numerics.trees import pytree


@pytree("width", "filter_shape", "strides", "padding", "parametrization")
@dataclass(frozen=True, eq=False)
class Conv(Sliding, Sharing):
    """Convolutional layer, `w_std / sqrt(k c) sum_q W_q x_(p+q) + b_std b`, in one to three spatial dimensions.

    With `W, b ~ N(0, 1)` entrywise, k pixels in the filter and c channels. At infinite width
    `nngp'(p, p') = w_std^2 mean_q nngp(p+q, p'+q) + b_std^2` and `ntk' = nngp' + w_std^2 mean_q ntk(p+q, p'+q)`
    (Novak et al. 2019, "Bayesian deep convolutional networks", eq. 7; Arora et al. 2019, section 4). Pixels that
    padding adds are 0 and count in the mean. In the standard parametrisation
    `ntk' = k c mean_q nngp(p+q, p'+q) + 1 + w_std^2 mean_q ntk(p+q, p'+q)`, as for `Dense`.

    Args:
        width: number of output channels; at infinite width it matters only to the standard parametrisation.
        filter_shape: pixels of the filter along each spatial axis.
        strides: pixels from one filter position to the next; None for 1 along each axis.
        padding: "same" (zeros), "valid" (none) or "circular" (the opposite side).
        w_std: standard deviation of the weights, at least 0.
        b_std: standard deviation of the biases, at least 0.
        parametrization: "ntk" or "standard".

    Raises:
        ValueError: for sizes below 1, an unknown padding, or a standard deviation that is negative or infinite.

    >>> import numpy as np
    >>> from ntkit import NNGP, nn
    >>> NNGP(nn.Serial(nn.Conv(16, (3, 3)), nn.Flatten()))(np.ones((1, 3, 3, 1)))  # 49 of 81 pairs lie inside
    array([[0.60493827]])
    """

    width: int
    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "same"
    w_std: Any = 1.0
    b_std: Any = 0.0
    parametrization: Parametrization = "ntk"
