"""The saved model of a table or of images: what it knows, how it predicts, and how it is written without pickle."""

from ntkit.model.image_model import ImageModel
from ntkit.model.network import network_from_json, network_to_json
from ntkit.model.predictions import Predictions
from ntkit.model.save import load_model, save_model
from ntkit.model.table_model import TableModel

__all__ = [
    "ImageModel",
    "Predictions",
    "TableModel",
    "load_model",
    "network_from_json",
    "network_to_json",
    "save_model",
]
