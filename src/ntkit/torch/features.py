"""The factors of every parameter for a tile of examples: block by block one evaluation and k sweeps of cotangents."""

from functools import cached_property

import torch
import torch.nn.functional as F

from ntkit.torch.cotangents import sweeps
from ntkit.torch.factors import Factor, Outer, Rows, grouped_gradients, write_gradients
from ntkit.torch.inputs import Batch
from ntkit.torch.layers import Use
from ntkit.torch.network import Network
from ntkit.torch.ordinary import ordinary_rows
from ntkit.torch.plan import Plan
from ntkit.torch.probe import Site, Structure
from ntkit.torch.record import Tap, recorded


def tile_factors(network: Network, structure: Structure, plan: Plan, batch: Batch) -> dict[str, Factor]:
    """The factors of a tile of examples, evaluated `plan.block` at a time."""
    stores = {
        line.name: _Store(line.method, plan.outputs, len(batch))
        for line in plan.lines
        if line.method != "none"
    }
    for start in range(0, len(batch), plan.block):
        _block(network, structure, plan, batch.rows(slice(start, start + plan.block)), stores, start)
    return {name: store.factor() for name, store in stores.items()}


def _block(
    network: Network, structure: Structure, plan: Plan, batch: Batch, stores: dict[str, "_Store"], start: int
) -> None:
    """Put the gradients of a block, or its inputs and cotangents, in their place among those of the tile."""
    if structure.ordinary:
        for name, rows in ordinary_rows(network, structure.ordinary, batch).items():
            stores[name].put(slice(None), start, rows.transpose(0, 1))
    if not any(structure.sites.values()):
        return
    leaves = {id(value) for value in network.chosen.values()}
    with recorded(network.module, leaves, len(batch), structure.shared) as taps:
        result = network(network.chosen, batch)
    _check_same_taps(network, structure, taps, len(batch))
    used = sorted({site.tap for sites in structure.sites.values() for site in sites})
    parts = {
        name: [_Part(structure, site, taps[site.tap], len(batch)) for site in sites]
        for name, sites in structure.sites.items()
        if sites
    }
    with torch.no_grad():
        for name, own in parts.items():
            if not stores[name].whole:
                stores[name].put_inputs(start, _joined([part.inputs for part in own]))
    for outputs, values in sweeps(result, [taps[number].edge for number in used], plan.together):
        found = dict(zip(used, values, strict=True))
        del values
        with torch.no_grad():
            for name, own in parts.items():
                stores[name].put_parts(outputs, start, own, found)


def _joined(values: list[torch.Tensor], axis: int = 1) -> torch.Tensor:
    return values[0] if len(values) == 1 else torch.cat(values, axis)


