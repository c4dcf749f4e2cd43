"""Which engine computes a Gram matrix of numbers, why, and what that will cost."""

import time
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from ntkit.engines import reference
from ntkit.engines.angles import tabulated
from ntkit.engines.fused import engine as fused_engine
from ntkit.engines.fused import images as fused_images
from ntkit.engines.fused.engine import Fused
from ntkit.engines.fused.image_program import FusedImages, fuse_images
from ntkit.engines.plan import Plan
from ntkit.engines.reference import Grams, Prepared
from ntkit.errors import FusionError
from ntkit.nn.activations.expansion import Expansion
from ntkit.nn.base import Layer
from ntkit.nn.law import Law
from ntkit.nn.serial import Serial

Engine = Literal["auto", "reference", "fused"]

WORTH_COMPILING = 2**20
"""From so many entries on the fused engine's compilation, seconds the first time, is sure to pay."""

WORTH_COMPILING_EXPANSIONS = 2**18
"""The same for networks with an expansion, whose entries cost ten times as much."""

WORTH_COMPILING_IMAGES = 2**22
"""The same in pairs of pixels for networks on images."""

SAMPLE = 512
"""Points whose Gram matrix is timed to estimate the time of a larger one."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The engine for one Gram matrix.

    Attributes:
        engine: "reference" or "fused".
        reason: why this one.
        plan: the tiles.
        fused: the compiled network, None for the reference engine.
    """

    engine: Literal["reference", "fused"]
    reason: str
    plan: Plan
    fused: Fused | FusedImages | None

    def fill(self, prepared: Prepared) -> Grams:
        """The Gram matrices."""
        if self.fused is None:
            return reference.fill(prepared)
        if isinstance(self.fused, FusedImages):
            return fused_images.fill(self.fused, prepared, self.plan)
        return reference.with_own_diagonal(prepared, fused_engine.fill(self.fused, prepared, self.plan))


@dataclass(frozen=True)
class Execution:
    """How a Gram matrix will be computed; as a string, a sentence a line.

    Attributes:
        engine: "reference" or "fused".
        reason: why this one.
        rows: number of rows.
        columns: number of columns.
        symmetric: whether only one triangle is computed.
        tile: side of a tile.
        threads: tiles in progress at a time.
        result_bytes: memory of the finished matrices.
        working_bytes: memory beside them, approximately.
        seconds: estimated time, from a block of at most 512 x 512 entries timed just now; compiling, the first time,
            is not in it.
    """

    engine: str
    reason: str
    rows: int
    columns: int
    symmetric: bool
    tile: int
    threads: int
    result_bytes: int
    working_bytes: int
    seconds: float

    def __str__(self) -> str:
        half = ", one triangle of it" if self.symmetric else ""
        return (
            f"{self.rows} x {self.columns} entries{half}\n"
            f"{self.engine} engine: {self.reason}\n"
            f"tiles of {self.tile} x {self.tile} on {self.threads} threads\n"
            f"{self.result_bytes / 2**20:.1f} MiB for the result, "
            f"about {self.working_bytes / 2**20:.1f} MiB beside it\n"
            f"about {self.seconds:.2g} s once compiled"
        )


def choose(prepared: Prepared, engine: str) -> Choice:
    """The engine for a prepared Gram matrix.

    Raises:
        FusionError: when the fused engine is asked for and cannot run the network; the text says why.
        ValueError: for an unknown engine.
    """
    if engine not in ("auto", "reference", "fused"):
        raise ValueError(f'A kernel needs engine "auto", "reference" or "fused", got {engine!r}.')
    plan = prepared.plan
    if engine == "reference":
        return Choice("reference", "asked for", plan, None)
    work, units, least = _work(prepared)
    if engine == "auto" and work < least:
        return Choice("reference", f"{work} {units} do not repay compiling", plan, None)
    try:
        return _fused_for_images(prepared) if prepared.spatial else _fused_for_vectors(prepared)
    except FusionError as reason:
        if engine == "fused":
            raise FusionError(f'engine="fused" cannot run this network: {reason}.') from None
        return Choice("reference", f"the fused engine cannot run it: {reason}", plan, None)


