"""Images in an .npz file: which arrays are the images and the labels, and whether they can be."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ntkit.errors import ImageError
from ntkit.images.image_set import CHANNELS, ImageSet
from ntkit.images.resize import resized

IMAGES, LABELS = ("x", "images", "data"), ("y", "labels", "label", "targets", "target")


def read_arrays(path: Path, resize: tuple[int, int] | None) -> tuple[ImageSet, ImageSet | None]:
    """The images of an .npz file, and those for testing where it has some.

    Raises:
        ImageError: naming the array at fault, and the remedy.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name.lower(): stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise ImageError(
            f"'{path}' is no .npz file of plain arrays: it is damaged, of another kind, or holds Python objects. Save "
            "with numpy.savez(path, x=images, y=labels), both of numbers."
        ) from error
    train = _part(path, arrays, "train", resize)
    test = _part(path, arrays, "test", resize)
    if train is not None:
        return train, test
    images = _part(path, arrays, "", resize)
    if images is not None:
        return images, test
    if test is not None:
        return test, None
    found = ", ".join(f"'{name}' {array.shape}" for name, array in arrays.items()) or "none"
    raise ImageError(
        f"'{path}' needs an array of images called x or images (or x_train and x_test), got {found}. Save with "
        "numpy.savez(path, x=images, y=labels)."
    )


def _part(
    path: Path, arrays: Mapping[str, np.ndarray], part: str, resize: tuple[int, int] | None
) -> ImageSet | None:
    """The images and labels called `x_part` or `part_images` and the like, or None."""
    name = _first(arrays, IMAGES, part)
    if name is None:
        return None
    pixels = _as_pixels(f"'{name}' in '{path}'", arrays[name])
    if resize is not None and pixels.shape[1:3] != resize:
        pixels = _in_units(pixels, resize)
    named = _first(arrays, LABELS, part)
    labels = None if named is None else _as_labels(f"'{named}' in '{path}'", arrays[named], len(pixels))
    return ImageSet(pixels, labels, (), str(path))


def _first(arrays: Mapping[str, np.ndarray], names: tuple[str, ...], part: str) -> str | None:
    candidates = [
        form for name in names for form in ((f"{name}_{part}", f"{part}_{name}") if part else (name,))
    ]
    return next((name for name in candidates if name in arrays), None)


def _in_units(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resized pixels in their own type, so that 8 bits still mean 0 to 255."""
    found = resized(pixels, *size)
    return np.rint(found).astype(pixels.dtype) if pixels.dtype.kind in "ui" else found


def _as_pixels(who: str, pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4:
        raise ImageError(
            f"{who} needs the shape (images, height, width) or (images, height, width, channels), got {pixels.shape}. "
            "Reshape it, for example x.reshape(len(x), 8, 8)."
        )
    if 0 in pixels.shape:
        raise ImageError(f"{who} needs at least one image of at least one pixel, got shape {pixels.shape}.")
    if pixels.shape[3] not in CHANNELS and pixels.shape[1] in CHANNELS:
        raise ImageError(
            f"{who} needs channels last, got shape {pixels.shape}. Use x.transpose(0, 2, 3, 1) before saving."
        )
    if pixels.dtype.kind not in "buif":
        raise ImageError(f"{who} needs numbers for pixels, got {pixels.dtype}. Use x.astype('float32').")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        where = tuple(int(axis) for axis in np.argwhere(~np.isfinite(pixels))[0])
        raise ImageError(f"{who} needs finite pixels, got {pixels[where]} at {where}. Remove that image.")
    return pixels


def _as_labels(who: str, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ImageError(
            f"{who} needs one label an image, got shape {labels.shape}. Of one-hot rows take y.argmax(axis=1)."
        )
    if len(labels) != count:
        raise ImageError(f"{who} needs a label for each of {count} images, got {len(labels)}.")
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "buiU":
        raise ImageError(
            f"{who} needs classes, whole numbers or texts, got {labels.dtype}. For targets that are numbers use "
            "ntkit.NNGPRegressor(network) in Python."
        )
    return labels.astype(np.str_)
