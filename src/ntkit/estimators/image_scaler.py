"""Standardisation of images: every channel as a whole, so that pixels keep their relation to their neighbours."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ntkit.estimators.inputs import check_input_shape


class ImageScaler(TransformerMixin, BaseEstimator):
    """Images with mean 0 and variance 1 in every channel: `(x - mean_c) / std_c`, over all training images and pixels.

    What `StandardScaler` does to tables, for images: a mean and a standard deviation for each *pixel* would give the
    dark margin of all images the weight of their middle, and would undo that a convolution treats all places alike.
    Images have the shape (n, *S, c); those of shape (n, H, W), and flattened ones of shape (n, d), have one channel.
    A channel that does not vary becomes 0.

    Attributes:
        mean_: mean of each channel, shape (c,).
        scale_: standard deviation of each channel, 1 where it is 0, shape (c,).
        n_features_in_: second entry of the shape seen at fit.

    Example:
        >>> import numpy as np
        >>> from sklearn.pipeline import make_pipeline
        >>> from ntkit import zoo
        >>> from ntkit.estimators import ImageScaler, NTKClassifier
        >>> images = np.random.default_rng(0).integers(0, 256, (6, 4, 4)).astype(np.uint8)
        >>> scaled = ImageScaler().fit_transform(images)
        >>> round(float(scaled.mean()) + 0.0, 12), round(float(scaled.std()), 12)
        (0.0, 1.0)
        >>> model = make_pipeline(ImageScaler(), NTKClassifier(zoo.vgg_like(1))).fit(images, [0, 0, 0, 1, 1, 1])
        >>> model.predict(images).tolist()
        [0, 0, 0, 1, 1, 1]
    """

    def fit(self, X: Any, y: Any = None) -> "ImageScaler":
        """Find the channels' means and standard deviations; X of shape (n, *S, c), (n, H, W) or (n, d)."""
        X = validate_data(self, X, dtype=np.float64, allow_nd=True)
        self.input_shape_ = X.shape[1:]
        columns = _channels(X)
        self.mean_ = columns.mean(axis=0)
        scale = columns.std(axis=0)
        # A constant channel's standard deviation is rounding, not information.
        constant = scale <= 10.0 * np.finfo(np.float64).eps * np.abs(columns).max(axis=0)
        self.scale_ = np.where(constant, 1.0, scale)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The images in these units, float64, of the same shape."""
        check_is_fitted(self)
        check_input_shape(type(self).__name__, X, self.input_shape_)
        X = validate_data(self, X, dtype=np.float64, allow_nd=True, reset=False)
        return ((_channels(X) - self.mean_[None, :]) / self.scale_[None, :]).reshape(X.shape)


def _channels(x: np.ndarray) -> np.ndarray:
    """All pixels of all images, one column for each channel."""
    return x.reshape(-1, x.shape[-1] if x.ndim > 3 else 1)
