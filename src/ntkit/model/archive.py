"""A folder with a JSON description and arrays, versioned, checked against damage, without pickle."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ntkit.errors import ModelFileError

FORMAT = "ntkit table model"
VERSION = 1
DESCRIPTION_FILE = "model.json"
ARRAYS_FILE = "arrays.npz"


def write_archive(folder: Path, description: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write `model.json` and `arrays.npz` into an existing folder.

    The JSON file holds the format's name and version, the SHA-256 checksum of the arrays' file and of the
    description itself.
    """
    np.savez(
        folder / ARRAYS_FILE,
        allow_pickle=False,
        **{name: np.asarray(array) for name, array in arrays.items()},
    )
    header = {
        "format": FORMAT,
        "version": VERSION,
        "checksum_of_arrays": _checksum((folder / ARRAYS_FILE).read_bytes()),
        "checksum_of_description": _checksum(_canonical(description)),
        "description": description,
    }
    text = json.dumps(header, indent=2, allow_nan=False, ensure_ascii=False)
    (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")


def read_archive(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_archive` wrote.

    Raises:
        ModelFileError: if files are missing, damaged, of another format or version.
    """
    for name in (DESCRIPTION_FILE, ARRAYS_FILE):
        if not (folder / name).is_file():
            raise ModelFileError(
                f"A saved model needs the file '{name}', which is not in '{folder}'. "
                "Give the folder that 'ntkit fit' wrote, or fit again."
            )
    damaged = f"The saved model in '{folder}' is damaged"
    try:
        header = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{damaged}: '{DESCRIPTION_FILE}' is not JSON ({error}). Fit again.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"'{folder / DESCRIPTION_FILE}' is not a saved model of ntkit. Fit again.")
    if header.get("version") != VERSION:
        raise ModelFileError(
            f"The saved model in '{folder}' has format version {header.get('version')}, this ntkit reads version "
            f"{VERSION}. Fit again, or install the ntkit that wrote it."
        )
    if _checksum(_canonical(header.get("description"))) != header.get("checksum_of_description"):
        raise ModelFileError(f"{damaged}: the description in '{DESCRIPTION_FILE}' was changed. Fit again.")
    if _checksum((folder / ARRAYS_FILE).read_bytes()) != header.get("checksum_of_arrays"):
        raise ModelFileError(f"{damaged}: '{ARRAYS_FILE}' does not match its checksum. Fit again.")
    try:
        with np.load(folder / ARRAYS_FILE, allow_pickle=False) as stored:
            return header["description"], {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{damaged}: '{ARRAYS_FILE}' cannot be read ({error}). Fit again.") from error


def _canonical(description: Any) -> bytes:
    """One text per description, whatever the order and white space of the file."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
