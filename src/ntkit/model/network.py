"""A network as JSON and back: class names and fields of `ntkit.nn`, no pickle, no code."""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

import ntkit.nn as nn
from ntkit.errors import ModelFileError
from ntkit.nn import Parallel, Serial
from ntkit.nn.base import Layer

LATER = {
    "Dense": frozenset({"axis"}),
    "GlobalSelfAttention": frozenset({"positions"}),
    "PositionalEmbedding": frozenset({"decay"}),
}
"""Fields that saved networks may lack, as those of earlier versions do; their defaults are what was meant."""


def layer_classes() -> dict[str, type[Layer]]:
    """The layers that can be saved: every public dataclass of `ntkit.nn`, by name."""
    public = {name: getattr(nn, name) for name in nn.__all__}
    return {
        name: value
        for name, value in public.items()
        if isinstance(value, type)
        and issubclass(value, Layer)
        and is_dataclass(value)
        and name != "Elementwise"
    }


def network_to_json(network: Layer) -> dict[str, Any]:
    """Describe a network by class names and numbers; `network_from_json` restores an equal value.

    A layer becomes `{"layer": name, field: value, ...}`, a `Serial` becomes `{"layer": "Serial",
    "layers": [...]}`, and so a `Parallel` with its branches. Numbers keep all their digits.

    Raises:
        ModelFileError: for a layer that holds a Python function (`Elementwise`), which JSON cannot hold.
    """
    if isinstance(network, Serial):
        return {"layer": "Serial", "layers": [network_to_json(layer) for layer in network.layers]}
    if isinstance(network, Parallel):
        branches = [network_to_json(branch) for branch in network.branches]
        return {"layer": "Parallel", "branches": branches, "merge": network.merge}
    name = type(network).__name__
    if layer_classes().get(name) is not type(network):
        raise ModelFileError(
            f"Saving a network needs layers of ntkit.nn without Python functions, got {network!r}. "
            "Use a named activation instead."
        )
    content = {field.name: getattr(network, field.name) for field in fields(network) if field.init}  # type: ignore[arg-type]
    defaults = {field.name: field.default for field in fields(network)}  # type: ignore[arg-type]
    for key, value in tuple(content.items()):
        if not isinstance(value, Layer) and callable(value):
            if value is not defaults[key]:
                raise ModelFileError(
                    f"Saving a network needs layers without Python functions of your own, got {key} of {network!r}. "
                    "Use its default instead."
                )
            del content[key]
    return {"layer": name, **{key: _plain(value) for key, value in content.items()}}


def network_from_json(description: Any) -> Layer:
    """Build the network that `network_to_json` described.

    Raises:
        ModelFileError: for an unknown layer or field, or values that the layer refuses.
    """
    if not isinstance(description, dict) or "layer" not in description:
        raise ModelFileError(f"A saved layer needs a dictionary with the key 'layer', got {description!r}.")
    name, content = description["layer"], {key: value for key, value in description.items() if key != "layer"}
    if name == "Serial":
        layers = content.get("layers")
        if not isinstance(layers, list) or not layers:
            raise ModelFileError(f"A saved Serial needs a list of layers, got {layers!r}.")
        return _built(Serial, *map(network_from_json, layers))
    if name == "Parallel":
        branches = content.get("branches")
        if not isinstance(branches, list) or not branches or set(content) != {"branches", "merge"}:
            raise ModelFileError(f"A saved Parallel needs a list of branches and merge, got {content!r}.")
        return _built(Parallel, *map(network_from_json, branches), merge=content["merge"])
    known = layer_classes()
    if not isinstance(name, str) or name not in known:
        raise ModelFileError(f"A saved network has the layer {name!r}, unknown to this version of ntkit.")
    expected = {field.name for field in fields(known[name]) if field.init}  # type: ignore[arg-type]
    if not expected - LATER.get(name, frozenset()) <= set(content) <= expected:
        raise ModelFileError(f"A saved {name} needs the fields {sorted(expected)}, got {sorted(content)}.")
    return _built(known[name], **{key: _value(v) for key, v in content.items()})


def _built(cls: Callable[..., Layer], *layers: Layer, **content: Any) -> Layer:
    try:
        return cls(*layers, **content)
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"A saved {cls.__name__} holds values that it refuses: {error}") from error


def _value(plain: Any) -> Any:
    """What a field holds, from what JSON gives."""
    if isinstance(plain, dict):
        return network_from_json(plain)
    return tuple(map(_value, plain)) if isinstance(plain, list) else plain


def _plain(value: Any) -> Any:
    """A field as a Python number, text, truth value, list, or the description of a layer."""
    if isinstance(value, Layer):
        return network_to_json(value)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    array = np.asarray(value, dtype=np.float64)
    plain = array.tolist()
    numbers = plain if isinstance(plain, list) else [plain]
    if not all(math.isfinite(number) for number in numbers):
        raise ModelFileError(f"Saving a network needs finite numbers, got {plain}.")
    return plain
