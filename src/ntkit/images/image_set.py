"""Images as they were read, all of one shape, with their labels and names."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

CHANNELS = (1, 2, 3, 4)
"""Numbers of channels that pictures have: grey or colours, with or without opacity."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Some images.

    Attributes:
        pixels: as stored, shape (n, height, width, channels), whole numbers, truth values or floats.
        labels: the class of each as text, shape (n,), or None.
        names: the file of each, or () for images that came in an array.
        source: where they come from, for messages.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels."""
        return self.pixels.shape[1:]

    def chosen(self, numbers: Int[np.ndarray, " kept"]) -> "ImageSet":
        """Some of the images."""
        return ImageSet(
            self.pixels[numbers],
            None if self.labels is None else self.labels[numbers],
            tuple(self.names[number] for number in numbers) if self.names else (),
            self.source,
        )
