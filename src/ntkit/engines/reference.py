"""The reference engine: the layers' own `propagate` on JAX arrays, tiled on a CPU, pure when traced."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from ntkit.engines import images
from ntkit.engines.images import Images, check_network
from ntkit.engines.inputs import PairStatistics, Points, pair_statistics, traced_state
from ntkit.engines.plan import TILE, Plan, make_plan, place, run
from ntkit.errors import KernelOverflowError
from ntkit.nn.base import Layer, through
from ntkit.nn.images import image_state, own_image_state, representative
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import precision

TEMPORARIES = 16
"""Arrays of a tile's size that XLA keeps while it computes one."""

MOST_VARIANCES = 64
"""At so many variances of inputs the orders of expansions are chosen."""


class Grams(NamedTuple):
    """Both kernels of one network between two sets of inputs; what was not asked for is None."""

    nngp: jax.Array | np.ndarray | None
    ntk: jax.Array | np.ndarray | None


@partial(jax.jit, static_argnames=("width", "ntk"))
def _tile(network: Layer, pairs: PairStatistics, var1, var2, *, width: int, ntk: bool) -> tuple:
    cov, defect, surplus = pairs
    zeros = jnp.zeros_like(cov) if ntk else None
    state = KernelState(cov, zeros, var1[:, None], var2[None, :], defect, surplus, width)
    state = network.propagate(state)
    return state.nngp, state.ntk


@partial(jax.jit, static_argnames=("width", "ntk"))
def _diagonal(network: Layer, var, *, width: int, ntk: bool) -> tuple:
    state = network.propagate(KernelState.diagonal(var, width, ntk))
    return state.nngp, state.ntk


def traced(network: Layer, x1, x2, *, ntk: bool) -> Grams:
    """Both kernels as a pure JAX function of the network and the inputs."""
    x1, present1 = _raw(network, x1)
    x2, present2 = (None, None) if x2 is None else _raw(network, x2)
    network = network.prepared
    if x1.ndim > 2:
        state = through(network, image_state(network, x1, x2, ntk, present1, present2))
    else:
        state = network.propagate(traced_state(x1, x2, ntk))
    grams = Grams(state.nngp, state.ntk)
    if not network.random or x2 is not None:
        return grams
    # Of an input with itself layers draw alike.
    itself, own = jnp.eye(len(x1), dtype=bool), _traced_diagonal(network, x1, present1, ntk=ntk)
    return Grams(
        *(
            None if gram is None or diagonal is None else jnp.where(itself, diagonal[:, None], gram)
            for gram, diagonal in zip(grams, own, strict=True)
        )
    )


def traced_diagonal(network: Layer, x, *, ntk: bool) -> Grams:
    """`traced` for every input with itself, shape (n,)."""
    x, present = _raw(network, x)
    return _traced_diagonal(network.prepared, x, present, ntk=ntk)


def _traced_diagonal(network: Layer, x, present, *, ntk: bool) -> Grams:
    if x.ndim > 2:
        state = through(network, own_image_state(network, x, ntk, present))
    else:
        var = jnp.sum(x * x, axis=1) / x.shape[1]
        state = network.propagate(KernelState.diagonal(var, x.shape[1], ntk))
    return Grams(state.nngp, state.ntk)


