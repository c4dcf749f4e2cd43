"""The path of a gradient flow without a closed form: integrated as far as it is asked about, and kept."""

from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.dynamics.progress import Bar
from ntkit.errors import IntegrationError
from ntkit.numerics.dtypes import precision

STEPS_PER_PORTION = 64
"""Steps between two returns from the compiled loop, at which Ctrl-C is heard and progress is shown."""

LARGEST_DENSE = 200
"""Up to so many unknowns the implicit stages are solved by a factorised Jacobian, beyond by Krylov's method."""

KRYLOV_TOLERANCE, KRYLOV_RESTART, KRYLOV_STEPS = 1e-2, 30, 3000
"""Newton's method corrects what its linear solves leave, so that they need two digits only."""

ABSOLUTE = 1e-3
"""The absolute tolerance, as a fraction of the relative one times the state's scale."""

Field = Callable[[Any, jax.Array, Any], jax.Array]
"""`field(clock, state, data)`: the state's velocity, in JAX operations."""


class Path:
    """The solution of `ẏ = field(y)` from `start` at clock 0, by an adaptive, implicit Runge-Kutta method.

    A flow in a kernel's eigenbasis is as stiff as the kernel's condition number, hence Kvaerno's method of order 5,
    which is stable at any step. Every state that was asked for is kept, and later questions start from the nearest
    one before them: an interruption loses nothing that was finished.

    Args:
        who: who asks, for messages.
        field: a function defined once, since it is part of the compiled program's identity.
        start: the state at clock 0.
        data: a pytree of arrays that `field` gets.
        first_step: a first guess of the step, which is then adapted.
        scale: the size that entries of the state may be expected to reach.
        tolerance: the relative error allowed to a step.

    Source:
        Kvaerno (2004), Singly diagonally implicit Runge-Kutta methods with an explicit first stage.
    """

    def __init__(
        self,
        who: str,
        field: Field,
        start: Float[np.ndarray, " p"],
        data: Any,
        first_step: float,
        scale: float,
        tolerance: float,
    ) -> None:
        self._who, self._field = who, field
        self._tolerances = tolerance, ABSOLUTE * tolerance * scale
        with precision(np.float64):
            self._data = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float64), data)
        self._clocks: list[float] = [0.0]
        self._states: list[np.ndarray] = [np.asarray(start, np.float64)]
        self._steps: list[float] = [first_step]

    @property
    def reached(self) -> float:
        """The largest clock at which the state is known."""
        return self._clocks[-1]

    def at(self, clocks: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t p"]:
        """The states at finite clocks of at least 0, in their order.

        Raises:
            IntegrationError: when the integration cannot go on; what it reached stays known.
        """
        states = np.empty((len(clocks), len(self._states[0])))
        order = np.argsort(clocks, kind="stable")
        bar = Bar(f"{self._who}: integrating", len(clocks))
        try:
            for done, index in enumerate(order):
                states[index] = self._state(float(clocks[index]))
                bar.advance_to(done + 1)
        finally:
            bar.close()
        return states

    def _state(self, clock: float) -> np.ndarray:
        before = bisect_right(self._clocks, clock) - 1
        while self._clocks[before] < clock:
            self._advance(before, clock)
            before += 1
        return self._states[before]

    def _advance(self, before: int, goal: float) -> None:
        """Integrate a portion of steps from a known state toward the goal and keep where it ends."""
        start = self._clocks[before]
        with precision(np.float64):
            clocks, states, failed = _portion(
                self._field,
                self._data,
                jnp.asarray(self._states[before]),
                start,
                goal,
                min(self._steps[before], goal - start),
                *self._tolerances,
            )
            clocks, states, failed = np.array(clocks), np.array(states), bool(failed)
        taken = int(np.isfinite(clocks).sum())
        if taken and np.isfinite(states[:taken]).all() and clocks[taken - 1] > start:
            # The last step may have been cut to end at the goal: the one before it says more about the next.
            sizes = np.diff(np.concatenate([[start], clocks[:taken]]))
            self._clocks.insert(before + 1, float(clocks[taken - 1]))
            self._states.insert(before + 1, states[taken - 1])
            self._steps.insert(before + 1, max(float(sizes[-2:].max()), self._steps[before] * (taken == 1)))
            if not failed:
                return
        raise IntegrationError(
            f"{self._who} needs a flow that can be integrated, got stuck at {self.reached:.6g} on the way to "
            f"{goal:.6g}. Up to there all answers stand. Remedies, in this order: (1) a loss whose gradient is "
            "continuous (e.g. optax.huber_loss for an absolute value); (2) a larger tolerance; (3) check that the "
            "loss stays finite at the outputs reached."
        )


@partial(jax.jit, static_argnums=0)
def _portion(
    field: Field, data: Any, state: jax.Array, start: Any, goal: Any, step: Any, relative: Any, absolute: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Clocks (infinite beyond the last), states after every step, and whether the solver gave up."""
    # Imported where they are needed: a third of a second that most uses of ntkit never need.
    import diffrax
    import lineax
    import optimistix

    if state.size <= LARGEST_DENSE:
        root_finder = optimistix.Chord(rtol=relative, atol=absolute)
    else:
        solver = lineax.GMRES(
            rtol=KRYLOV_TOLERANCE,
            atol=absolute,
            restart=KRYLOV_RESTART,
            max_steps=KRYLOV_STEPS,
        )
        root_finder = optimistix.Newton(rtol=relative, atol=absolute, linear_solver=solver)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Kvaerno5(root_finder=root_finder, root_find_max_steps=20),
        t0=start,
        t1=goal,
        dt0=step,
        y0=state,
        args=data,
        saveat=diffrax.SaveAt(steps=True),
        stepsize_controller=diffrax.PIDController(rtol=relative, atol=absolute),
        max_steps=STEPS_PER_PORTION,
        throw=False,
    )
    finished = diffrax.is_okay(solution.result) | (solution.result == diffrax.RESULTS.max_steps_reached)
    assert solution.ts is not None
    assert solution.ys is not None
    return solution.ts, solution.ys, ~finished
