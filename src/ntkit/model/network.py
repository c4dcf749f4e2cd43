"""A network as JSON and back: class names and fields of `ntkit.nn`, no pickle, no code."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

import ntkit.nn as nn
from ntkit.errors import ModelFileError
from ntkit.nn import Serial
from ntkit.nn.base import Layer


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
    "layers": [...]}`. Numbers keep all their digits.

    Raises:
        ModelFileError: for a layer that holds a Python function (`Elementwise`), which JSON cannot hold.
    """
    if isinstance(network, Serial):
        return {"layer": "Serial", "layers": [network_to_json(layer) for layer in network.layers]}
    name = type(network).__name__
    if layer_classes().get(name) is not type(network):
        raise ModelFileError(
            f"Saving a network needs layers of ntkit.nn without Python functions, got {network!r}. "
            "Use a named activation instead."
        )
    content = {field.name: _plain(getattr(network, field.name)) for field in fields(network) if field.init}  # type: ignore[arg-type]
    return {"layer": name, **content}


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
        return Serial(*(network_from_json(layer) for layer in layers))
    known = layer_classes()
    if not isinstance(name, str) or name not in known:
        raise ModelFileError(f"A saved network has the layer {name!r}, unknown to this version of ntkit.")
    expected = {field.name for field in fields(known[name]) if field.init}  # type: ignore[arg-type]
    if set(content) != expected:
        raise ModelFileError(f"A saved {name} needs the fields {sorted(expected)}, got {sorted(content)}.")
    try:
        return known[name](**{key: tuple(v) if isinstance(v, list) else v for key, v in content.items()})
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"A saved {name} holds values that it refuses: {error}") from error


def _plain(value: Any) -> Any:
    """A field as a Python number, text, truth value or list."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    array = np.asarray(value, dtype=np.float64)
    plain = array.tolist()
    numbers = plain if isinstance(plain, list) else [plain]
    if not all(math.isfinite(number) for number in numbers):
        raise ModelFileError(f"Saving a network needs finite numbers, got {plain}.")
    return plain
