"""Save a table's model and load it: JSON and arrays, so that a loaded model predicts the same numbers."""

from pathlib import Path
from typing import Any

import numpy as np

from ntkit.errors import ModelFileError
from ntkit.model.archive import read_archive, write_archive
from ntkit.model.network import network_from_json, network_to_json
from ntkit.model.table_model import TableModel
from ntkit.tables.encode import TableEncoder
from ntkit.tables.schema import Schema


def save_model(model: TableModel, folder: str | Path) -> None:
    """Write the model into `folder` (made if need be): `model.json` and `arrays.npz`, no pickle.

    Raises:
        ModelFileError: for a network that JSON cannot hold.
    """
    folder = Path(folder)
    encoder = model.encoder
    description: dict[str, Any] = {
        "schema": encoder.schema.to_json(),
        "fills": list(encoder.fills),
        "target_scale": encoder.target_scale,
        "network": network_to_json(model.network),
        "kernel": model.kernel,
        "noise": model.noise,
        "score_noise": model.score_noise,
        "stopping_time": _time_to_json(model.stopping_time),
        "distribution": model.distribution,
        "level": model.level,
    }
    arrays = {
        "x": model.x,
        "y": model.y,
        "times": model.times,
        "time_noises": model.time_noises,
        "means": encoder.means,
        "scales": encoder.scales,
        "target_means": encoder.target_means,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(folder, description, arrays)


def load_model(folder: str | Path) -> TableModel:
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
        encoder = TableEncoder(
            schema=Schema.from_json(description["schema"]),
            means=arrays["means"],
            scales=arrays["scales"],
            fills=tuple(description["fills"]),
            target_means=arrays["target_means"],
            target_scale=description["target_scale"],
        )
        return TableModel(
            encoder=encoder,
            network=network_from_json(description["network"]),
            kernel=description["kernel"],
            noise=description["noise"],
            score_noise=description["score_noise"],
            x=np.ascontiguousarray(arrays["x"]),
            y=np.ascontiguousarray(arrays["y"]),
            stopping_time=_time_from_json(description["stopping_time"]),
            times=arrays["times"],
            time_noises=arrays["time_noises"],
            distribution=description["distribution"],
            level=description["level"],
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ModelFileError(f"The saved model in '{folder}' lacks an entry: {error}. Fit again.") from error


def _time_to_json(time: float) -> float | str:
    """JSON has no infinity."""
    return "infinity" if time == float("inf") else time


def _time_from_json(value: float | str) -> float:
    return float("inf") if value == "infinity" else float(value)
