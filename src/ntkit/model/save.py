"""Save a model and load it: JSON and arrays, so that a loaded model predicts the same numbers."""

from pathlib import Path
from typing import Any

import numpy as np

from ntkit.errors import ModelFileError
from ntkit.images.encode import ImageEncoder
from ntkit.model.archive import read_archive, write_archive
from ntkit.model.image_model import ImageModel
from ntkit.model.network import network_from_json, network_to_json
from ntkit.model.table_model import TableModel
from ntkit.tables.encode import TableEncoder
from ntkit.tables.schema import Schema, Target

IMAGES = "images"
"""What the description says the data are; that of a table says nothing."""


def save_model(model: TableModel | ImageModel, folder: str | Path) -> None:
    """Write the model into `folder` (made if need be): `model.json` and `arrays.npz`, no pickle.

    Raises:
        ModelFileError: for a network that JSON cannot hold.
    """
    folder = Path(folder)
    description: dict[str, Any] = {
        "network": network_to_json(model.network),
        "kernel": model.kernel,
        "noise": model.noise,
        "score_noise": model.score_noise,
        "stopping_time": _time_to_json(model.stopping_time),
        "distribution": model.distribution,
        "level": model.level,
    }
    arrays = {"x": model.x, "y": model.y, "times": model.times, "time_noises": model.time_noises}
    encoder = model.encoder
    arrays |= {"means": encoder.means, "scales": encoder.scales, "target_means": encoder.target_means}
    if isinstance(model, ImageModel):
        target = model.encoder.target
        description |= {
            "data": IMAGES,
            "target": {"name": target.name, "classes": list(target.classes)},
            "shape": list(model.encoder.shape),
            "resize": None if model.encoder.resize is None else list(model.encoder.resize),
        }
        if model.nngp_gram is not None and model.ntk_gram is not None:
            arrays |= {"nngp_gram": model.nngp_gram, "ntk_gram": model.ntk_gram}
    else:
        description |= {
            "schema": model.encoder.schema.to_json(),
            "fills": list(model.encoder.fills),
            "target_scale": model.encoder.target_scale,
        }
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(folder, description, arrays)


def load_model(folder: str | Path) -> TableModel | ImageModel:
    """Read a model that `save_model` wrote; it predicts the same numbers, to rounding.

    Args:
        folder: The model's folder, or the output folder of `ntkit fit`, which holds it as `model`.

    Raises:
        ModelFileError: if it is missing, damaged or of another version.
    """
    folder = Path(folder)
    if (folder / "model").is_dir():
        folder = folder / "model"
    description, arrays = read_archive(folder)
    try:
        if description.get("data") == IMAGES:
            return _image_model(description, arrays)
        return _table_model(description, arrays)
    except (KeyError, TypeError, IndexError) as error:
        raise ModelFileError(f"The saved model in '{folder}' lacks an entry: {error}. Fit again.") from error


def _table_model(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> TableModel:
    encoder = TableEncoder(
        schema=Schema.from_json(description["schema"]),
        means=arrays["means"],
        scales=arrays["scales"],
        fills=tuple(description["fills"]),
        target_means=arrays["target_means"],
        target_scale=description["target_scale"],
    )
    return TableModel(encoder, *_shared(description, arrays))


def _image_model(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> ImageModel:
    target, resize = description["target"], description["resize"]
    encoder = ImageEncoder(
        target=Target(target["name"], "classification", tuple(target["classes"])),
        shape=tuple(description["shape"]),
        resize=None if resize is None else (resize[0], resize[1]),
        means=arrays["means"],
        scales=arrays["scales"],
        target_means=arrays["target_means"],
    )
    shared = _shared(description, arrays)
    return ImageModel(encoder, *shared, nngp_gram=arrays.get("nngp_gram"), ntk_gram=arrays.get("ntk_gram"))


def _shared(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Any, ...]:
    """What `FittedModel` holds after the encoder, in its order."""
    return (
        network_from_json(description["network"]),
        description["kernel"],
        description["noise"],
        description["score_noise"],
        np.ascontiguousarray(arrays["x"]),
        np.ascontiguousarray(arrays["y"]),
        _time_from_json(description["stopping_time"]),
        arrays["times"],
        arrays["time_noises"],
        description["distribution"],
        description["level"],
    )


def _time_to_json(time: float) -> float | str:
    """JSON has no infinity."""
    return "infinity" if time == float("inf") else time


def _time_from_json(value: float | str) -> float:
    return float("inf") if value == "infinity" else float(value)