def concrete(network: Layer, x1: np.ndarray, x2: np.ndarray | None, *, ntk: bool, tile: int = TILE) -> Grams:
    """Both kernels of concrete inputs, tile by tile on all cores, in the inputs' dtype.

    Raises:
        KernelOverflowError: when a kernel value exceeds the dtype.
        MemoryError: when the result cannot fit.
    """
    return fill(prepare(network, x1, x2, ntk=ntk, tile=tile))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A Gram matrix about to be computed: everything checked, every point done by itself.

    Attributes:
        network: with the orders of its expansions chosen.
        points1: the rows.
        points2: the columns; the same object for a symmetric matrix.
        diagonals: both kernels of the rows, and of the columns where they differ, with themselves; None for images,
            of which it is no small part of the work.
        plan: the tiles.
        ntk: whether the tangent kernel is wanted.
    """

    network: Layer
    points1: Points | Images
    points2: Points | Images
    diagonals: Grams | None
    plan: Plan
    ntk: bool

    @property
    def features(self) -> int:
        """The number of features of a point, or of channels of an image."""
        return self.points1.x.shape[-1]

    @property
    def spatial(self) -> bool:
        """Whether the points are images."""
        return self.points1.x.ndim > 2

    @property
    def dtype(self) -> np.dtype:
        """The dtype of inputs and results."""
        return self.points1.x.dtype

    def empty(self) -> list[np.ndarray]:
        """Room for the results."""
        return [np.empty((self.plan.rows, self.plan.columns), self.dtype) for _ in range(1 + self.ntk)]


def prepare(
    network: Layer, x1: np.ndarray, x2: np.ndarray | None, *, ntk: bool, tile: int = TILE
) -> Prepared:
    """Check inputs, network and memory; propagate every point by itself.

    Raises:
        KernelOverflowError: when a kernel value exceeds the dtype.
        MemoryError: when the result cannot fit.
    """
    with precision(x1.dtype):
        x1, present1 = _raw(network, x1)
        x2, present2 = (None, None) if x2 is None else _raw(network, x2)
        network = network.prepared
        if x1.ndim > 2:
            images1 = Images.of(x1, present1)
            return _prepare_images(
                network, images1, None if x2 is None else Images.of(x2, present2), ntk, tile
            )
        points1 = Points.of(x1)
        points2 = points1 if x2 is None else Points.of(x2)
        both = points1.var if x2 is None else np.concatenate([points1.var, points2.var])
        network = adapted(network, both, x1.shape[1], ntk)
        diagonals = checked_diagonal(network, both, x1.shape[1], ntk)
    shape = (len(points1.var), len(points2.var))
    plan = make_plan(*shape, x2 is None, (1 + ntk) * x1.itemsize * shape[0] * shape[1], tile)
    return Prepared(network, points1, points2, diagonals, plan, ntk)


def _prepare_images(
    network: Layer, images1: Images, images2: Images | None, ntk: bool, tile: int
) -> Prepared:
    columns = images1 if images2 is None else images2
    network = adapted_to_images(network, images1 if images2 is None else images1.followed_by(images2), ntk)
    x, shape = images1.x, (len(images1.x), len(columns.x))
    side = images.tile_side(network, x.shape, x.itemsize, min(tile, max(shape)))
    plan = make_plan(*shape, images2 is None, (1 + ntk) * x.itemsize * shape[0] * shape[1], side)
    return Prepared(network, images1, columns, None, plan, ntk)


def fill(prepared: Prepared) -> Grams:
    """Both kernels by the layers' own `propagate`, compiled by XLA for one tile."""
    points1, points2, plan, ntk = prepared.points1, prepared.points2, prepared.plan, prepared.ntk
    grams = prepared.empty()

    def compute(rows: slice, columns: slice) -> None:
        left, right = points1.rows(rows), points2.rows(columns)
        result = _block(prepared, left, right, plan.symmetric and rows.start == columns.start)
        for gram, block in zip(grams, result, strict=False):
            place(plan, gram, rows, columns, np.asarray(block)[: len(left.var), : len(right.var)])

    with threadpool_limits(1 if plan.threads > 1 and len(plan) > 1 else None, user_api="blas"):
        run(plan, compute, "kernel")
    return with_own_diagonal(prepared, Grams(grams[0], grams[1] if ntk else None))


def with_own_diagonal(prepared: Prepared, grams: Grams) -> Grams:
    """Write every input's kernel with itself onto the diagonal, where other entries' formula would not tell it."""
    if prepared.plan.symmetric and (prepared.spatial or prepared.network.random):
        for gram, diagonal in zip(grams, own_kernels(prepared), strict=True):
            if isinstance(gram, np.ndarray):
                np.fill_diagonal(gram, diagonal)
    return grams


def own_kernels(prepared: Prepared) -> Grams:
    """Both kernels of every row with itself, shape (n,)."""
    points = prepared.points1
    if prepared.diagonals is not None:
        return Grams(*(None if gram is None else gram[: len(points.var)] for gram in prepared.diagonals))
    assert isinstance(points, Images)
    with precision(prepared.dtype):
        return _finite(images.diagonals(prepared.network, points, prepared.ntk), points.var)


def _block(prepared: Prepared, left: Points | Images, right: Points | Images, diagonal: bool) -> tuple:
    """Both kernels of one tile, perhaps enlarged."""
    side, network, ntk = prepared.plan.tile, prepared.network, prepared.ntk
    with precision(prepared.dtype):
        if isinstance(left, Points) and isinstance(right, Points):
            arguments = _padded(pair_statistics(left, right, diagonal), left.var, right.var)
            return _tile(network, *arguments, width=prepared.features, ntk=ntk)
        assert isinstance(left, Images)
        assert isinstance(right, Images)
        (x1, present1), (x2, present2) = left.enlarged(side), right.enlarged(side)
        return images.tile(network, x1, x2, present1, present2, ntk=ntk)