def _work(prepared: Prepared) -> tuple[int, str, int]:
    """How much there is to do, of what, and how much of it repays compiling."""
    plan, network = prepared.plan, prepared.network
    entries = plan.rows * plan.columns
    if not prepared.spatial:
        return entries, "entries", _worth_compiling(network)
    pixels = prod(prepared.points1.x.shape[1:-1])
    pairs = entries * (pixels**2 if network.mixes_pixels else pixels)
    return pairs, "pairs of pixels", WORTH_COMPILING_IMAGES


def _fused_for_vectors(prepared: Prepared) -> Choice:
    table = tabulated(prepared)
    if table is None:
        _check_means(prepared.network)
        network, reason = prepared.network, "every layer can be fused"
    else:
        network, reason = table, f"a function of the angle between two points, {len(table.nngp)} terms"
    fused = fused_engine.fuse(network, prepared.features, prepared.dtype, prepared.ntk)
    return Choice("fused", reason, fused_engine.tiled(prepared.plan), fused)


def _fused_for_images(prepared: Prepared) -> Choice:
    _check_means(prepared.network)
    fused = fuse_images(prepared.network, prepared.points1.x.shape[1:], prepared.dtype, prepared.ntk)
    plan = fused_images.tiled(fused, prepared.plan)
    return Choice("fused", "planes of pixel pairs of one offset", plan, fused)


def _check_means(network: Layer) -> None:
    """Raise for a network in which means have to be followed from layer to layer.

    Raises:
        FusionError: saying so.
    """
    if network.needs_means(Law.inputs()):
        raise FusionError("a sum needs the means of its summands, which only the reference engine follows")


def _worth_compiling(network: Layer) -> int:
    layers = network.layers if isinstance(network, Serial) else (network,)
    expanded = any(isinstance(layer, Expansion) for layer in layers)
    return WORTH_COMPILING_EXPANSIONS if expanded else WORTH_COMPILING


def concrete(
    network: Layer, x1: np.ndarray, x2: np.ndarray | None, *, ntk: bool, engine: Engine = "auto"
) -> Grams:
    """Both kernels of concrete inputs by the engine that suits them.

    Raises:
        KernelOverflowError: when a kernel value exceeds the dtype.
        FusionError: when the fused engine is asked for and cannot run the network.
        MemoryError: when the result cannot fit.
    """
    prepared = reference.prepare(network, x1, x2, ntk=ntk)
    return choose(prepared, engine).fill(prepared)


def concrete_diagonal(network: Layer, x: np.ndarray, *, ntk: bool) -> Grams:
    """Both kernels of every concrete input with itself, shape (n,), by the engine that suits them.

    Raises:
        KernelOverflowError: when a kernel value exceeds the dtype.
    """
    if x.ndim == 2:
        return reference.concrete_diagonal(network, x, ntk=ntk)
    # One column is as much work as a diagonal.
    prepared = reference.prepare(network, x, x[:1], ntk=ntk)
    if prepared.spatial:
        fused = choose(prepared, "auto").fused
        if isinstance(fused, FusedImages):
            return fused_images.diagonal(fused, prepared.points1.x, prepared.plan.threads)
    return reference.own_kernels(prepared)


def execution(
    network: Layer, x1: np.ndarray, x2: np.ndarray | None, *, ntk: bool, engine: Engine = "auto"
) -> Execution:
    """How `concrete` would compute the Gram matrices of these inputs, timed on a part of them.

    Raises:
        What `concrete` raises.
    """
    prepared = reference.prepare(network, x1, x2, ntk=ntk)
    chosen = choose(prepared, engine)
    count = 2 * prepared.plan.tile if prepared.spatial else SAMPLE
    sample = reference.prepare(network, x1[:count], None if x2 is None else x2[:count], ntk=ntk)
    part = choose(sample, chosen.engine)
    part.fill(sample)
    start = time.perf_counter()
    part.fill(sample)
    elapsed = time.perf_counter() - start
    plan, small = chosen.plan, sample.plan
    grams = 1 + ntk
    if chosen.fused is None:
        working = reference.working_bytes(prepared)
    elif isinstance(chosen.fused, FusedImages):
        working = fused_images.working_bytes(chosen.fused, plan)
    else:
        working = fused_engine.working_bytes(chosen.fused, plan, grams)
    return Execution(
        chosen.engine,
        chosen.reason,
        plan.rows,
        plan.columns,
        plan.symmetric,
        plan.tile,
        plan.threads,
        grams * x1.itemsize * plan.rows * plan.columns,
        working,
        elapsed * (plan.rows * plan.columns) / (small.rows * small.columns),
    )
