"""Whole gradients of parameters that enter in any other way: torch.func over examples, or one example at a time."""

import warnings
from collections.abc import Sequence

import torch
from torch.func import jacrev, vmap

from ntkit.torch.cotangents import cotangents
from ntkit.torch.inputs import Batch
from ntkit.torch.network import Network


def ordinary_rows(network: Network, names: Sequence[str], batch: Batch) -> dict[str, torch.Tensor]:
    """`∂f_o(x_i)/∂θ` of each named parameter, shape (n, k, p)."""
    chosen = {name: network.chosen[name].detach() for name in names}
    rest = {name: value.detach() for name, value in network.chosen.items() if name not in chosen}

    def single(parameters: dict, values: dict) -> torch.Tensor:
        point = Batch({key: value[None] for key, value in values.items()}, batch.named, batch.numpy)
        return network({**rest, **parameters}, point)[0]

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="There is a performance drop")
            found = vmap(jacrev(single), in_dims=(None, 0))(chosen, batch.values)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, UserWarning, NotImplementedError, ValueError, TypeError, AttributeError):
        # Control flow that looks at numbers, or an operation without a rule for batches.
        found = _one_by_one(network, chosen, rest, batch)
    return {name: value.flatten(2) for name, value in found.items()}


def _one_by_one(network: Network, chosen: dict, rest: dict, batch: Batch) -> dict[str, torch.Tensor]:
    leaves = {name: value.detach().requires_grad_() for name, value in chosen.items()}
    lists: dict[str, list[torch.Tensor]] = {name: [] for name in leaves}
    for point in batch.parts(1):
        # A sum with all parameters, so that those without influence on this example have a derivative of 0.
        result = network({**rest, **leaves}, point)
        result = result + sum(0.0 * leaf.sum() for leaf in leaves.values())
        for name, value in zip(leaves, cotangents(result, list(leaves.values())), strict=True):
            lists[name].append(value)
    return {name: torch.stack(values) for name, values in lists.items()}