def working_bytes(prepared: Prepared) -> int:
    """Memory beside the results, approximately: XLA's temporaries for the tiles in progress."""
    plan, x = prepared.plan, prepared.points1.x
    entry = TEMPORARIES * x.itemsize
    if prepared.spatial:
        entry = images.bytes_per_pair(prepared.network, x.shape, x.itemsize)
    return plan.threads * entry * plan.tile**2


def concrete_diagonal(network: Layer, x: np.ndarray, *, ntk: bool) -> Grams:
    """`concrete` for every input with itself, shape (n,)."""
    with precision(x.dtype):
        x, present = _raw(network, x)
        network = network.prepared
        if x.ndim > 2:
            points = Images.of(x, present)
            network = adapted_to_images(network, points, ntk)
            return _finite(images.diagonals(network, points, ntk), points.var)
        var = Points.of(x).var
        network = adapted(network, var, x.shape[1], ntk)
        return checked_diagonal(network, var, x.shape[1], ntk)


def adapted(network: Layer, var: np.ndarray, width: int, ntk: bool) -> Layer:
    """The network with the orders of its expansions chosen for these input variances."""
    if not network.adaptable:
        return network
    with precision(np.float64):
        state = KernelState.diagonal(jnp.asarray(_representative(var)), width, ntk)
        return network.adapt(state, float(np.finfo(var.dtype).eps))


def adapted_to_images(network: Layer, points: Images, ntk: bool) -> Layer:
    """The network with the orders of its expansions chosen for some of these images, of small and large contrast."""
    if not network.adaptable:
        return network
    with precision(np.float64):
        some = representative(points.x)
        present = None if points.present is None else points.present[some]
        state = own_image_state(network, jnp.asarray(points.x[some], np.float64), ntk, present)
        return network.adapt(state, float(np.finfo(points.x.dtype).eps))


def _representative(var: np.ndarray) -> np.ndarray:
    """The variances, or as many as `MOST_VARIANCES` from the smallest to the largest, evenly on a logarithmic scale.

    What an order of an expansion leaves out changes slowly with the variance.
    """
    different = np.unique(var).astype(np.float64)
    if len(different) <= MOST_VARIANCES:
        return different
    positive = different[different > 0]
    grid = np.geomspace(positive[0], positive[-1], MOST_VARIANCES - 1)
    return np.unique(np.concatenate([different[:1], np.clip(grid, positive[0], positive[-1])]))


def checked_diagonal(network: Layer, var: np.ndarray, width: int, ntk: bool) -> Grams:
    """Both kernels of every input with itself; they bound all other entries, so overflow shows here."""
    padded = np.pad(var, (0, _bucket(len(var)) - len(var)))
    result = _diagonal(network, padded, width=width, ntk=ntk)
    return _finite([None if gram is None else np.array(gram)[: len(var)] for gram in result], var)


def _finite(diagonals: Sequence[np.ndarray | None], var: np.ndarray) -> Grams:
    """Both kernels of every input with itself, if they are numbers; `var` is the inputs' mean square."""
    grams = Grams(*diagonals)
    for name, gram in zip(("nngp", "ntk"), grams, strict=True):
        if gram is not None and not np.isfinite(gram).all():
            worst = int(np.flatnonzero(~np.isfinite(gram))[0])
            remedy = "Use float64, a" if gram.dtype == np.float32 else "Use a"
            raise KernelOverflowError(
                f"The {name} kernel of point {worst} needs more than {gram.dtype} can hold (its input variance is "
                f"{var[worst]:.3g}). {remedy} smaller w_std, fewer layers or standardised inputs."
            )
    return grams


def _bucket(size: int) -> int:
    """The next power of two: arrays padded to few sizes share their compiled programs."""
    return max(16, 1 << (size - 1).bit_length())


def _padded(pairs: PairStatistics, var1: np.ndarray, var2: np.ndarray) -> tuple:
    """A tile enlarged to bucket sizes with inputs that are zero."""
    down, across = _bucket(len(var1)) - len(var1), _bucket(len(var2)) - len(var2)
    if not (down or across):
        return pairs, var1, var2
    edges = ((0, down), (0, across))
    blank = PairStatistics(0.0, 1.0, 1.0)  # type: ignore[arg-type]
    padded = (np.pad(array, edges, constant_values=value) for array, value in zip(pairs, blank, strict=True))
    return PairStatistics(*padded), np.pad(var1, edges[0]), np.pad(var2, edges[1])


def _raw(network: Layer, x) -> tuple:
    """The inputs after the network's layers on raw inputs, and which of their pixels exist, if not all.

    Raises:
        ValueError: when inputs of this shape do not fit the network.
    """
    check_network(network, x.shape)
    return network.prepare(x), network.present(x)
