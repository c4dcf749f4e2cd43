"""Derivatives of every output with respect to places in the graph, all outputs in one sweep where that works."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.graph import GradientEdge


def cotangents(result: torch.Tensor, places: Sequence[torch.Tensor | GradientEdge]) -> list[torch.Tensor]:
    """`∂ Σ_i f_io / ∂ place` for every output o, shape (k, *place): all outputs at once, or one by one."""
    n, k = result.shape
    ends: Any = list(places)
    unit = torch.eye(k, dtype=result.dtype, device=result.device)[:, None, :].expand(k, n, k)
    try:
        with warnings.catch_warnings():
            # An operation without a rule for batches would run in a slow loop inside: the loop below is faster.
            warnings.filterwarnings("error", message="There is a performance drop")
            return list(torch.autograd.grad(result, ends, unit, retain_graph=True, is_grads_batched=True))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, UserWarning, NotImplementedError):
        rows = [torch.autograd.grad(result, ends, unit[o], retain_graph=o + 1 < k) for o in range(k)]
        return [torch.stack(row) for row in zip(*rows, strict=True)]
