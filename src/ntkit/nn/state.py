"""What flows from layer to layer in the infinite-width limit: both kernels of a block of pairs of inputs.

Images keep their pixels: a block is laid out over pairs of images and, for each, over "pixels" (the same pixel of both)
or over "pairs" (every pixel of the one with every pixel of the other). Everything broadcasts against `nngp`, so that
what acts on each pair alone, such as an activation, never asks which.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.trees import pytree

Layout = Literal["pixels", "pairs"]


@pytree("width", "same", "spatial", "layout", "centred")
@dataclass(frozen=True)
class KernelState:
    """Covariances of one layer's values between two sets of inputs.

    With spatial axes S (none for vectors), a block over "pixels" has the shape (n1, n2, *S), one over "pairs"
    (n1, n2, *S, *S). Of a block of inputs with themselves, `same`, there is one axis (n,) in place of (n1, n2).

    Attributes:
        nngp: covariance `Sigma(x, x')` of one unit; shape (n1, n2), or (n,) for a diagonal.
        ntk: tangent kernel `Theta(x, x')`, the same shape; None when it is not asked for.
        var1: `Sigma(x, x)`, shape (n1, 1), (n1, 1, *S) or (n1, 1, *S, *1s); None where covariances between the
            pixels of one image, which would be needed, are not followed.
        var2: `Sigma(x', x')`, shape (1, n2), (1, n2, *S) or (1, n2, *1s, *S), or None.
        defect: `1 - rho` with `rho = Sigma(x, x') / sqrt(Sigma(x, x) Sigma(x', x'))`, the shape of `nngp`, or None.
        surplus: `1 + rho`, the shape of `nngp`, or None.
        width: units of the layer (features of the input), a whole number unless it is traced; only the standard
            parametrisation and concatenation need it.
        same: whether every input is paired with itself.
        spatial: the number of spatial axes, 0 for vectors.
        layout: of the spatial axes.
        own1: the first images with themselves, over pairs of pixels; None unless a later layer needs them.
        own2: the same of the second images.
        present1: which pixels of the first images exist, shape (n1, *S); None for all. Elsewhere all is 0.
        present2: the same of the second images, shape (n2, *S).
        mean1: first moment of one unit, `E f(x)`, the shape of `var1`; None where it is zero or not known.
        mean2: `E f(x')`, the shape of `var2`, or None.
        centred: whether it is known to be zero.
    """

    nngp: Any
    ntk: Any
    var1: Any
    var2: Any
    defect: Any
    surplus: Any
    width: Any
    same: bool = False
    spatial: int = 0
    layout: Layout = "pixels"
    own1: Any = None
    own2: Any = None
    present1: Any = None
    present2: Any = None
    mean1: Any = None
    mean2: Any = None
    centred: bool = False

    @property
    def pair(self) -> GaussianPair:
        """The two Gaussian variables whose expectation an activation takes.

        Raises:
            ValueError: where variances are not followed.
        """
        if self.var1 is None:
            raise ValueError(
                "A layer after pooling needs variances, got a state without `own1` and `own2`. Evaluate the whole "
                "network by NNGP(network) or NTK(network), which follow them."
            )
        return GaussianPair(self.nngp, self.var1, self.var2, self.defect, self.surplus)

    @property
    def alike(self) -> bool:
        """Whether the two values of every entry are one and the same, so that the variances tell all."""
        return self.same and self.layout == "pixels"

    @property
    def batch(self) -> int:
        """The number of axes before the spatial ones."""
        return 1 if self.same else 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the spatial axes."""
        return self.nngp.shape[self.batch : self.batch + self.spatial]

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        """For each spatial axis where it stands in `nngp`: once over pixels, twice over pairs."""
        sides = 2 if self.layout == "pairs" else 1
        return tuple(
            tuple(self.batch + side * self.spatial + axis for side in range(sides))
            for axis in range(self.spatial)
        )

    @property
    def variances(self) -> tuple[jax.Array, jax.Array]:
        """`var1` and `var2` with each spatial axis once, shapes (n1, 1, *S) and (1, n2, *S)."""
        return self._once(self.var1, self.var2)

    @property
    def means(self) -> tuple[jax.Array, jax.Array]:
        """`mean1` and `mean2` with each spatial axis once, shapes (n1, 1, *S) and (1, n2, *S)."""
        return self._once(self.mean1, self.mean2)

    def _once(self, side1: jax.Array, side2: jax.Array) -> tuple[jax.Array, jax.Array]:
        if self.layout == "pixels":
            return side1, side2
        first, end = self.batch, self.batch + self.spatial
        return (
            side1.reshape(side1.shape[:end]),
            side2.reshape(side2.shape[:first] + side2.shape[end:]),
        )

    def along1(self, values: jax.Array) -> jax.Array:
        """Values of each pixel of the first images, shape (..., *S), broadcastable to `nngp`."""
        return values.reshape(values.shape + self._ones)

    def along2(self, values: jax.Array) -> jax.Array:
        """Values of each pixel of the second images, shape (..., *S), broadcastable to `nngp`."""
        split = values.ndim - self.spatial
        return values.reshape(values.shape[:split] + self._ones + values.shape[split:])

    @property
    def same_pixel(self) -> jax.Array:
        """Over pairs: which entries are of one pixel of both images; broadcastable to `nngp`."""
        pixels = prod(self.shape)
        return jnp.eye(pixels, dtype=bool).reshape((1,) * self.batch + self.shape * 2)

    @property
    def at_pixels(self) -> "KernelState":
        """The state over equal pixels alone."""
        if self.layout == "pixels":
            return self
        parts = (self.nngp, self.ntk, self.defect, self.surplus)
        nngp, ntk, defect, surplus = (
            None if part is None else pixel_diagonal(part, self.axes) for part in parts
        )
        var1, var2 = (None, None) if self.var1 is None else self.variances
        mean1, mean2 = (None, None) if self.mean1 is None else self.means
        return replace(
            self,
            nngp=nngp,
            ntk=ntk,
            defect=defect,
            surplus=surplus,
            var1=var1,
            var2=var2,
            mean1=mean1,
            mean2=mean2,
            layout="pixels",
        )

    @property
    def uncorrelated_pixels(self) -> "KernelState":
        """Over pairs: a state over equal pixels whose different pixels are uncorrelated."""
        after = replace(self, layout="pairs")
        itself = self.same_pixel

        def spread(part: Any, elsewhere: float) -> Any:
            return (
                None
                if part is None
                else jnp.where(itself, part.reshape(part.shape + (1,) * self.spatial), elsewhere)
            )

        return replace(
            after,
            nngp=spread(self.nngp, 0.0),
            ntk=spread(self.ntk, 0.0),
            defect=spread(self.defect, 1.0),
            surplus=spread(self.surplus, 1.0),
            var1=None if self.var1 is None else after.along1(self.var1),
            var2=None if self.var2 is None else after.along2(self.var2),
            mean1=None if self.mean1 is None else after.along1(self.mean1),
            mean2=None if self.mean2 is None else after.along2(self.mean2),
        )

    @property
    def weighted(self) -> "KernelState":
        """The state with the mean that values have after weights: zero."""
        return replace(self, mean1=None, mean2=None, centred=True)

    def with_means(
        self, change: Callable[[jax.Array, int], jax.Array], before: "KernelState"
    ) -> "KernelState":
        """The state with `change(mean, side)` of each mean `before`; both have each spatial axis once."""
        if before.mean1 is None:
            return replace(self, mean1=None, mean2=None)
        mean1, mean2 = (change(mean, side) for side, mean in enumerate(before.means))
        return replace(self, mean1=self.along1(mean1), mean2=self.along2(mean2))

    @property
    def _ones(self) -> tuple[int, ...]:
        return (1,) * self.spatial if self.layout == "pairs" else ()

    def with_variances(self, var1: jax.Array, var2: jax.Array) -> "KernelState":
        """The state with these variances, shapes (n1, 1, *S) and (1, n2, *S), and the correlation they imply.

        By subtraction, accurate relative to 1: what is within rounding of coincidence or opposition counts as such.
        """
        var1, var2 = self.along1(var1), self.along2(var2)
        pair = GaussianPair.of(self.nngp, var1, var2)
        noise = 64.0 * float(jnp.finfo(self.nngp.dtype).eps)
        defect, surplus = (
            jnp.where(distance < noise, 0.0, distance) for distance in (pair.defect, pair.surplus)
        )
        return replace(self, var1=var1, var2=var2, defect=defect, surplus=surplus)

    def kept(self, present1: Any, present2: Any) -> "KernelState":
        """The state of images of which these pixels exist, shapes (n1, *S) and (n2, *S), and all others are 0."""
        if present1 is None or not self.spatial:
            return replace(self, present1=None, present2=None)
        after = replace(self, present1=present1, present2=present2)
        side1, side2 = after.presences
        return after.nothing_but(after.along1(side1), after.along2(side2))

    @property
    def presences(self) -> tuple[Any, Any]:
        """`present1` and `present2` with the axes of `variances`, shapes (n1, 1, *S) and (1, n2, *S)."""
        if self.present1 is None or self.same:
            return self.present1, self.present2
        return self.present1[:, None], self.present2[None]

    def nothing_but(self, side1: jax.Array, side2: jax.Array) -> "KernelState":
        """The state of values that are 0 but where these tell otherwise, broadcastable to `var1` and `var2`."""

        def keep(values: Any, present: jax.Array, otherwise: float) -> Any:
            return None if values is None else jnp.where(present, values, otherwise)

        both = side1 & side2
        return replace(
            self,
            nngp=keep(self.nngp, both, 0.0),
            ntk=keep(self.ntk, both, 0.0),
            var1=keep(self.var1, side1, 0.0),
            var2=keep(self.var2, side2, 0.0),
            defect=keep(self.defect, both, 1.0),
            surplus=keep(self.surplus, both, 1.0),
            mean1=keep(self.mean1, side1, 0.0),
            mean2=keep(self.mean2, side2, 0.0),
        )

    def with_covariances(self, nngp: jax.Array, ntk: Any) -> "KernelState":
        """The state with other kernels over pairs of pixels, or of vectors.

        Variances are those of `nngp` itself in a block of images with themselves, and left open otherwise.
        """
        spatial = (nngp.ndim - self.batch) // 2
        after = replace(
            self,
            nngp=nngp,
            ntk=ntk,
            var1=None,
            var2=None,
            defect=None,
            surplus=None,
            spatial=spatial,
            layout="pairs" if spatial else "pixels",
            own1=None,
            own2=None,
        )
        if not self.same:
            return after
        var = pixel_diagonal(nngp, after.axes) if spatial else nngp
        return after.with_variances(var, var)

    @classmethod
    def diagonal(cls, var: jax.Array, width: int, ntk: bool = True) -> "KernelState":
        """The state of vectors, or of pixels, paired with themselves before the first layer; shape (n, *S)."""
        pair = GaussianPair.same(var)
        return cls(
            pair.cov,
            jnp.zeros_like(var) if ntk else None,
            pair.var1,
            pair.var2,
            pair.defect,
            pair.surplus,
            width,
            same=True,
            spatial=var.ndim - 1,
        )


def pixel_diagonal(array: jax.Array, axes: tuple[tuple[int, ...], ...]) -> jax.Array:
    """The entries of an array over pairs of pixels where both are the same pixel, one axis for each of `axes`."""
    spatial = len(axes)
    first = axes[0][0]
    sizes = array.shape[first : first + spatial]
    if not spatial or len(axes[0]) == 1:
        return array
    pixels = prod(sizes)
    flat = array.reshape(*array.shape[:first], pixels, pixels)
    return jnp.diagonal(flat, axis1=-2, axis2=-1).reshape(*array.shape[:first], *sizes)
