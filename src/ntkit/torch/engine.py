"""A kernel between two sets of examples, tile by tile: rows are kept while the columns pass."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from typing import Any

import torch
from torch import nn

from ntkit.engines.plan import check_result, tracked
from ntkit.torch.factors import Factor, Form, Memory
from ntkit.torch.features import tile_factors
from ntkit.torch.inputs import Batch
from ntkit.torch.network import Problem
from ntkit.torch.plan import Plan, gram_shape, make_plan
from ntkit.torch.probe import Structure, probe

Factors = dict[str, Factor]


@dataclass(frozen=True)
class Evaluation:
    """A problem that has been looked at: its structure and the plan for it."""

    problem: Problem
    structure: Structure
    plan: Plan

    def grams(self, form: Form, group: Callable[[str], Any]) -> dict[Any, torch.Tensor]:
        """The kernel of every group of parameters: traced (n, m) and per output (n, m, k) divided by nothing."""
        first, second = self.problem.first, self.problem.second
        columns = first if second is None else second
        k, plan = self.structure.outputs, self.plan
        template = next(iter(self.problem.network.chosen.values())).detach()
        groups = {line.name: group(line.name) for line in plan.lines}
        wanted, whole = dict.fromkeys(groups.values()), (len(first), len(columns), *_trailing(form, k))
        if not template.is_cuda:
            check_result(
                f"A tangent kernel of {len(first)} x {len(columns)} points and {k} outputs",
                len(wanted) * prod(whole) * template.element_size(),
                "Use fewer points, fewer outputs, the traced kernel, or float32.",
            )
        result = {name: template.new_empty(whole) for name in wanted}
        tiles = _tiles(len(first), len(columns), plan.tile, second is None)
        memory = Memory()
        held: tuple[int | None, Factors] = (None, {})
        for rows, others in tracked(tiles, len(tiles), "tangent kernel"):
            if held[0] != rows.start:
                held = (None, {})
                held = (rows.start, self._factors(first.rows(rows)))
            left, own = held[1], second is None and rows == others
            right = left if own else self._factors(columns.rows(others))
            shape = gram_shape(form, rows.stop - rows.start, others.stop - others.start, k)
            blocks = {name: template.new_zeros(shape) for name in result}
            for name, factor in left.items():
                factor.add(form, blocks[groups[name]], right[name], memory)
            for name, block in blocks.items():
                # Of a block against itself one triangle decides, so that rounding cannot make it unsymmetric.
                block = _shaped(block.triu() + block.triu(1).mT if own else block, form, k)
                _check(self.problem.network.who, block, rows.start, others.start)
                result[name][rows, others] = block
                if second is None and not own:
                    result[name][others, rows] = _turned(block)
        return result

    def squares(self) -> torch.Tensor:
        """`Σ_o Σ_p J_op²` for every example, shape (n,)."""
        parts = list(self.problem.first.parts(self.plan.tile))
        found = []
        for part in tracked(parts, len(parts), "tangent kernel, diagonal"):
            factors = self._factors(part)
            with torch.no_grad():
                found.append(torch.stack([factor.squares() for factor in factors.values()]).sum(0))
        squares = torch.cat(found)
        _check(self.problem.network.who, squares)
        return squares

    def _factors(self, batch: Batch) -> Factors:
        return tile_factors(self.problem.network, self.structure, self.plan, batch)


def make_evaluation(problem: Problem, form: Form, method: str, memory_limit: int) -> Evaluation:
    """Look at the problem and plan it.

    Raises:
        ValueError: when examples mix, a single one does not fit, or nothing can be done layer by layer as asked.
    """
    problem = _channels_last(problem)
    structure = probe(problem.network, problem.first, method != "jacobian")
    if method == "layerwise" and not any(structure.sites.values()):
        raise ValueError(
            f"{problem.network.who} needs a dense, convolution, embedding or norm layer for method='layerwise', got a "
            "module without one whose gradients are known. Use method='auto'."
        )
    n = len(problem.first)
    m = n if problem.second is None else len(problem.second)
    plan = make_plan(problem.network, structure, n, m, problem.second is None, form, memory_limit)
    return Evaluation(problem, structure, plan)


def _channels_last(problem: Problem) -> Problem:
    """Images arranged as a processor's convolutions like them, where the module takes them so (`view` may not)."""
    network, first, second = problem.network, problem.first, problem.second
    weight = next(iter(network.chosen.values()))
    if weight.device.type != "cpu" or not any(
        isinstance(part, nn.Conv2d) for part in network.module.modules()
    ):
        return problem
    try:
        network(network.chosen, first.rows(slice(2)).channels_last())
    except RuntimeError:
        return problem
    return Problem(network, first.channels_last(), None if second is None else second.channels_last())


def _tiles(n: int, m: int, size: int, symmetric: bool) -> list[tuple[slice, slice]]:
    return [
        (slice(top, min(top + size, n)), slice(left, min(left + size, m)))
        for top in range(0, n, size)
        for left in range(top if symmetric else 0, m, size)
    ]


def _trailing(form: Form, k: int) -> tuple[int, ...]:
    return {"traced": (), "per_output": (k,), "full": (k, k)}[form]


def _shaped(block: torch.Tensor, form: Form, k: int) -> torch.Tensor:
    """Examples first: (n, m), (n, m, k) or (n, m, k, k)."""
    if form == "per_output":
        return block.permute(1, 2, 0)
    if form == "full":
        return block.unflatten(1, (k, -1)).unflatten(0, (k, -1)).permute(1, 3, 0, 2)
    return block


def _turned(block: torch.Tensor) -> torch.Tensor:
    block = block.transpose(0, 1)
    return block.mT if block.ndim == 4 else block


def _check(who: str, block: torch.Tensor, *begins: int) -> None:
    """Raise where a derivative was not finite, and say at which entry of the kernel, whose block begins there."""
    finite = torch.isfinite(block)
    if not bool(finite.all()):
        where = [int(index) for index in torch.nonzero(~finite)[0]]
        entry = [index + begin for index, begin in zip_longest(where, begins, fillvalue=0)]
        raise ValueError(
            f"{who} needs a module with finite derivatives, got {float(block[tuple(where)])} at entry {entry} of the "
            "kernel. Look at the module and its gradient at these points; float64 inputs widen the range."
        )
