"""Per-feature input scales: automatic relevance determination."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.nn.base import Layer
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import is_concrete
from ntkit.numerics.trees import pytree


@pytree()
@dataclass(frozen=True, eq=False)
class Scale(Layer):
    """Multiply feature i of the input by `scales[i]`: automatic relevance determination (MacKay 1994).

    It stands first in a `Serial`, or after `Mask`: on hidden layers of infinite width separate scales have no meaning
    of their own (they multiply `w_std` by their root mean square). The finite network keeps the scales
    fixed; learn them, as any leaf of the network, through the marginal likelihood.

    Args:
        scales: one finite number per input feature, shape (d,).

    Raises:
        ValueError: when `scales` is not a finite vector or does not fit the inputs.
    """

    scales: Any

    def __post_init__(self) -> None:
        scales = self.scales if isinstance(self.scales, jax.Array) else np.asarray(self.scales, dtype=float)
        if scales.ndim != 1 or scales.size == 0:
            raise ValueError(f"Scale needs scales of shape (features,), got shape {scales.shape}.")
        if is_concrete(scales) and not np.isfinite(np.asarray(scales)).all():
            raise ValueError(f"Scale needs finite scales, got {scales}.")
        object.__setattr__(self, "scales", scales)

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[()]:
        self._check(input_shape)
        return ()

    def apply(self, params: Any, x: Float[jax.Array, "*n c"]) -> Float[jax.Array, "*n c"]:
        return self.prepare(x)

    def prepare(self, x: Any) -> Any:
        self._check(x.shape)
        library = np if isinstance(x, np.ndarray) and is_concrete(self.scales) else jnp
        scales = library.asarray(self.scales, dtype=x.dtype)
        return x * scales.reshape((1,) * (x.ndim - 1) + scales.shape)

    @property
    def stands_first(self) -> bool:
        return True

    @property
    def homogeneity(self) -> float:
        return 1.0

    def propagate(self, state: KernelState) -> KernelState:
        """The scales already acted on the raw inputs."""
        return state

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape[-1] != self.scales.shape[0]:
            raise ValueError(
                f"Scale needs one scale per feature: got {self.scales.shape[0]} scales for inputs of shape {shape}."
            )
