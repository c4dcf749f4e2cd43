"""Derivatives of every output with respect to places in the graph, all outputs in one sweep or one after another."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

Places = Sequence[torch.Tensor | GradientEdge]


def sweeps(
    result: torch.Tensor, places: Places, together: bool
) -> Iterator[tuple[slice, list[torch.Tensor]]]:
    """`∂ Σ_i f_io / ∂ place` for some outputs o at a time: which, and arrays (outputs, *place).

    One sweep for all outputs spares the steps between them, but copies what operations have kept, once per output;
    where an array is large, one output after another is faster and leaves little in memory.
    """
    if together:
        found = _together(result, places)
        if found is not None:
            yield slice(None), found
            return
    k = result.shape[1]
    unit = torch.eye(k, dtype=result.dtype, device=result.device)[:, None, :].expand(k, *result.shape)
    for o in range(k):
        found = torch.autograd.grad(result, _ends(places), unit[o], retain_graph=o + 1 < k)
        yield slice(o, o + 1), [value[None] for value in found]


def cotangents(result: torch.Tensor, places: Places) -> list[torch.Tensor]:
    """`∂ Σ_i f_io / ∂ place` for every output o, shape (k, *place)."""
    found = [values for _, values in sweeps(result, places, True)]
    return found[0] if len(found) == 1 else [torch.cat(values) for values in zip(*found, strict=True)]


def _together(result: torch.Tensor, places: Places) -> list[torch.Tensor] | None:
    """All at once; None where an operation has no rule for batches."""
    n, k = result.shape
    unit = torch.eye(k, dtype=result.dtype, device=result.device)[:, None, :].expand(k, n, k)
    try:
        with warnings.catch_warnings():
            # Such an operation would run in a slow loop inside: ours is faster.
            warnings.filterwarnings("error", message="There is a performance drop")
            return list(
                torch.autograd.grad(result, _ends(places), unit, retain_graph=True, is_grads_batched=True)
            )
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, UserWarning, NotImplementedError):
        return None


def _ends(places: Places) -> Any:
    return list(places)
