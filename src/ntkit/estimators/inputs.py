"""What estimators take for inputs: vectors for dense networks, images for networks that have a place for them."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.nn.base import Layer


def as_network_inputs(
    who: str, network: Layer | None, x: Float[np.ndarray, "n *d"]
) -> Float[np.ndarray, "n *shape"]:
    """Inputs of the shape that a network asks for: images without channels, shape (n, H, W), get one if need be.

    Args:
        who: for messages.
        network: the network; None for a dense one that is still to be built or chosen, which takes vectors.
        x: vectors, shape (n, d), or images, shape (n, *S, c) or (n, H, W).

    Raises:
        ValueError: naming X, the network's own objection, and the remedy.
    """
    if network is None:
        if x.ndim > 2:
            raise ValueError(
                f"{who} needs a network for X of images, got none and X of shape {x.shape} (select=True chooses among "
                "dense networks only). Name one, such as network=ntkit.zoo.vgg_like(2), or use the pixels as features: "
                "X.reshape(len(X), -1)."
            )
        return x
    objection = _objection(network, x.shape)
    if objection is None:
        return x
    if x.ndim == 3 and _objection(network, (*x.shape, 1)) is None:
        return x[..., None]
    if x.ndim == 2:
        remedy = (
            "A network of convolutions sees images: give X as (images, height, width, channels), for example "
            "X.reshape(-1, 8, 8, 1); for a table use dense layers."
        )
    else:
        remedy = (
            "Images are (images, height, width) or (images, *pixels, channels). Dense layers see one vector an image: "
            "put ntkit.nn.Flatten() before them, or use X.reshape(len(X), -1)."
        )
    raise ValueError(
        f"{who} needs X and network to fit, got X of shape {x.shape}. The network says: {objection} {remedy}"
    )


def check_input_shape(who: str, x: Any, shape: tuple[int, ...]) -> None:
    """Raise when images at prediction are not of the training images' shape; vectors are scikit-learn's business.

    Raises:
        ValueError: naming both shapes.
    """
    given = np.shape(x)[1:] if hasattr(x, "shape") or isinstance(x, list | tuple) else ()
    if max(len(shape), len(given)) > 1 and given != shape:
        raise ValueError(
            f"{who} needs X of inputs of shape {shape}, as at fit, got inputs of shape {given}. Resize or reshape them."
        )


def _objection(network: Layer, shape: tuple[int, ...]) -> str | None:
    """What a network has against inputs of a shape, or None."""
    try:
        after = network.output_shape(shape)
    except ValueError as error:
        return str(error)
    if len(after) != 2:
        return f"its outputs have shape {after}, not one vector a point."
    return None
