"""Images in .npz files: several customs of naming, one check of what they hold."""

import numpy as np
import pytest

from ntkit.errors import ImageError
from ntkit.images import looks_like_images, read_images

X = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
Y = np.array([3, 1, 3, 1])


def saved(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


@pytest.mark.parametrize(
    "names",
    [
        ("x", "y"),
        ("X", "Y"),
        ("images", "labels"),
        ("data", "target"),
        ("x_train", "y_train"),
        ("train_images", "train_labels"),
    ],
)
def test_images_and_labels_go_by_several_names(tmp_path, names):
    images, test = read_images(saved(tmp_path, **dict(zip(names, (X, Y), strict=True))))
    assert test is None
    np.testing.assert_array_equal(images.pixels, X[..., None])
    assert images.labels.tolist() == ["3", "1", "3", "1"]


def test_training_and_test_images_are_kept_apart(tmp_path):
    path = saved(tmp_path, x_train=X, y_train=Y, x_test=X[:1] + 100, y_test=Y[:1, None])
    images, test = read_images(path)
    assert (len(images), len(test)) == (4, 1)
    assert test.labels.tolist() == ["3"]
    assert test.pixels.min() == 100


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        (np.array(["b", "a", "b", "a"]), ["b", "a", "b", "a"]),
        (np.array([b"b", b"a", b"b", b"a"]), ["b", "a", "b", "a"]),
        (np.array([True, False, True, False]), ["True", "False", "True", "False"]),
        (np.array([1.0, 0.0, 1.0, 0.0]), ["1", "0", "1", "0"]),
    ],
    ids=["text", "bytes", "truth", "whole floats"],
)
def test_labels_are_classes_of_any_kind(tmp_path, labels, texts):
    assert read_images(saved(tmp_path, x=X, y=labels))[0].labels.tolist() == texts


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "y": Y}, r"array of images called x or images.*got 'a' \(4, 3, 2\)"),
        ({"x": X.reshape(4, 6), "y": Y}, r"needs the shape.*got \(4, 6\).*reshape"),
        ({"x": X[:0]}, r"at least one image.*\(0, 3, 2, 1\)"),
        ({"x": np.zeros((4, 3, 8, 8))}, r"channels last.*transpose\(0, 2, 3, 1\)"),
        ({"x": X.astype(complex)}, r"numbers for pixels, got complex128"),
        ({"x": np.where(X == 7, np.nan, X)}, r"finite pixels, got nan at \(1, 0, 1, 0\)"),
        ({"x": X, "y": Y[:3]}, r"'y' in '.*a.npz' needs a label for each of 4 images, got 3"),
        ({"x": X, "y": np.eye(4)}, r"one label an image.*argmax"),
        ({"x": X, "y": Y + 0.5}, r"classes, whole numbers or texts, got float64.*NNGPRegressor"),
        ({"x": np.array([None] * 4)}, r"no .npz file of plain arrays"),
    ],
    ids=["names", "flat", "none", "channels first", "complex", "nan", "few labels", "one-hot", "numbers", "objects"],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_remedy(tmp_path, arrays, message):
    with pytest.raises(ImageError, match=message):
        read_images(saved(tmp_path, **arrays))


def test_files_that_are_no_npz_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "table.csv").write_text("a,b")
    for name, message in (
        ("text.npz", "no .npz file"),
        ("table.csv", "ends in .npz"),
        ("no.npz", "no such file"),
    ):
        with pytest.raises(ImageError, match=message):
            read_images(tmp_path / name)
    assert [looks_like_images(tmp_path / name) for name in (".", "a.NPZ", "table.csv")] == [True, True, False]


def test_resized_bytes_stay_bytes(tmp_path):
    path = saved(tmp_path, x=np.full((2, 4, 4), 200, np.uint8))
    images, _ = read_images(path, resize=(2, 3))
    assert images.pixels.dtype == np.uint8
    np.testing.assert_array_equal(images.pixels, np.full((2, 2, 3, 1), 200))
