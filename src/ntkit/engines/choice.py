"""Which engine computes a Gram matrix of numbers, and why."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ntkit.engines import reference
from ntkit.engines.fused import engine as fused_engine
from ntkit.engines.fused.engine import Fused
from ntkit.engines.reference import Grams, Prepared
from ntkit.errors import FusionError
from ntkit.nn.base import Layer

Engine = Literal["auto", "reference", "fused"]

WORTH_COMPILING = 2**20
"""From so many entries on the fused engine's compilation, seconds the first time, is sure to pay."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The engine for one Gram matrix.

    Attributes:
        engine: "reference" or "fused".
        reason: why this one.
        fused: the compiled network, None for the reference engine.
    """

    engine: Literal["reference", "fused"]
    reason: str
    fused: Fused | None


def choose(prepared: Prepared, engine: str) -> Choice:
    """The engine for a prepared Gram matrix.

    Raises:
        FusionError: when the fused engine is asked for and cannot run the network; the text says why.
        ValueError: for an unknown engine.
    """
    if engine not in ("auto", "reference", "fused"):
        raise ValueError(f'A kernel needs engine "auto", "reference" or "fused", got {engine!r}.')
    if engine == "reference":
        return Choice("reference", "asked for", None)
    entries = prepared.plan.rows * prepared.plan.columns
    if engine == "auto" and entries < WORTH_COMPILING:
        return Choice("reference", f"{entries} entries do not repay compiling", None)
    try:
        fused = fused_engine.fuse(prepared.network, prepared.features, prepared.dtype, prepared.ntk)
    except FusionError as reason:
        if engine == "fused":
            raise FusionError(f'engine="fused" cannot run this network: {reason}.') from None
        return Choice("reference", f"the fused engine cannot run it: {reason}", None)
    return Choice("fused", "asked for" if engine == "fused" else "every layer can be fused", fused)


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
    chosen = choose(prepared, engine)
    return reference.fill(prepared) if chosen.fused is None else fused_engine.fill(chosen.fused, prepared)
