"""Read images: a folder with a subfolder for every class, or an .npz file of arrays."""

from pathlib import Path

from ntkit.errors import ImageError
from ntkit.images.arrays import read_arrays
from ntkit.images.folders import read_folder
from ntkit.images.image_set import ImageSet


def looks_like_images(path: str | Path) -> bool:
    """Whether a path names images rather than a table: a folder, or a file that ends in .npz."""
    path = Path(path)
    return path.is_dir() or path.suffix.lower() == ".npz"


def read_images(
    path: str | Path, *, resize: tuple[int, int] | None = None
) -> tuple[ImageSet, ImageSet | None]:
    """Read images, and the held-out ones where the source has a part for testing.

    A folder holds one subfolder of PNG or JPEG files for every class; or two, `train` and `test`, of such folders; or
    just files, without classes. An .npz file holds `x` and `y` (or `images` and `labels`), or `x_train`, `y_train`,
    `x_test` and `y_test`; labels may be missing. Pixels have the shape (n, height, width) or (n, height, width,
    channels).

    Args:
        path: the folder or the file.
        resize: height and width to give all images; None to leave them as they are, which then have to be equal.

    Raises:
        ImageError: naming the file or the array at fault, and the remedy.
    """
    path = Path(path)
    if path.is_dir():
        return read_folder(path, resize)
    if not path.is_file():
        raise ImageError(
            f"read_images needs an existing folder or .npz file, got '{path}' (no such file). Check the path."
        )
    if path.suffix.lower() != ".npz":
        raise ImageError(
            f"read_images needs a folder or a file that ends in .npz, got '{path}'. Put picture files into a folder."
        )
    return read_arrays(path, resize)
