"""Batch normalisation: why it has no kernel, and what to take instead."""


class BatchNorm:
    """Batch normalisation is refused: what it makes of an input depends on the whole batch.

    In training mode the layer subtracts each unit's mean over the batch and divides by its standard deviation. At
    infinite width the covariances of a batch of B inputs remain a function of their B x B matrix before the layer, for
    ReLU units behind it `E[phi(sqrt(B) G z / |G z|) phi(...)^T]` with `z ~ N(0, nngp)` and `G = 1 - 11^T / B`
    (Yang et al. 2019, "A mean field theory of batch normalization"). An entry of it changes with every other input, so
    there is no kernel K(x, x') of two inputs; moreover, without residual connections, gradients grow exponentially in
    depth for any activation and any standard deviations (the same paper).

    In evaluation mode, with a mean and a standard deviation s fixed beforehand, the layer is an affine map: divide
    `w_std` and `b_std` of the Dense or Conv layer before it by s. `LayerNorm` normalises every input by itself, and has
    a limit.

    Args:
        axes: over which the mean would be taken.
        eps: what would be added to the variance.

    Raises:
        ValueError: always.

    >>> from ntkit import nn
    >>> nn.BatchNorm()
    Traceback (most recent call last):
    ValueError: BatchNorm has no infinite-width kernel K(x, x') of two inputs: ...
    """

    def __init__(self, axes: tuple[int, ...] = (0,), eps: float = 1e-5) -> None:
        raise ValueError(
            "BatchNorm has no infinite-width kernel K(x, x') of two inputs: with the batch's own mean and variance an "
            "output depends on every input of the batch (Yang et al. 2019). Use LayerNorm(), which normalises each "
            "input by itself; for statistics fixed beforehand, divide w_std and b_std of the layer before by their "
            "standard deviation."
        )
