"""Random functions, independent of each other: draws of a Gaussian process, or finite networks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.nn.base import Layer
from ntkit.numerics.dtypes import Array, as_points, is_concrete, precision
from ntkit.numerics.host import like
from ntkit.rkhs.centers import distinct
from ntkit.solvers import decompose
from ntkit.solvers.checks import check_gram

NETWORKS_AT_ONCE = 16
"""Networks drawn and evaluated together; more would only take more memory."""


class RandomFunctions(ABC):
    """Functions `f^(1), ..., f^(P)`, independent and identically distributed."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of functions, P."""

    @abstractmethod
    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        """`f^(p)(x_i)`, shape (n, P)."""


@dataclass(frozen=True, eq=False, repr=False)
class GaussianDraws(RandomFunctions):
    """Draws of a centred Gaussian process, jointly at declared points; nothing is known elsewhere."""

    points: np.ndarray
    values: Float[np.ndarray, "n p"]

    @classmethod
    def of(cls, kernel: Kernel, count: int, key: jax.Array, points: Any) -> "GaussianDraws":
        """Draw with covariance `kernel`; a singular covariance is no obstacle, and equal points get equal values.

        Raises:
            NotPositiveDefiniteError: when the kernel is none.
        """
        points = as_points("RandomFunctionModel.sample", points, "points")
        if not is_concrete(points):
            raise ValueError("RandomFunctionModel.sample needs concrete points, got values traced by JAX.")
        points = np.asarray(points)
        points = points[distinct(points)[0]]
        gram = np.asarray(kernel(points))
        check_gram("RandomFunctionModel.sample", gram, 0.0, repr(kernel))
        spectrum = decompose(gram, name=repr(kernel), who="RandomFunctionModel.sample")
        root = spectrum.eigenvectors * np.sqrt(np.maximum(spectrum.eigenvalues, 0.0))[None, :]
        with precision(np.float64):
            normal = np.array(jax.random.normal(key, (len(points), count), jnp.float64))
        return cls(points, root @ normal)

    def __repr__(self) -> str:
        return f"GaussianDraws({self.count} functions at {len(self.points)} points)"

    @property
    def count(self) -> int:
        return self.values.shape[1]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        x = as_points("GaussianDraws", x)
        known, features = self.points.shape
        if x.shape[1] != features or x.dtype != self.points.dtype or not is_concrete(x):
            raise ValueError(
                f"GaussianDraws needs concrete {self.points.dtype} points of {features} features, as declared, got "
                f"{x.dtype} of {x.shape[1]}."
            )
        positions = distinct(np.concatenate([self.points, np.asarray(x)]))[1][known:]
        missing = np.flatnonzero(positions >= known)
        if len(missing):
            raise ValueError(
                f"GaussianDraws needs points among the {known} at which it was drawn, got another in row {missing[0]} "
                "Declare training and test points together: model.sample(points)."
            )
        return like(self.values[positions], x)


@dataclass(frozen=True, eq=False, repr=False)
class NetworkDraws(RandomFunctions):
    """Finite networks with independent parameters, functions of any point.

    The parameters are drawn anew from the key at every evaluation, in float32 whatever the precision, so that a
    function is the same for float32 and float64 points and no parameters are kept.
    """

    network: Layer
    key: jax.Array
    size: int

    def __repr__(self) -> str:
        return f"NetworkDraws({self.size} of {self.network!r})"

    @property
    def count(self) -> int:
        return self.size

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        x = as_points("NetworkDraws", x)
        outputs = self.network.output_shape(x.shape)[-1]
        if outputs != 1:
            raise ValueError(
                f"NetworkDraws needs networks with one output, got {outputs}. End the network in Dense(1)."
            )
        keys = jax.random.split(self.key, self.size)
        parts = []
        for start in range(0, self.size, NETWORKS_AT_ONCE):
            with jax.enable_x64(False):
                params = _draw(self.network, keys[start : start + NETWORKS_AT_ONCE], x.shape)
            with precision(x.dtype):
                part = _outputs(self.network, params, jnp.asarray(x))
                parts.append(part if isinstance(x, jax.Array) else np.array(part))
        return (jnp if isinstance(x, jax.Array) else np).concatenate(parts, axis=1)


@partial(jax.jit, static_argnums=2)
def _draw(network: Layer, keys: jax.Array, shape: tuple[int, ...]) -> Any:
    return jax.vmap(lambda key: network.init(key, shape))(keys)


@jax.jit
def _outputs(network: Layer, params: Any, x: jax.Array) -> jax.Array:
    """The outputs of several networks, shape (n, networks)."""
    params = jax.tree_util.tree_map(lambda leaf: leaf.astype(x.dtype), params)
    return jax.vmap(lambda one: network.apply(one, x)[:, 0], out_axes=1)(params)
