"""The elementary functionals: evaluation at a point, the squared norm, inner products, and empirical risks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import optax
from jaxtyping import Float

from ntkit.dynamics.losses import Loss, as_loss, loss_and_gradient, name_of
from ntkit.dynamics.squared_loss import Reduction, loss_weight
from ntkit.numerics.dtypes import Array, as_points, as_targets, is_concrete
from ntkit.numerics.host import on_host
from ntkit.rkhs.element import Element, check_same_space
from ntkit.rkhs.expansion import Expansion, as_point, check_output
from ntkit.rkhs.functional import Differential, Functional

QUADRATIC_LOSSES = (optax.squared_error, optax.l2_loss)
"""Losses whose second derivative is the same everywhere."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Functional):
    """`E_x[f] = f_o(x)`, with gradient `K(x, ·) e_o`, its representer.

    Args:
        x: the point, shape (d,) or (1, d).
        output: which output o, from 0.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> f = Expansion(RBF(), np.array([[0.0]]), np.array([[3.0]]))
    >>> round(Evaluation(np.array([1.0])).value(f), 6)   # 3 exp(-1/2)
    1.819592
    """

    x: Float[Array, "*one d"]
    output: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", as_point("Evaluation", self.x))

    def __repr__(self) -> str:
        return f"Evaluation(at {np.array2string(np.asarray(self.x[0]), threshold=5)}, output={self.output})"

    @property
    def points(self) -> tuple[Any, ...]:
        return (self.x,)

    @property
    def is_quadratic(self) -> bool:
        return True

    def differential(self, f: Element) -> Differential:
        check_output("Evaluation", self.output, f.outputs)
        values = on_host(f.evaluate(self.x))
        return Differential(float(values[0, self.output]), 0.0, ((self.x, np.eye(f.outputs)[[self.output]]),))


@dataclass(frozen=True, eq=False)
class SquaredNorm(Functional):
    """`‖f‖²` in the space, summed over outputs, with gradient `2 f`.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> f = Expansion(RBF(), np.array([[0.0]]), np.array([[3.0]]))
    >>> SquaredNorm().value(f), SquaredNorm().gradient(f).coefficients.item()
    (9.0, 6.0)
    """

    @property
    def points(self) -> tuple[Any, ...]:
        return ()

    @property
    def is_quadratic(self) -> bool:
        return True

    def differential(self, f: Element) -> Differential:
        return Differential(float(f.squared_norm()), 2.0, ())


@dataclass(frozen=True, eq=False)
class InnerProduct(Functional):
    """`⟨f, g⟩` with a fixed function g, which is also the gradient.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> f = Expansion(RBF(), np.array([[0.0]]), np.array([[3.0]]))
    >>> InnerProduct(2.0 * f).value(f)
    18.0
    """

    g: Expansion

    @property
    def points(self) -> tuple[Any, ...]:
        return (self.g.centers,)

    @property
    def is_quadratic(self) -> bool:
        return True

    def differential(self, f: Element) -> Differential:
        check_same_space("InnerProduct", f, self.g)
        weights = on_host(self.g.coefficients)
        values = on_host(f.evaluate(self.g.centers))
        return Differential(float((weights * values).sum()), 0.0, ((self.g.centers, weights),))


@dataclass(frozen=True, eq=False, repr=False)
class EmpiricalRisk(Functional):
    """`c Σ_i loss(f(x_i), y_i)` on data, with gradient `c Σ_i K(x_i, ·) ∂loss(f(x_i), y_i)`.

    The loss is any callable of outputs and targets, both (n, k), such as those of optax: `optax.squared_error`
    is `(f − y)²`, `optax.l2_loss` is half of that. It is summed over outputs and points; the reduction says by
    what the sum is multiplied.

    Args:
        loss: outputs and targets to a value per point, per output, or one value, in JAX operations.
        x: points, shape (n, d).
        y: targets, shape (n, k).
        reduction: c is 1 ("sum"), 1 / (n k) ("mean") or 1 / n ("mean_points").

    Raises:
        ValueError: for data that do not match, targets of the wrong kind for the loss, a loss that is not finite.

    >>> import numpy as np, optax
    >>> from ntkit.kernels.stationary import RBF
    >>> x, y = np.array([[0.0]]), np.array([[5.0]])
    >>> risk = EmpiricalRisk(optax.squared_error, x, y)
    >>> f = Expansion(RBF(), x, np.array([[3.0]]))
    >>> risk.value(f), risk.gradient(f).coefficients.item()   # (3 - 5)², 2 (3 - 5)
    (4.0, -4.0)
    """

    loss: Loss
    x: Float[Array, "n d"]
    y: Float[Array, "n k"]
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        x = as_points("EmpiricalRisk", self.x)
        y = as_targets("EmpiricalRisk", self.y, len(x))
        if not is_concrete((x, y)):
            raise ValueError(
                "EmpiricalRisk needs concrete arrays, got values traced by JAX. Build it outside of jit."
            )
        loss_weight("EmpiricalRisk", self.reduction, *y.shape)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", on_host(y))
        as_loss("EmpiricalRisk", self.loss, np.asarray(self.y))

    def __repr__(self) -> str:
        points, outputs = self.y.shape
        return f"EmpiricalRisk({name_of(self.loss)}, {points} points, {outputs} outputs, {self.reduction!r})"

    @property
    def points(self) -> tuple[Any, ...]:
        return (self.x,)

    @property
    def is_quadratic(self) -> bool:
        return self.loss in QUADRATIC_LOSSES

    def differential(self, f: Element) -> Differential:
        if f.outputs != self.y.shape[1]:
            raise ValueError(
                f"EmpiricalRisk needs a function with one output per column of y, got {f.outputs} outputs and "
                f"{self.y.shape[1]} columns."
            )
        weight = loss_weight("EmpiricalRisk", self.reduction, *self.y.shape)
        value, slope = loss_and_gradient(self.loss, on_host(f.evaluate(self.x)), np.asarray(self.y))
        return Differential(weight * value, 0.0, ((self.x, weight * slope),))
