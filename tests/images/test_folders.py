"""Images in folders: subfolders are classes, and whatever is wrong is named."""

import builtins

import numpy as np
import pytest

from ntkit.errors import ImageError
from ntkit.images import read_images

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7


def test_every_subfolder_is_a_class(tmp_path, picture):
    picture(tmp_path / "dog" / "b.png", COLOUR)
    picture(tmp_path / "cat" / "a.PNG", COLOUR + 1)
    picture(tmp_path / "cat" / "c.png", COLOUR + 2)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    picture(tmp_path / "cat" / ".hidden.png", GREY)
    images, test = read_images(tmp_path)
    assert test is None
    assert images.labels.tolist() == ["cat", "cat", "dog"]
    assert images.names == ("cat/a.PNG", "cat/c.png", "dog/b.png")
    np.testing.assert_array_equal(images.pixels, np.stack([COLOUR + 1, COLOUR + 2, COLOUR]))


def test_files_without_subfolders_have_no_class(tmp_path, picture):
    picture(tmp_path / "one.png", GREY)
    images, _ = read_images(tmp_path)
    assert images.labels is None
    np.testing.assert_array_equal(images.pixels, GREY[None, :, :, None])


def test_subfolders_called_train_and_test_are_both_parts(tmp_path, picture):
    for part, name, shift in (("train", "a", 0), ("train", "b", 1), ("test", "b", 2)):
        picture(tmp_path / part / name / "x.png", GREY + shift)
    images, test = read_images(tmp_path)
    assert (images.labels.tolist(), test.labels.tolist()) == (["a", "b"], ["b"])
    np.testing.assert_array_equal(test.pixels[0, :, :, 0], GREY + 2)


def test_a_jpeg_is_read_as_it_looks(tmp_path, picture):
    smooth = np.full((8, 8, 3), 100, np.uint8)
    picture(tmp_path / "x.jpg", smooth)
    images, _ = read_images(tmp_path)
    assert np.abs(images.pixels[0].astype(int) - smooth).max() <= 2  # as much as JPEG loses of one colour


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("RGBA", 3), ("LA", 1)])
def test_other_formats_of_eight_bits_become_grey_or_colour(tmp_path, picture, mode, channels):
    picture(tmp_path / "x.png", COLOUR, mode)
    assert read_images(tmp_path)[0].shape == (3, 4, channels)


def test_transparency_that_shows_is_a_channel(tmp_path, picture):
    picture(tmp_path / "x.png", np.concatenate([COLOUR, np.full((3, 4, 1), 7, np.uint8)], axis=2))
    assert read_images(tmp_path)[0].shape == (3, 4, 4)


def test_images_of_several_sizes_can_be_given_one(tmp_path, picture):
    picture(tmp_path / "a" / "x.png", np.full((3, 4), 50, np.uint8))
    picture(tmp_path / "b" / "y.png", np.full((5, 2), 90, np.uint8))
    with pytest.raises(ImageError, match=r"3 x 4 pixels in '.*x.png' and 5 x 2 in '.*y.png'.*--resize 16"):
        read_images(tmp_path)
    images, _ = read_images(tmp_path, resize=(2, 3))
    assert images.shape == (2, 3, 1)
    assert images.pixels.dtype == np.uint8
    assert (
        images.pixels.min(axis=(1, 2, 3)).tolist() == images.pixels.max(axis=(1, 2, 3)).tolist() == [50, 90]
    )


def test_grey_beside_colours_is_refused(tmp_path, picture):
    picture(tmp_path / "a" / "x.png", GREY)
    picture(tmp_path / "a" / "y.png", COLOUR)
    with pytest.raises(
        ImageError, match=r"channels, got 1 in '.*x.png' and 3 in '.*y.png'.*convert\('RGB'\)"
    ):
        read_images(tmp_path)


def test_what_is_no_folder_of_images_is_refused(tmp_path, picture):
    with pytest.raises(ImageError, match="holds no images"):
        read_images(tmp_path)
    picture(tmp_path / "a" / "x.png", GREY)
    (tmp_path / "b").mkdir()
    with pytest.raises(ImageError, match=r"The subfolder '.*b' holds no .png"):
        read_images(tmp_path)
    picture(tmp_path / "loose.png", GREY)
    with pytest.raises(ImageError, match="'loose.png' beside subfolders"):
        read_images(tmp_path)


def test_a_corrupt_file_is_named(tmp_path, picture):
    file = picture(
        tmp_path / "x.png", np.random.default_rng(0).integers(0, 256, (30, 30, 3)).astype(np.uint8)
    )
    content = file.read_bytes()
    for damaged in (content[:20], content[: len(content) // 2], b""):
        file.write_bytes(damaged)
        with pytest.raises(ImageError, match=r"'.*x.png' cannot be read as an image"):
            read_images(tmp_path)


def test_sixteen_bits_are_refused(tmp_path, picture):
    picture(tmp_path / "x.png", GREY.astype(np.uint16) * 1000)
    with pytest.raises(ImageError, match=r"x.png' has pixels of the format I.*not of 8 bits"):
        read_images(tmp_path)


def test_pillow_is_asked_for_where_it_is_missing(tmp_path, picture, monkeypatch):
    picture(tmp_path / "x.png", GREY)
    real = builtins.__import__

    def without(name, *rest):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImageError, match=r"needs Pillow.*pip install 'ntkit\[images\]'"):
        read_images(tmp_path)
