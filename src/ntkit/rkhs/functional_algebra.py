"""New functionals from old: sums, multiples, and scalar functions of a functional (the chain rule)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.numerics.dtypes import precision
from ntkit.rkhs.element import Element
from ntkit.rkhs.functional import Differential, Functional


@dataclass(frozen=True, eq=False)
class Sum(Functional):
    """`J[f] = left[f] + right[f]`, with the sum of the gradients."""

    left: Functional
    right: Functional

    def __repr__(self) -> str:
        return f"{self.left!r} + {self.right!r}"

    @property
    def points(self) -> tuple[Any, ...] | None:
        left, right = self.left.points, self.right.points
        return None if left is None or right is None else left + right

    @property
    def is_quadratic(self) -> bool:
        return self.left.is_quadratic and self.right.is_quadratic

    def differential(self, f: Element) -> Differential:
        return self.left.differential(f).plus(self.right.differential(f))


@dataclass(frozen=True, eq=False)
class Scaled(Functional):
    """`J[f] = factor inner[f]`, with the gradient multiplied as well.

    Raises:
        ValueError: for a factor that is not finite.
    """

    inner: Functional
    factor: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.factor):
            raise ValueError(f"A multiple of a functional needs a finite factor, got {self.factor}.")

    def __repr__(self) -> str:
        return f"{self.factor:g} * ({self.inner!r})"

    @property
    def points(self) -> tuple[Any, ...] | None:
        return self.inner.points

    @property
    def is_quadratic(self) -> bool:
        return self.inner.is_quadratic

    def differential(self, f: Element) -> Differential:
        differential = self.inner.differential(f)
        return differential.times(self.factor, self.factor * differential.value)


@dataclass(frozen=True, eq=False)
class Composition(Functional):
    """`J[f] = function(inner[f])` for a scalar function, by the chain rule `∇J = function'(inner[f]) ∇inner[f]`.

    Args:
        function: from a number to a number; of JAX operations unless `derivative` is given.
        inner: the functional inside.
        derivative: the function's derivative; by default JAX's.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> from ntkit.rkhs import Evaluation, Expansion
    >>> f = Expansion(RBF(), np.array([[0.0]]), np.array([[3.0]]))
    >>> square = Composition(lambda value: value**2, Evaluation(np.array([0.0])))
    >>> square.value(f), square.gradient(f).coefficients.item()   # 3², 2·3 K(0, ·)
    (9.0, 6.0)
    """

    function: Callable[[Any], Any]
    inner: Functional
    derivative: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"Composition needs a callable function, got {self.function!r}.")

    def __repr__(self) -> str:
        return f"{getattr(self.function, '__name__', type(self.function).__name__)}({self.inner!r})"

    @property
    def points(self) -> tuple[Any, ...] | None:
        return self.inner.points

    @property
    def is_quadratic(self) -> bool:
        return False

    def differential(self, f: Element) -> Differential:
        inner = self.inner.differential(f)
        if self.derivative is not None:
            value, slope = self.function(inner.value), self.derivative(inner.value)
        else:
            with precision(np.float64):
                value, slope = _value_and_slope(self.function, jnp.asarray(inner.value, jnp.float64))
        return inner.times(float(slope), float(value))


@partial(jax.jit, static_argnums=0)
def _value_and_slope(function: Callable[[Any], Any], value: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(function)(value)
