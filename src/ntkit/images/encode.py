"""From images to points and targets: pixels between 0 and 1, channels standardised, classes centred."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ntkit.errors import ImageError
from ntkit.images.image_set import ImageSet
from ntkit.tables.schema import Target


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """Encode images the way the training images were encoded.

    Pixels of 8 or 16 bits become numbers from 0 to 1, others stay as they are; then every channel as a whole gets mean
    0 and standard deviation 1 over the training images. Classes become `one_hot - class_frequency`.

    Attributes:
        target: the name of what is predicted, and its classes.
        shape: height, width and channels.
        resize: height and width that images were given when they were read, or None.
        means: mean of each channel, shape (c,).
        scales: standard deviation of each channel, shape (c,).
        target_means: class frequencies, shape (classes,).
    """

    target: Target
    shape: tuple[int, ...]
    resize: tuple[int, int] | None
    means: Float[np.ndarray, " c"]
    scales: Float[np.ndarray, " c"]
    target_means: Float[np.ndarray, " classes"]

    target_scale = 1.0
    """Classes are not scaled."""

    @classmethod
    def fit(
        cls,
        images: ImageSet,
        classes: tuple[str, ...],
        *,
        name: str = "label",
        resize: tuple[int, int] | None = None,
    ) -> "ImageEncoder":
        """Learn channels and class frequencies from the training images.

        Raises:
            ImageError: for images without labels, or that are all one colour.
        """
        target = Target(name, "classification", classes)
        columns = _unit_scale(images.pixels).reshape(-1, images.shape[2])
        scales = columns.std(axis=0)
        if not (scales > 1e-12).any():
            raise ImageError(f"The training images of '{images.source}' are all of one colour throughout.")
        codes = class_numbers(images, target)
        return cls(
            target=target,
            shape=images.shape,
            resize=resize,
            means=columns.mean(axis=0),
            scales=np.where(scales > 1e-12, scales, 1.0),
            target_means=np.bincount(codes, minlength=len(classes)) / len(codes),
        )

    def points(self, images: ImageSet) -> Float[np.ndarray, "n h w c"]:
        """The images as points.

        Raises:
            ImageError: for images of another size or with other channels.
        """
        if images.shape != self.shape:
            raise ImageError(
                f"The model needs images of {_described(self.shape)}, got {_described(images.shape)} in "
                f"'{images.source}'. Resize or convert them as the training images were, or fit with --resize."
            )
        return (_unit_scale(images.pixels) - self.means) / self.scales

    def codes(self, images: ImageSet) -> Int[np.ndarray, " n"]:
        """The number of each image's class.

        Raises:
            ImageError: for images without labels, or with a class that training did not have.
        """
        return class_numbers(images, self.target)

    def targets(self, images: ImageSet) -> Float[np.ndarray, "n classes"]:
        """The classes as the network sees them: one-hot and centred.

        Raises:
            ImageError: as `codes`.
        """
        return np.eye(len(self.target.classes))[self.codes(images)] - self.target_means[None, :]


def class_names(images: ImageSet) -> tuple[str, ...]:
    """The classes of labelled images, in the order of their numbers if all are whole numbers, else of the alphabet.

    Raises:
        ImageError: without labels, or with a single class.
    """
    if images.labels is None:
        raise ImageError(
            f"Learning needs the class of every image, got none in '{images.source}'. Put the files of a folder into "
            "one subfolder for each class; add the array y of labels to an .npz file."
        )
    names = {str(label) for label in images.labels}
    if len(names) < 2:
        raise ImageError(
            f"Learning needs at least two classes, got only '{names.pop()}' in '{images.source}'. There is nothing to "
            "tell apart."
        )
    numbers = all(name.lstrip("-").isdecimal() for name in names)
    return tuple(sorted(names, key=int) if numbers else sorted(names))


def class_numbers(images: ImageSet, target: Target) -> Int[np.ndarray, " n"]:
    """The number of each image's class.

    Raises:
        ImageError: without labels, or with an unknown one.
    """
    if images.labels is None:
        raise ImageError(f"The images of '{images.source}' need labels, got none.")
    numbers = {name: number for number, name in enumerate(target.classes)}
    unknown = sorted({str(label) for label in images.labels} - set(numbers))
    if unknown:
        raise ImageError(
            f"The images of '{images.source}' have the class '{unknown[0]}', which the training images have not "
            f"({', '.join(target.classes[:10])})."
        )
    return np.array([numbers[str(label)] for label in images.labels], dtype=np.int64)


def _unit_scale(pixels: np.ndarray) -> Float[np.ndarray, "n h w c"]:
    """Pixels of 8 or 16 bits divided by their largest value, others as they are; float64."""
    largest = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(pixels.dtype, 1.0)
    return pixels.astype(np.float64) / largest


def _described(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height} x {width} pixels and {channels} channel{'' if channels == 1 else 's'}"
