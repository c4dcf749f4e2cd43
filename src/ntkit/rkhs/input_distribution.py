"""The kernel gradient of a cost under an empirical distribution of inputs (Jacot et al. 2018, section 3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.losses import Loss, as_loss, loss_and_gradient
from ntkit.dynamics.squared_loss import Reduction, loss_weight
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_points, as_targets, is_concrete
from ntkit.numerics.host import like, on_host
from ntkit.rkhs.expansion import Expansion

Function = Callable[[Any], Any]
"""A function of points (n, d) with values (n, k), such as an `Expansion` or a network's outputs."""


@dataclass(frozen=True, eq=False, repr=False)
class InputDistribution:
    """The uniform distribution on given points, and the two bilinear forms that it makes.

    `⟨f, g⟩_p = (1/n) Σ_i f(x_i)·g(x_i)` and `⟨f, g⟩_K = (1/n²) Σ_ij f(x_i)·g(x_j) K(x_i, x_j)`. The second is not
    the inner product of the kernel's space: it is that of the *images* `E_x[K(·, x) f(x)]` of f and g.

    Args:
        x: the points, shape (n, d); a point twice has twice the weight.

    Source:
        Jacot, Gabriel & Hongler (2018), Neural tangent kernel, section 3.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> distribution = InputDistribution(np.array([[0.0], [1.0]]))
    >>> distribution.inner_product(lambda x: x, lambda x: 3 * x)   # (0 + 3) / 2
    1.5
    >>> distribution.kernel_form(RBF(), lambda x: x, lambda x: 3 * x)   # 3 K(1, 1) / 4
    0.75
    """

    x: Float[Array, "n d"]

    def __post_init__(self) -> None:
        x = as_points("InputDistribution", self.x)
        if not is_concrete(x):
            raise ValueError("InputDistribution needs concrete points, got values traced by JAX.")
        object.__setattr__(self, "x", x)

    def __repr__(self) -> str:
        return f"InputDistribution({len(self.x)} points of {self.x.shape[1]} features)"

    def inner_product(self, f: Function, g: Function) -> float:
        """`⟨f, g⟩_p = E_x[f(x)·g(x)]`."""
        return self._mean_product(self.values(f), self.values(g))

    def kernel_form(self, kernel: Kernel, f: Function, g: Function) -> float:
        """`⟨f, g⟩_K = E_{x, x'}[f(x)·g(x') K(x, x')]`, x and x' independent."""
        return self._mean_product(self.values(f), self._smoothed(kernel, self.values(g)))

    def kernel_gradient(
        self, kernel: Kernel, loss: Loss, f: Function, y: Float[Array, "n k"], reduction: Reduction = "sum"
    ) -> "KernelGradient":
        """The kernel gradient at `f` of the cost `C = c Σ_i loss(f(x_i), y_i)`; see `kernel_gradient`."""
        who = "kernel_gradient"
        y = on_host(as_targets(who, y, len(self.x)))
        weight = loss_weight(who, reduction, *y.shape)
        as_loss(who, loss, y)
        outputs = self.values(f)
        if outputs.shape != y.shape:
            raise ValueError(f"{who} needs f(x) of the shape of y, got {outputs.shape} and {y.shape}.")
        cost, slope = loss_and_gradient(loss, outputs, y)
        if not (np.isfinite(cost) and np.isfinite(slope).all()):
            raise ValueError(
                f"{who} needs a cost that is finite at f, got {cost}. Check the loss and the size of f."
            )
        dual = len(y) * weight * slope
        function = Expansion(kernel, self.x, like(weight * slope, self.x))
        rate = -self._mean_product(dual, self._smoothed(kernel, dual))
        return KernelGradient(function, dual, weight * cost, rate)

    def values(self, f: Function) -> np.ndarray:
        """`f` at the points, shape (n, k), in float64.

        Raises:
            ValueError: when f returns anything but one finite row per point.
        """
        values = f(self.x)
        shape = getattr(values, "shape", type(values).__name__)
        if not isinstance(shape, tuple) or len(shape) != 2 or shape[0] != len(self.x):
            raise ValueError(f"InputDistribution needs f(x) of shape ({len(self.x)}, outputs), got {shape}.")
        values = on_host(values)
        if not np.isfinite(values).all():
            raise ValueError("InputDistribution needs a function with finite values, got NaN or infinity.")
        return values

    def _mean_product(self, f: np.ndarray, g: np.ndarray) -> float:
        if f.shape != g.shape:
            raise ValueError(
                f"InputDistribution needs functions with equally many outputs, got {f.shape[1]} and {g.shape[1]}."
            )
        return float((f * g).sum() / len(f))

    def _smoothed(self, kernel: Kernel, values: np.ndarray) -> np.ndarray:
        """`E_{x'}[K(x, x') g(x')]` at the points."""
        return on_host(Expansion(kernel, self.x, like(values / len(values), self.x))(self.x))


@dataclass(frozen=True, eq=False)
class KernelGradient:
    """The kernel gradient of a cost at a function, and how fast the cost falls along it.

    Attributes:
        function: `∇_K C = E_{x'}[K(·, x') d(x')]`, defined everywhere.
        dual: d at the points, shape (n, k): the gradient of the cost for `⟨·, ·⟩_p`, n times its partial derivatives.
        cost: C.
        rate: `∂_t C = −‖d‖²_K` under `∂_t f = −∇_K C`, at most 0; times η at learning rate η.
    """

    function: Expansion
    dual: Float[np.ndarray, "n k"]
    cost: float
    rate: float


def kernel_gradient(
    kernel: Kernel,
    loss: Loss,
    f: Function,
    x: Float[Array, "n d"],
    y: Float[Array, "n k"],
    reduction: Reduction = "sum",
) -> KernelGradient:
    """The kernel gradient `∇_K C|_f` of the cost `C = c Σ_i loss(f(x_i), y_i)` under the distribution of the data.

    `∇_K C|_f(x) = E_{x'}[K(x, x') d(x')]` with `d(x_i) = n ∂C/∂f(x_i)`, and along `∂_t f = −∇_K C|_f` the cost falls
    at the rate `∂_t C = −‖d‖²_K`. With K the NTK this is how a wide network trains.

    Args:
        kernel: K.
        loss: outputs and targets to a value per point, per output, or one value, in JAX operations.
        f: the function at which the gradient is taken, points (n, d) to values (n, k).
        x: the points of the input distribution, shape (n, d).
        y: targets, shape (n, k).
        reduction: c is 1 ("sum"), 1 / (n k) ("mean") or 1 / n ("mean_points").

    Raises:
        ValueError: for arrays that do not match, or a cost that is not finite at f.

    Source:
        Jacot, Gabriel & Hongler (2018), Neural tangent kernel, section 3.

    >>> import numpy as np, optax
    >>> from ntkit.kernels.stationary import RBF
    >>> x, y = np.array([[0.0]]), np.array([[5.0]])
    >>> gradient = kernel_gradient(RBF(), optax.squared_error, lambda x: x, x, y)
    >>> gradient.dual.item(), gradient.rate   # 2 (0 - 5), -100 K(0, 0)
    (-10.0, -100.0)
    """
    return InputDistribution(x).kernel_gradient(kernel, loss, f, y, reduction)
