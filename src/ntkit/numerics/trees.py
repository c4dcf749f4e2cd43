"""Immutable values that are JAX pytrees: numbers are leaves, everything that fixes shapes is structure."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")


def pytree(*static: str) -> Callable[[type[T]], type[T]]:
    """Register a frozen dataclass as a pytree whose fields named in `static` are structure, not leaves.

    Rebuilding a tree bypasses `__init__`: JAX fills leaves with tracers and placeholders, which a
    constructor that checks its arguments must refuse.
    """

    def register(cls: type[T]) -> type[T]:
        leaves = tuple(field.name for field in fields(cls) if field.name not in static)  # type: ignore[arg-type]

        def structure(value: Any) -> tuple:
            return tuple(getattr(value, name) for name in static)

        def flatten_with_keys(value: Any) -> tuple:
            return tuple(
                (jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in leaves
            ), structure(value)

        def flatten(value: Any) -> tuple:
            return tuple(getattr(value, name) for name in leaves), structure(value)

        def unflatten(aux: tuple, children: Iterable[Any]) -> Any:
            value = object.__new__(cls)
            for name, content in zip((*leaves, *static), (*children, *aux), strict=True):
                object.__setattr__(value, name, content)
            return value

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return register


class Value:
    """Equality and hash of a pytree by structure and numbers, so that array leaves compare too."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        ours, structure = jax.tree_util.tree_flatten(self)
        theirs, other_structure = jax.tree_util.tree_flatten(other)
        return structure == other_structure and all(
            np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)
        )

    def __hash__(self) -> int:
        return hash(jax.tree_util.tree_structure(self))


def as_leaf(who: str, name: str, value: Any, minimum: float = -np.inf) -> Any:
    """A hyper-parameter as a leaf: Python numbers become float (ints would not be differentiable).

    Raises:
        ValueError: for a concrete number that is not finite or below `minimum`.
    """
    if isinstance(value, bool | int | float | np.number):
        value = float(value)
        if not np.isfinite(value) or value < minimum:
            bound = "" if minimum == -np.inf else f" of at least {minimum:g}"
            raise ValueError(f"{who} needs {name} as a finite number{bound}, got {value}.")
    return value
