"""The factors of every parameter for a block of examples: one evaluation, k cotangents, no gradient per example."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from ntkit.torch.cotangents import cotangents
from ntkit.torch.factors import Factor, Outer, Rows, gradients
from ntkit.torch.inputs import Batch
from ntkit.torch.layers import Use
from ntkit.torch.network import Network
from ntkit.torch.ordinary import ordinary_rows
from ntkit.torch.plan import Plan
from ntkit.torch.probe import Site, Structure
from ntkit.torch.record import Tap, recorded

Stored = tuple[torch.Tensor, ...]
"""Gradients alone, or inputs and cotangents, with the examples along the first axis."""


def tile_factors(network: Network, structure: Structure, plan: Plan, batch: Batch) -> dict[str, Factor]:
    """The factors of a tile of examples, evaluated `plan.block` at a time."""
    store: dict[str, Stored] = {}
    for start in range(0, len(batch), plan.block):
        part = batch.rows(slice(start, start + plan.block))
        for name, values in _block(network, structure, plan, part):
            store[name] = tuple(
                _stored(whole, value, start, len(batch))
                for whole, value in zip(store.get(name, (None,) * len(values)), values, strict=True)
            )
            del values
    pairs = {line.name: line.method == "pairs" for line in plan.lines}
    return {
        name: Rows(found[0]) if len(found) == 1 else Outer(found[0], found[1], pairs[name])
        for name, found in store.items()
    }


def _stored(whole: torch.Tensor | None, value: torch.Tensor, start: int, examples: int) -> torch.Tensor:
    """A block's values in their place among those of the tile."""
    if len(value) == examples:
        return value.contiguous()
    whole = value.new_empty(examples, *value.shape[1:]) if whole is None else whole
    whole[start : start + len(value)] = value
    return whole


def _block(network: Network, structure: Structure, plan: Plan, batch: Batch) -> Iterator[tuple[str, Stored]]:
    """For every parameter its gradients, or inputs and cotangents, at a block of examples."""
    if any(structure.sites.values()):
        leaves = {id(value) for value in network.chosen.values()}
        with recorded(network.module, leaves, len(batch), structure.shared) as taps:
            result = network(network.chosen, batch)
        _check_same_taps(network, structure, taps, len(batch))
        used = sorted({site.tap for sites in structure.sites.values() for site in sites})
        found = dict(zip(used, cotangents(result, [taps[number].edge for number in used]), strict=True))
        with torch.no_grad():
            for line in plan.lines:
                if sites := structure.sites.get(line.name):
                    parts = [
                        _Part(structure, site, taps[site.tap], found[site.tap], len(batch)) for site in sites
                    ]
                    yield line.name, _values(line.method, parts)
    if structure.ordinary:
        for name, rows in ordinary_rows(network, structure.ordinary, batch).items():
            yield name, (rows,)


def _check_same_taps(network: Network, structure: Structure, taps: list[Tap], n: int) -> None:
    alike = len(taps) == len(structure.layouts) and all(
        layout is None or tap.shape[layout.axis] == n * layout.count
        for tap, layout in zip(taps, structure.layouts, strict=True)
    )
    if not alike:
        raise ValueError(
            f"{network.who} needs a module that takes the same steps for all examples, got layers that were called "
            "differently from batch to batch. Use method='jacobian'."
        )


class _Part:
    """One use of a parameter for a block: inputs (n, s, a) and cotangents (n, s, k, b)."""

    def __init__(self, structure: Structure, site: Site, tap: Tap, cotangent: torch.Tensor, n: int) -> None:
        layout = structure.layouts[site.tap]
        assert layout is not None, "the probe keeps uses with a layout only"
        self.use: Use = tap.layer.uses[site.use]
        self.layout, self.n, self.shared = layout, n, site.tap in structure.shared
        # (k, *lead, b) to (*lead, k, b)
        moved = cotangent.movedim(cotangent.ndim - tap.layer.channels, -1).movedim(0, -2)
        self.cotangents = layout.positions(moved, 2)

    def inputs(self) -> torch.Tensor:
        """A in positions; for tokens integers (n, s)."""
        assert self.use.inputs is not None, "biases have no inputs"
        values = self.use.inputs().detach()
        trailing = 0 if self.use.kind == "lookup" else 1
        if self.shared:
            features = values.shape[values.ndim - trailing :]
            return values.reshape(1, -1, *features).expand(self.n, -1, *features)
        return self.layout.positions(values, trailing)

    def rows(self) -> torch.Tensor:
        """Whole gradients in the order of the parameter, shape (n, k, p)."""
        n, _, k, b = self.cotangents.shape
        use, size = self.use, self.use.parameter.numel()
        if use.kind == "sum":
            result = self.cotangents.sum(1)
        elif use.kind == "scale":
            result = torch.einsum("nskb,nsb->nkb", self.cotangents, self.inputs())
        elif use.kind == "lookup":
            tokens = self.inputs()
            counted = (tokens >= 0).to(self.cotangents.dtype)[:, :, None, None] * self.cotangents
            result = counted.new_zeros(n, use.parameter.shape[0], k, b)
            index = tokens.clamp_min(0)[:, :, None, None].expand_as(counted)
            result = result.scatter_add_(1, index, counted).transpose(1, 2).flatten(2)
        else:
            result = gradients(self.inputs(), self.cotangents, use.groups, use.transposed)
        before = use.offset * (size // use.parameter.shape[0])
        return F.pad(result, (before, size - before - result.shape[2])) if result.shape[2] < size else result


def _values(method: str, parts: list[_Part]) -> Stored:
    if method == "whole":
        return (sum((part.rows() for part in parts[1:]), parts[0].rows()),)
    inputs, taken = [part.inputs() for part in parts], [part.cotangents for part in parts]
    if len(parts) == 1:
        return inputs[0], taken[0]
    return torch.cat(inputs, 1), torch.cat(taken, 1)
