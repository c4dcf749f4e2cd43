"""A few small pictures, as files and as arrays."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def picture():
    """Write an array as a picture file, its folders made if need be."""
    image = pytest.importorskip("PIL.Image")

    def write(path, pixels, mode=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = image.fromarray(np.asarray(pixels))
        (opened if mode is None else opened.convert(mode)).save(path)
        return path

    return write
