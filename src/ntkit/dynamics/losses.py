"""Losses of the outputs: any differentiable callable, checked against the targets before anything long begins.

A loss maps outputs and targets, both of shape (n, k), to a value per point (n,), a value per output (n, k), or one
value that it has summed itself. The losses of optax are such callables.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from ntkit.numerics.dtypes import precision

Loss = Callable[[Any, Any], Any]
"""`loss(outputs (n, k), targets (n, k))` -> (n,), (n, k) or a scalar, in JAX operations."""


def as_loss(who: str, loss: Any, targets: Float[np.ndarray, "n k"]) -> Loss:
    """Check a loss against the targets.

    Raises:
        ValueError: for what is no callable, targets of the wrong kind for a loss of optax, a result that is not
            one of the three shapes, or a loss or gradient that is not finite at outputs of zero.
    """
    if not callable(loss):
        raise ValueError(
            f"{who} needs loss as a callable of outputs and targets, got {loss!r}. Use e.g. optax.huber_loss."
        )
    function = loss.func if isinstance(loss, partial) else loss
    if function is optax.softmax_cross_entropy_with_integer_labels:
        raise ValueError(
            f"{who} needs a loss of targets of shape (points, outputs), got "
            "softmax_cross_entropy_with_integer_labels. Use optax.softmax_cross_entropy with one-hot targets."
        )
    if function in TARGETS:
        TARGETS[function](who, targets)
    name = name_of(loss)
    n, k = targets.shape
    with precision(np.float64):
        arrays = (jax.ShapeDtypeStruct((n, k), jnp.float64),) * 2
        shape = jax.eval_shape(loss, *arrays).shape
    if shape not in ((), (n,), (n, k)):
        raise ValueError(
            f"{who} needs a loss that returns shape ({n},), ({n}, {k}) or a scalar for {n} points and {k} outputs, "
            f"got {shape} from {name}."
        )
    value, gradient = loss_and_gradient(loss, np.zeros((n, k)), targets)
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        raise ValueError(
            f"{who} needs a loss that is finite and differentiable, got value {value} with gradient between "
            f"{gradient.min()} and {gradient.max()} from {name} at outputs 0. Check the loss and its targets."
        )
    return loss


def name_of(loss: Any) -> str:
    """What to call a loss in messages."""
    function = loss.func if isinstance(loss, partial) else loss
    return getattr(function, "__name__", repr(function))


def total(loss: Loss, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The loss summed over points and outputs."""
    return jnp.sum(loss(outputs, targets))


@partial(jax.jit, static_argnums=0)
def _value_and_gradient(loss: Loss, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(total, argnums=1)(loss, outputs, targets)


def loss_and_gradient(
    loss: Loss, outputs: Float[np.ndarray, "n k"], targets: Float[np.ndarray, "n k"]
) -> tuple[float, Float[np.ndarray, "n k"]]:
    """The summed loss and its gradient in the outputs, in float64; compiled once per loss and shape."""
    with precision(np.float64):
        value, gradient = _value_and_gradient(
            loss, jnp.asarray(outputs, jnp.float64), jnp.asarray(targets, jnp.float64)
        )
        return float(value), np.array(gradient)


def _distributions(who: str, targets: np.ndarray) -> None:
    if targets.shape[1] < 2:
        raise ValueError(
            f"{who} needs one column of y per class for softmax_cross_entropy, got one column. "
            "Use one-hot rows, or optax.sigmoid_binary_cross_entropy for two classes in one column."
        )
    sums = targets.sum(axis=1)
    wrong = np.flatnonzero((targets < 0).any(axis=1) | (np.abs(sums - 1.0) > 1e-6))
    if len(wrong):
        raise ValueError(
            f"{who} needs rows of y that are probabilities summing to 1 for softmax_cross_entropy, got "
            f"{targets[wrong[0]]} in row {wrong[0]}. Use one-hot rows."
        )


def _probabilities(who: str, targets: np.ndarray) -> None:
    wrong = np.argwhere((targets < 0) | (targets > 1))
    if len(wrong):
        raise ValueError(
            f"{who} needs y between 0 and 1 for sigmoid_binary_cross_entropy, got {targets[tuple(wrong[0])]} in "
            f"row {wrong[0][0]}. Map labels of -1 and 1 by (y + 1) / 2."
        )


def _signs(who: str, targets: np.ndarray) -> None:
    wrong = np.argwhere(np.abs(targets) != 1)
    if len(wrong):
        raise ValueError(
            f"{who} needs y of -1 and 1 for hinge_loss, got {targets[tuple(wrong[0])]} in row {wrong[0][0]}. "
            "Map labels of 0 and 1 by 2 y - 1."
        )


TARGETS: dict[Any, Callable[[str, np.ndarray], None]] = {
    optax.softmax_cross_entropy: _distributions,
    optax.safe_softmax_cross_entropy: _distributions,
    optax.sigmoid_binary_cross_entropy: _probabilities,
    optax.hinge_loss: _signs,
}
"""What the losses of optax ask of their targets; all others take any finite numbers."""
