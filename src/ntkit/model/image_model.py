"""A model of images: the encoder, the network, the training images with their Gram matrices, three distributions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.errors import ImageError
from ntkit.images.encode import ImageEncoder
from ntkit.images.image_set import ImageSet
from ntkit.model.fitted import Distribution, FittedModel
from ntkit.model.network_kernels import NetworkKernels
from ntkit.model.predictions import Predictions


@dataclass(frozen=True)
class ImageModel(FittedModel):
    """An infinitely wide network and what it learnt from images; attributes as of `FittedModel`, and two more.

    Kernels of images are dear, so the training images' Gram matrices are kept, and a prediction evaluates the kernels
    between new and training images alone.

    Attributes:
        nngp_gram: NNGP of the training images, shape (n, n).
        ntk_gram: NTK of the training images, shape (n, n).
    """

    encoder: ImageEncoder
    nngp_gram: Float[np.ndarray, "n n"] | None = None
    ntk_gram: Float[np.ndarray, "n n"] | None = None

    def predict(
        self, images: ImageSet, *, distribution: Distribution | None = None, time: float | None = None
    ) -> Predictions:
        """Predict the classes of images.

        Args:
            images: Images of the training images' size.
            distribution: Which distribution; the model's own by default.
            time: Training time of the ensemble, 0 to infinity; overrides `distribution`.

        Raises:
            ImageError: for images that do not fit, or a negative time.
        """
        if time is not None and not time >= 0.0:
            raise ImageError(f"Prediction needs a training time of at least 0, got {time}.")
        kernels = self.kernels(self.encoder.points(images))
        distribution = distribution or self.distribution
        if distribution == "posterior" and time is None:
            posterior = kernels.posterior(self.kernel, self.noise, self.y)
            return self.from_posterior(posterior, kernels.new)
        at = self.time_of(distribution) if time is None else time
        return self.from_flow(kernels.flow(self.y), kernels.new, at)

    def kernels(self, points: Float[np.ndarray, "m h w c"]) -> NetworkKernels:
        """Both kernels of the training images and of new ones."""
        if self.nngp_gram is None or self.ntk_gram is None:
            return NetworkKernels.stored(self.network, self.x, points)
        return NetworkKernels.stored(self.network, self.x, points, (self.nngp_gram, self.ntk_gram))