class _Store:
    """What is kept of one parameter for a tile of n examples.

    Attributes:
        whole: whether gradients are kept (k, n, p), rather than inputs (n, s, a) and cotangents (k, n, s, b).
    """

    def __init__(self, method: str, outputs: int, examples: int) -> None:
        self.whole, self._pairs = method in ("whole", "jacobian"), method == "pairs"
        self._outputs, self._examples = outputs, examples
        self._inputs: torch.Tensor | None = None
        self._values: torch.Tensor | None = None

    def put_inputs(self, start: int, value: torch.Tensor) -> None:
        if len(value) == self._examples:
            self._inputs = value.contiguous()
            return
        if self._inputs is None:
            self._inputs = value.new_empty(self._examples, *value.shape[1:])
        self._inputs[start : start + len(value)] = value

    def put_parts(
        self, outputs: slice, start: int, parts: list["_Part"], found: dict[int, torch.Tensor]
    ) -> None:
        cotangents = [part.positions(found[part.tap]) for part in parts]
        if not self.whole:
            self.put(outputs, start, _joined(cotangents, 2))
            return
        count = parts[0].use.parameter.numel()
        place = self._place(outputs, start, cotangents[0].shape[1], cotangents[0].new_empty(0), (count,))
        parts[0].write(cotangents[0], place)
        for part, cotangent in zip(parts[1:], cotangents[1:], strict=True):
            added = torch.empty_like(place)
            part.write(cotangent, added)
            place += added

    def put(self, outputs: slice, start: int, value: torch.Tensor) -> None:
        """Values of some outputs and of the examples from `start` on."""
        if value.shape[:2] == (self._outputs, self._examples):
            self._values = value
        else:
            self._place(outputs, start, value.shape[1], value, value.shape[2:]).copy_(value)

    def _place(self, outputs: slice, start: int, count: int, like: torch.Tensor, rest) -> torch.Tensor:
        if self._values is None:
            lead = (self._outputs, self._examples)
            if (
                like.ndim == 4 and like.stride(3) != 1
            ):  # channels before positions, as convolutions leave them
                self._values = like.new_empty(*lead, rest[1], rest[0]).mT
            else:
                self._values = like.new_empty(*lead, *rest)
        return self._values[outputs, start : start + count]

    def factor(self) -> Factor:
        assert self._values is not None, "a tile has at least one block"
        if self._inputs is None:
            return Rows(self._values)
        return Outer(self._inputs, self._values, self._pairs)


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
    """One use of a parameter for a block of n examples: inputs (n, s, a), cotangents (k, n, s, b)."""

    def __init__(self, structure: Structure, site: Site, tap: Tap, n: int) -> None:
        layout = structure.layouts[site.tap]
        assert layout is not None, "the probe keeps uses with a layout only"
        self.tap, self.use = site.tap, tap.layer.uses[site.use]
        self._layout, self._channels, self._n = layout, tap.layer.channels, n
        self._shared = site.tap in structure.shared

    def positions(self, cotangent: torch.Tensor) -> torch.Tensor:
        """G (k, n, s, b) from the cotangents of the layer's output, without a copy where that is possible."""
        moved = cotangent.movedim(cotangent.ndim - self._channels, -1).movedim(0, -2)
        return self._layout.positions(moved, 2).permute(2, 0, 1, 3)

    @cached_property
    def inputs(self) -> torch.Tensor:
        """A in positions; for tokens integers (n, s). Kept, since every output needs them."""
        assert self.use.inputs is not None, "biases have no inputs"
        values = self.use.inputs().detach()
        trailing = 0 if self.use.kind == "lookup" else 1
        if self._shared:
            features = values.shape[values.ndim - trailing :]
            return values.reshape(1, -1, *features).expand(self._n, -1, *features)
        return self._layout.positions(values, trailing)

    def write(self, cotangents: torch.Tensor, out: torch.Tensor) -> None:
        """Whole gradients, into `out` (k, n, p), in one order for all uses of the parameter."""
        k, n, _, b = cotangents.shape
        use: Use = self.use
        if use.kind == "outer" and use.groups == 1:
            if cotangents.shape[3] * self.inputs.shape[2] == out.shape[2]:
                write_gradients(out, self.inputs, cotangents, use.transposed)
                return
            result = cotangents.new_empty(k, n, b * self.inputs.shape[2])
            write_gradients(result, self.inputs, cotangents, use.transposed)
        elif use.kind == "outer":
            result = grouped_gradients(self.inputs, cotangents, use.groups, use.parameter.shape[1])
        elif use.kind == "sum":
            result = cotangents.sum(2)
        elif use.kind == "scale":
            result = (cotangents * self.inputs).sum(2)
        else:
            tokens = self.inputs
            counted = (tokens >= 0).to(cotangents.dtype)[..., None] * cotangents
            result = counted.new_zeros(k, n, use.parameter.shape[0], b)
            index = tokens.clamp_min(0)[..., None].expand_as(counted)
            result = result.scatter_add_(2, index, counted).flatten(2)
        before = use.offset * (out.shape[2] // use.parameter.shape[0])
        out.copy_(F.pad(result, (before, out.shape[2] - before - result.shape[2])))
