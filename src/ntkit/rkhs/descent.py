"""Gradient descent on any functional, in the function space itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.engines.plan import tracked
from ntkit.errors import DivergenceError
from ntkit.numerics.dtypes import is_concrete
from ntkit.rkhs.expansion import Expansion
from ntkit.rkhs.functional import Functional
from ntkit.rkhs.positions import Position, place

ROUNDING = 1e-9
"""A value above the first by less than this, relative, has not risen."""


@dataclass(frozen=True, eq=False)
class FunctionalDescent:
    """What `functional_gradient_descent` found. Histories begin with the start: entry s is after s steps.

    Attributes:
        function: the last function; the best one where the descent diverged.
        value: the functional's values.
        norm: the functions' norms in the space.
        gradient_norm: the gradients' norms in the space.
        converged: whether the gradient fell below the tolerance.
        interrupted: whether Ctrl-C ended the descent.
    """

    function: Expansion
    value: Float[np.ndarray, " s"]
    norm: Float[np.ndarray, " s"]
    gradient_norm: Float[np.ndarray, " s"]
    converged: bool
    interrupted: bool

    @property
    def steps_taken(self) -> int:
        """How many steps the history holds."""
        return max(0, len(self.value) - 1)

    def __repr__(self) -> str:
        state = "converged" if self.converged else "interrupted" if self.interrupted else "not converged"
        last = f", value {self.value[-1]:.6g}" if len(self.value) else ""
        return f"FunctionalDescent({state} after {self.steps_taken} steps{last}, {self.function!r})"


class DescentDivergedError(DivergenceError):
    """A descent with too large a step; `result` holds the best so far and the history, as the descent returns them."""

    def __init__(self, text: str, result: Any) -> None:
        super().__init__(text)
        self.result = result


def functional_gradient_descent(
    functional: Functional,
    f0: Expansion,
    *,
    step_size: float | int,
    steps: int,
    tolerance: float | int = 1e-10,
) -> FunctionalDescent:
    """Descend from `f0` by `f ← f − α ∇J[f]` in the space of the kernel.

    For `J = EmpiricalRisk(loss, x, y) + λ SquaredNorm()` a step is
    `f ← f − α (Σ_i ∂loss(f(x_i), y_i) K(x_i, ·) + 2 λ f)`; with `optax.squared_error` the limit is kernel ridge
    regression, coefficients `(K + λ I)^{-1} y`. Where the functional tells its points, the Gram matrix of these and
    of the centres of `f0` is evaluated once and a step costs two products with it; else every step evaluates the
    kernel anew. A bar on a terminal's standard error shows the progress; Ctrl-C ends the descent and returns what
    was reached.

    Args:
        functional: J, to be minimised.
        f0: where to start, e.g. `Expansion.zero(kernel, x, outputs)`.
        step_size: α, positive; for a quadratic functional below `largest_stable_step(functional, f0)`.
        steps: the largest number of steps, at least 1.
        tolerance: converged once `‖∇J[f]‖ ≤ tolerance ‖∇J[f_0]‖` in the norm of the space.

    Raises:
        ValueError: for arguments out of range or that do not fit together.
        DescentDivergedError: a `DivergenceError`, when the step is too large: before the first step for a quadratic
            functional, else when the value rises above where it began or is not finite. Its `result` holds the best
            function so far.

    Source:
        Kivinen, Smola & Williamson (2004), Online learning with kernels, section 3, for the regularised step.

    >>> import numpy as np, optax
    >>> from ntkit.kernels.stationary import RBF
    >>> from ntkit.rkhs import EmpiricalRisk, SquaredNorm
    >>> x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    >>> ridge = EmpiricalRisk(optax.squared_error, x, y) + 0.5 * SquaredNorm()
    >>> descent = functional_gradient_descent(ridge, Expansion.zero(RBF(), x), step_size=0.4, steps=1000)
    >>> descent.converged, descent.function.coefficients.ravel().round(8).tolist()
    (True, [0.152455, 1.27168758])
    >>> np.linalg.solve(RBF()(x) + 0.5 * np.eye(2), y).ravel().round(8).tolist()
    [0.152455, 1.27168758]
    """
    who = "functional_gradient_descent"
    if not isinstance(f0, Expansion) or not is_concrete(f0):
        raise ValueError(
            f"{who} needs f0 as an Expansion of concrete arrays, got {type(f0).__name__}. "
            "Expansion.zero(kernel, x, outputs) starts from 0."
        )
    if not (np.isfinite(step_size) and step_size > 0):
        raise ValueError(f"{who} needs a positive, finite step_size, got {step_size}.")
    if steps < 1:
        raise ValueError(f"{who} needs at least one step, got {steps}.")
    if not tolerance >= 0:
        raise ValueError(f"{who} needs a tolerance of at least 0, got {tolerance}.")
    start = place(functional, f0)
    _refuse(functional, start, float(step_size))
    return descend(functional, start, float(step_size), int(steps), float(tolerance))


def descend(
    functional: Functional, position: Position, step_size: float, steps: int, tolerance: float
) -> FunctionalDescent:
    """The loop: look, record, stop or step."""
    history: list[tuple[float, float, float]] = []
    best, lowest = position, np.inf
    converged = interrupted = False
    try:
        for step in tracked(range(steps + 1), steps + 1, "functional gradient descent"):
            view = position.look(functional)
            finite = view.is_finite
            risen = bool(history) and view.value > history[0][0] + ROUNDING * max(
                abs(history[0][0]), abs(lowest)
            )
            if not finite or risen:
                raise DescentDivergedError(
                    _divergence(functional, step, view.value, finite, step_size),
                    _result(best, history, False, False),
                )
            history.append((view.value, view.norm, view.gradient_norm))
            if view.value < lowest:
                best, lowest = position, view.value
            converged = view.gradient_norm <= tolerance * history[0][2]
            if converged or step == steps:
                break
            position = view.move(step_size)
    except KeyboardInterrupt:
        interrupted = True
    return _result(position, history, converged, interrupted)


def _result(
    position: Position, history: list[tuple[float, float, float]], converged: bool, interrupted: bool
) -> FunctionalDescent:
    value, norm, gradient_norm = np.array(history, dtype=np.float64).reshape(-1, 3).T
    return FunctionalDescent(position.expansion(), value, norm, gradient_norm, converged, interrupted)


def _refuse(functional: Functional, start: Position, step_size: float) -> None:
    """Raise at once where the steps are known not to converge."""
    bound = start.stable_step(functional)
    if step_size >= bound:
        raise DescentDivergedError(
            f"functional_gradient_descent needs a step_size below {bound:.6g} = 2 / (largest second derivative of "
            f"{functional!r}), got {step_size:.6g}. Half of that bound learns fastest in the steepest direction.",
            _result(start, [], False, False),
        )


def _divergence(functional: Functional, step: int, value: float, finite: bool, step_size: float) -> str:
    if step == 0:
        return (
            f"functional_gradient_descent needs a functional that is finite at f0, got {value} from {functional!r}. "
            "Check the loss and its targets."
        )
    trouble = f"rose above where it began, to {value:.6g}," if finite else f"was not finite ({value})"
    return (
        f"functional_gradient_descent needs a smaller step_size, got {step_size:.6g}: the value of {functional!r} "
        f"{trouble} after {step} steps. Try a tenth of it; the error's result holds the best function so far."
    )
