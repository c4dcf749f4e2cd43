"""Which parameters a tangent kernel is taken over: all of them, some by name, or a mask."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

from ntkit.empirical.function import Params

Parameters = Callable[[str], bool] | Sequence[str] | Any | None
"""`None` for all; a function of a parameter's name; names or shell patterns; or booleans in the shape of params."""

Chosen = bool | np.ndarray
"""Whether a leaf is chosen, or which entries of it are."""


class Mask:
    """A pytree of booleans, compared by identity so that compiled code can be kept for it."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree

    def __repr__(self) -> str:
        return f"Mask({jax.tree_util.tree_structure(self.tree)})"


def as_parameters(parameters: Parameters) -> Any:
    """The choice as a hashable value."""
    # A mask for a model that is both a pytree and a function (equinox) is no function of names.
    named = callable(parameters) and jax.tree_util.all_leaves([parameters])
    if parameters is None or named or isinstance(parameters, Mask):
        return parameters
    if isinstance(parameters, str):
        return (parameters,)
    if isinstance(parameters, Sequence) and all(isinstance(name, str) for name in parameters):
        return tuple(parameters)
    return Mask(parameters)


def names_of(params: Params) -> tuple[str, ...]:
    """The name of every leaf: its path in the pytree, parts separated by slashes."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    return tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths)


def chosen_leaves(who: str, params: Params, parameters: Any) -> tuple[Chosen, ...]:
    """For each leaf of the parameters whether it is chosen, wholly or by entries.

    A name chooses the leaf or branch of that path; shell patterns (`*`, `?`) are compared with whole paths.

    Raises:
        ValueError: when nothing is chosen, a name fits no leaf, or a mask does not fit the parameters.
    """
    names = names_of(params)
    if parameters is None:
        return (True,) * len(names)
    if isinstance(parameters, Mask):
        chosen = _by_mask(who, params, parameters.tree)
    elif callable(parameters):
        chosen = tuple(bool(parameters(name)) for name in names)
    else:
        for wanted in parameters:
            if not any(_fits(name, wanted) for name in names):
                raise ValueError(
                    f"{who} needs parameters that exist, got {wanted!r}. The names are {', '.join(names)}."
                )
        chosen = tuple(any(_fits(name, wanted) for wanted in parameters) for name in names)
    if not any(np.any(choice) for choice in chosen):
        raise ValueError(
            f"{who} needs parameters that choose at least one, got none. The names are {', '.join(names)}."
        )
    return chosen


def _fits(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}/") or fnmatchcase(name, wanted)


def _by_mask(who: str, params: Params, mask: Any) -> tuple[Chosen, ...]:
    if jax.tree_util.tree_structure(mask) != jax.tree_util.tree_structure(params):
        raise ValueError(
            f"{who} needs a mask with the structure of params, got {jax.tree_util.tree_structure(mask)}. "
            "Build it with jax.tree_util.tree_map over params."
        )
    chosen: list[Chosen] = []
    pairs = zip(
        names_of(params), jax.tree_util.tree_leaves(mask), jax.tree_util.tree_leaves(params), strict=True
    )
    for name, choice, leaf in pairs:
        entries = np.asarray(choice)
        if entries.dtype != np.bool_ or entries.shape not in ((), np.shape(leaf)):
            raise ValueError(
                f"{who} needs a mask of booleans, one or {np.shape(leaf)} for {name}, "
                f"got {entries.dtype} of shape {entries.shape}."
            )
        whole = bool(entries.all()) or not entries.any()
        chosen.append(bool(entries.any()) if whole else entries)
    return tuple(chosen)
