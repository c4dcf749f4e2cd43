"""Images in folders: PNG and JPEG files through Pillow, one subfolder for every class."""

from pathlib import Path
from typing import Any

import numpy as np

from ntkit.engines.plan import tracked
from ntkit.errors import ImageError
from ntkit.images.image_set import ImageSet
from ntkit.images.resize import resized

SUFFIXES = (".png", ".jpg", ".jpeg")
EIGHT_BITS = ("L", "LA", "RGB", "RGBA")
"""Pillow's names of the pixel formats that become arrays as they are."""

CONVERTED = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}
"""Other formats of eight bits, and what they are read as."""


def read_folder(path: Path, resize: tuple[int, int] | None) -> tuple[ImageSet, ImageSet | None]:
    """The images of a folder, and those for testing where its subfolders are `train` and `test`.

    Raises:
        ImageError: naming the file or the subfolder at fault, and the remedy.
    """
    parts = {folder.name: folder for folder in _subfolders(path)}
    if {"train", "test"} == set(parts) and _subfolders(parts["train"]):
        train, test = (_read(parts[name], resize) for name in ("train", "test"))
        if train.shape != test.shape:
            raise _unequal(train.names[0], train.pixels[0], test.names[0], test.pixels[0])
        return train, test
    return _read(path, resize), None


def _read(path: Path, resize: tuple[int, int] | None) -> ImageSet:
    classes, loose = _subfolders(path), _files(path)
    if classes and loose:
        raise ImageError(
            f"'{path}' holds '{loose[0].name}' beside subfolders. Move every image into the subfolder of its class."
        )
    if not classes and not loose:
        raise ImageError(
            f"'{path}' holds no images: neither {', '.join(SUFFIXES)} files nor subfolders of them, one for "
            "every class."
        )
    files, labels = loose, []
    for folder in classes:
        members = _files(folder)
        if not members:
            raise ImageError(
                f"The subfolder '{folder}' holds no {', '.join(SUFFIXES)} files. Every subfolder is a class: fill or "
                "remove it."
            )
        files, labels = [*files, *members], [*labels, *([folder.name] * len(members))]
    pixels: list[np.ndarray] = []
    for file in tracked(files, len(files), "images"):
        image = _pixels(file, resize)
        if pixels and image.shape != pixels[0].shape:
            raise _unequal(str(files[0]), pixels[0], str(file), image)
        pixels.append(image)
    names = tuple(str(file.relative_to(path)) for file in files)
    return ImageSet(np.stack(pixels), np.array(labels) if labels else None, names, str(path))


def _unequal(first: str, one: np.ndarray, second: str, other: np.ndarray) -> ImageError:
    """What to say of two images of different sizes or formats."""
    if one.shape[2] != other.shape[2]:
        return ImageError(
            f"Images need equally many channels, got {one.shape[2]} in '{first}' and {other.shape[2]} in '{second}' "
            "(1 is grey, 3 are colours, one more is transparency). Convert them, with Pillow by image.convert('RGB')."
        )
    return ImageError(
        f"Images need one size, got {one.shape[0]} x {one.shape[1]} pixels in '{first}' and {other.shape[0]} x "
        f"{other.shape[1]} in '{second}'. Give them all one with resize (--resize 16, or --resize 16x24)."
    )


def _subfolders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(path: Path) -> list[Path]:
    return sorted(
        entry
        for entry in path.iterdir()
        if entry.is_file() and entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
    )


def _pixels(file: Path, resize: tuple[int, int] | None) -> np.ndarray:
    """One image as 8-bit numbers, upright, of shape (height, width, channels)."""
    pillow, operations = _pillow()
    try:
        with pillow.open(file) as opened:
            image = operations.exif_transpose(opened)
            image = image.convert(CONVERTED[image.mode]) if image.mode in CONVERTED else image
            if image.mode not in EIGHT_BITS:
                raise ImageError(
                    f"'{file}' has pixels of the format {image.mode}, which is not of 8 bits. Convert it to grey or "
                    "RGB."
                )
            pixels = np.asarray(image)
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ImageError(f"'{file}' cannot be read as an image: {error}. Replace or remove it.") from error
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if pixels.shape[2] in (2, 4) and (pixels[:, :, -1] == 255).all():
        pixels = pixels[:, :, :-1]  # opaque everywhere
    return pixels if resize is None else np.rint(resized(pixels, *resize)).astype(np.uint8)


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImageError(
            "Reading PNG and JPEG files needs Pillow, which is not installed. Use pip install 'ntkit[images]', or save "
            "the images as an .npz file."
        ) from error
    return Image, ImageOps
