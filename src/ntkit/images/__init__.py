"""Images as data: read them from folders and arrays, give them one size, encode them as points and targets."""

from ntkit.images.encode import ImageEncoder
from ntkit.images.image_set import ImageSet
from ntkit.images.read import looks_like_images, read_images
from ntkit.images.resize import resized

__all__ = ["ImageEncoder", "ImageSet", "looks_like_images", "read_images", "resized"]
