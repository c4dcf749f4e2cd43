"""A kernel between two sets of examples, tile by tile: rows are kept while the columns pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ntkit.engines.plan import tracked
from ntkit.torch.factors import Factor, Form
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
        template = next(iter(self.problem.network.chosen.values()))
        groups = {line.name: group(line.name) for line in plan.lines}
        result = {
            name: template.detach().new_zeros(gram_shape(form, len(first), len(columns), k))
            for name in dict.fromkeys(groups.values())
        }
        per_example = k if form == "full" else 1
        tiles = _tiles(len(first), len(columns), plan.tile, second is None)
        held: tuple[int | None, Factors] = (None, {})
        for rows, others in tracked(tiles, len(tiles), "tangent kernel"):
            if held[0] != rows.start:
                held = (rows.start, {})
                held = (rows.start, self._factors(first.rows(rows)))
            left, own = held[1], second is None and rows == others
            right = left if own else self._factors(columns.rows(others))
            place = tuple(slice(part.start * per_example, part.stop * per_example) for part in (rows, others))
            for name, factor in left.items():
                factor.add(form, result[groups[name]][..., place[0], place[1]], right[name])
            if second is None:
                for gram in result.values():
                    _mirror(gram, *place)
        return {
            name: _checked(self.problem.network.who, _shaped(gram, form, k)) for name, gram in result.items()
        }

    def squares(self) -> torch.Tensor:
        """`Σ_o Σ_p J_op²` for every example, shape (n,)."""
        parts = list(self.problem.first.parts(self.plan.tile))
        found = []
        for part in tracked(parts, len(parts), "tangent kernel, diagonal"):
            factors = self._factors(part)
            with torch.no_grad():
                found.append(torch.stack([factor.squares() for factor in factors.values()]).sum(0))
        return _checked(self.problem.network.who, torch.cat(found))

    def _factors(self, batch: Batch) -> Factors:
        return tile_factors(self.problem.network, self.structure, self.plan, batch)


def make_evaluation(problem: Problem, form: Form, method: str, memory_limit: int) -> Evaluation:
    """Look at the problem and plan it.

    Raises:
        ValueError: when examples mix, a single one does not fit, or nothing can be done layer by layer as asked.
    """
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


def _tiles(n: int, m: int, size: int, symmetric: bool) -> list[tuple[slice, slice]]:
    return [
        (slice(top, min(top + size, n)), slice(left, min(left + size, m)))
        for top in range(0, n, size)
        for left in range(top if symmetric else 0, m, size)
    ]


def _mirror(gram: torch.Tensor, rows: slice, columns: slice) -> None:
    """Of a matrix against itself one triangle decides, so that rounding cannot make it unsymmetric."""
    block = gram[..., rows, columns]
    if rows == columns:
        gram[..., rows, columns] = block.triu() + block.triu(1).mT
    else:
        gram[..., columns, rows] = block.mT


def _shaped(gram: torch.Tensor, form: Form, k: int) -> torch.Tensor:
    if form == "outputs":
        return gram.permute(1, 2, 0).contiguous()
    if form == "full":
        return gram.unflatten(0, (-1, k)).unflatten(2, (-1, k)).transpose(1, 2).contiguous()
    return gram


def _checked(who: str, result: torch.Tensor) -> torch.Tensor:
    """Raise where a derivative was not finite, and say at which entry."""
    finite = torch.isfinite(result)
    if not bool(finite.all()):
        where = [int(index) for index in torch.nonzero(~finite)[0]]
        raise ValueError(
            f"{who} needs a module with finite derivatives, got {float(result[tuple(where)])} at entry {where} of the "
            "kernel. Look at the module and its gradient at these points; float64 inputs widen the range."
        )
    return result
