"""Training many finite networks from independent initialisations: the ensemble that the limit describes."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from ntkit.dynamics.problem import make_problem, outputs_of
from ntkit.dynamics.squared_loss import Reduction
from ntkit.empirical.function import Function, Params, as_examples, in_precision
from ntkit.engines.plan import tracked
from ntkit.numerics.dtypes import Array, precision


@dataclass(frozen=True, eq=False)
class EnsembleHistory:
    """What `train_ensemble` saw: every member's outputs and loss after each recorded number of steps.

    Attributes:
        steps: numbers of steps at which was recorded.
        loss: training losses there, (r, members), in the reduction asked for.
        outputs: outputs at the watched points there, (r, members, m, k).
        interrupted: whether Ctrl-C ended the training before the last member.
    """

    steps: Int[np.ndarray, " r"]
    loss: Float[np.ndarray, "r members"]
    outputs: Float[np.ndarray, "r members m k"]
    interrupted: bool

    @property
    def members(self) -> int:
        """How many networks were trained to the end."""
        return self.outputs.shape[1]

    @property
    def mean(self) -> Float[np.ndarray, "r m k"]:
        """The mean over members."""
        return self.outputs.mean(axis=1)

    @property
    def std(self) -> Float[np.ndarray, "r m k"]:
        """The standard deviation over members, with `members − 1` in the denominator."""
        return self.outputs.std(axis=1, ddof=1)


def train_ensemble(
    f: Function,
    init: Callable[[jax.Array], Params],
    key: jax.Array,
    members: int,
    x: Any,
    y: Float[Array, "n k"],
    *,
    watch: Any,
    learning_rate: float | int,
    steps: int,
    reduction: Reduction = "sum",
    record: Sequence[int] | None = None,
) -> EnsembleHistory:
    """Train `members` networks from independent initialisations, each as by `train`.

    The law of a wide network's outputs over initialisations tends to the Gaussian of
    `gradient_descent(NTK(network), x, y, prior=NNGP(network), ...).after(steps)`: Lee et al. (2019),
    section 2.3. Networks are drawn, trained and dropped one after the other (a weight matrix of width
    2048 fills the cache, so training several at once is no faster): memory is that of one network.

    Computes in the dtype that `train` does; results are NumPy. Ctrl-C keeps the members that are finished.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k).
        init: draws parameters from a key, e.g. `lambda key: network.init(key, x.shape)`.
        key: split into one key per member.
        members: how many networks, at least 2.
        x: training inputs (n, ...), tokens included, or a pytree of such arrays.
        y: training targets (n, k).
        watch: inputs (m, ...) whose outputs are recorded.
        learning_rate: η, positive.
        steps: number of gradient steps, at least 1.
        reduction: "sum", "mean" or "mean_points", as for `train`.
        record: after which numbers of steps to record, as for `train`.

    Raises:
        ValueError: for arguments that do not fit together.
        DivergenceError: when a member's loss is no longer finite.
        KeyboardInterrupt: when interrupted before two members were finished.
    """
    if members < 2:
        raise ValueError(
            f"train_ensemble needs at least 2 members, got {members}. Use train for one network."
        )
    as_examples("train_ensemble", watch, "watch")
    problem = make_problem("train_ensemble", f, x, y, learning_rate, steps, reduction, record)
    draw = jax.jit(init)
    losses: list[list[float]] = []
    outputs: list[np.ndarray] = []
    interrupted = False
    try:
        for member_key in tracked(jax.random.split(key, members), members, "training the ensemble"):
            params = draw(member_key)
            with precision(problem.dtype) if problem.numpy else nullcontext():
                watched = in_precision(watch, problem.dtype)
                loss, shown = [], []
                for _, wanted, current in problem.path(problem.start(params)):
                    if wanted:
                        loss.append(problem.loss(current))
                        shown.append(np.array(outputs_of(f, current, watched)))
            losses.append(loss)
            outputs.append(np.stack(shown))
    except KeyboardInterrupt:
        if len(outputs) < 2:
            raise
        interrupted = True
    return EnsembleHistory(
        steps=np.array(problem.record, dtype=np.int64),
        loss=np.array(losses[: len(outputs)], dtype=problem.dtype).T,
        outputs=np.stack(outputs, axis=1),
        interrupted=interrupted,
    )
