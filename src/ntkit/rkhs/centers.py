"""Centres of expansions: joined, with points that coincide counted once."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ntkit.numerics.dtypes import is_concrete, is_numpy


def identical(first: Any, second: Any) -> bool:
    """Whether two arrays of points hold the same points in the same order, as far as can be known."""
    if first is second:
        return True
    if first.shape != second.shape or not is_concrete((first, second)):
        return False
    return np.array_equal(np.asarray(first), np.asarray(second))


def check_fit(who: str, first: Any, second: Any) -> None:
    """Raise unless two arrays of points have equally many features and one dtype."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{who} needs centres with equally many features, got {first.shape[1]} and {second.shape[1]}."
        )
    if first.dtype != second.dtype:
        raise ValueError(
            f"{who} needs centres of one dtype, got {first.dtype} and {second.dtype}. Convert one with astype."
        )


def join(*point_sets: Any) -> Any:
    """All points one below the other, in the library of the arrays."""
    return np.concatenate(point_sets) if is_numpy(*point_sets) else jnp.concatenate(point_sets)


def distinct(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are the first of their kind, and for every row the position of its kind among those."""
    _, first, kind = np.unique(points, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return first[order], position[kind.reshape(-1)]


def merge(points: Any, coefficients: Any) -> tuple[Any, Any]:
    """The points without repetition, in order of first appearance, their coefficients added up.

    Values traced by JAX pass unchanged: what coincides is not known.
    """
    if not is_concrete((points, coefficients)):
        return points, coefficients
    kept, position = distinct(np.asarray(points))
    if len(kept) == len(points):
        return points, coefficients
    values = np.asarray(coefficients)
    merged = np.zeros((len(kept), values.shape[1]), values.dtype)
    np.add.at(merged, position, values)
    return points[kept], merged if is_numpy(coefficients) else jnp.asarray(merged)
