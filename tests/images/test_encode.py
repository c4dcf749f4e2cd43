"""Encoded images: units of pixels, channels as wholes, classes in order; and resizing beside Pillow's."""

import numpy as np
import pytest

from ntkit.errors import ImageError
from ntkit.images import ImageEncoder, ImageSet, resized
from ntkit.images.encode import class_names

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 2, 2)).astype(np.uint8)
LABELS = np.array(["10", "9", "9", "10", "9", "9"])


def image_set(pixels=PIXELS, labels=LABELS):
    return ImageSet(pixels, labels, (), "here")


def test_channels_are_standardised_by_the_training_images():
    encoder = ImageEncoder.fit(image_set(), ("9", "10"))
    points = encoder.points(image_set())
    np.testing.assert_allclose(points.mean(axis=(0, 1, 2)), 0.0, atol=1e-14)
    np.testing.assert_allclose(points.std(axis=(0, 1, 2)), 1.0, rtol=1e-13)
    np.testing.assert_allclose(encoder.means, PIXELS.mean(axis=(0, 1, 2)) / 255.0, rtol=1e-13)
    # new images go by the training images' means, one by one
    np.testing.assert_array_equal(encoder.points(image_set(PIXELS[3:4])), points[3:4])


def test_eight_and_sixteen_bits_are_fractions_of_the_largest_value():
    encoder = ImageEncoder.fit(image_set(), ("9", "10"))
    for same in (PIXELS.astype(np.uint16) * 257, PIXELS / 255.0):
        np.testing.assert_allclose(encoder.points(image_set(same)), encoder.points(image_set()), atol=1e-14)


def test_a_channel_without_variation_becomes_zero():
    pixels = PIXELS.copy()
    pixels[..., 1] = 77
    np.testing.assert_allclose(
        ImageEncoder.fit(image_set(pixels), ("9", "10")).points(image_set(pixels))[..., 1], 0.0, atol=1e-12
    )
    with pytest.raises(ImageError, match="all of one colour"):
        ImageEncoder.fit(image_set(PIXELS * 0), ("9", "10"))


def test_classes_are_centred_and_in_order():
    images = image_set()
    assert class_names(images) == ("9", "10")  # as numbers
    assert class_names(image_set(labels=np.array(["b", "a", "10", "9", "a", "a"]))) == ("10", "9", "a", "b")
    encoder = ImageEncoder.fit(images, ("9", "10"))
    np.testing.assert_allclose(encoder.target_means, [4 / 6, 2 / 6])
    np.testing.assert_allclose(encoder.targets(images)[0], [-4 / 6, 1 - 2 / 6])
    assert encoder.codes(images).tolist() == [1, 0, 0, 1, 0, 0]


def test_images_that_do_not_fit_the_model_are_refused():
    encoder = ImageEncoder.fit(image_set(), ("9", "10"))
    with pytest.raises(
        ImageError, match="3 x 2 pixels and 2 channels, got 2 x 2 pixels and 1 channel in 'here'"
    ):
        encoder.points(image_set(PIXELS[:, :2, :, :1]))
    with pytest.raises(ImageError, match=r"class '8', which the training images have not \(9, 10\)"):
        encoder.codes(image_set(labels=np.array(["8"] * 6)))
    with pytest.raises(ImageError, match="got none in 'here'.*one subfolder for each class"):
        class_names(image_set(labels=None))
    with pytest.raises(ImageError, match="only '9'"):
        class_names(image_set(labels=np.array(["9"] * 6)))


@pytest.mark.parametrize("size", [(4, 5), (20, 7), (9, 11), (1, 1)])
def test_resizing_is_what_pillow_calls_bilinear(size):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(1).uniform(size=(9, 11)).astype(np.float32)
    expected = image.fromarray(pixels).resize(size[::-1], image.Resampling.BILINEAR)
    found = resized(pixels[None, :, :, None], *size)[0, :, :, 0]
    np.testing.assert_allclose(found, np.asarray(expected), atol=2e-6)  # Pillow computes in float32
