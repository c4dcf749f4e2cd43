"""Which derivatives are held in which form, in tiles of which size: the cost model of the tangent kernel."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import jax
import numpy as np

from ntkit.empirical.contraction import Contraction
from ntkit.empirical.function import one_example
from ntkit.empirical.program import trace
from ntkit.empirical.selection import Chosen, names_of
from ntkit.empirical.structure import Lookup, Structure, Use, find_structure
from ntkit.engines.plan import side_of_two_tiles
from ntkit.numerics.dtypes import is_concrete

Method = Literal["layerwise", "jacobian", "products"]
Form = Literal["pairs", "shift", "gradients", "deferred", "rows"]

CHUNK_BYTES = 3 * 2**23
"""What the derivatives of the examples evaluated together may take while they are computed: about a cache."""

OUTPUTS_BYTES = 3 * 2**20
"""What the cotangents of outputs that are taken at once may take: they should not leave the cache of a core or two."""


BLOCKS = 2
"""How many times the block of two tiles is there, beside the result that it is written to: itself and its parts."""


@dataclass(frozen=True)
class LeafPlan:
    """How the derivatives of one leaf are held.

    Attributes:
        name: path in the parameters.
        shape: shape of the leaf.
        form: "pairs" (in factors, multiplied for all pairs of positions), "gradients" (formed from factors at once, one
            matrix product an example), "deferred" (kept in factors, formed when multiplied), "rows" (by automatic
            differentiation) or "shift" (a bias: with its weight, at no cost).
        kept: numbers kept per example.
        multiplications: multiply-adds for the whole kernel, beyond the passes through f.
    """

    name: str
    shape: tuple[int, ...]
    form: Form
    kept: int
    multiplications: int


@dataclass(frozen=True)
class Plan:
    """How the tangent kernel between n and m points will be computed.

    Attributes:
        method: "layerwise", "jacobian" or "products".
        n, m: numbers of points; symmetric: whether they are the same.
        outputs: number of outputs k.
        entries: numbers of the result for each pair of points.
        leaves: one plan per leaf of the parameters that is differentiated, by number of the leaf.
        itemsize: bytes of a number.
        passing: numbers that pass per example while its derivatives are computed; of all examples where outputs are
            taken a few at once.
        chunk: examples whose derivatives are computed together.
        rows, columns: examples whose derivatives are kept at a time.
        outputs_at_once: outputs whose derivatives are held together when all examples are; None for all of them.
        limit: bytes that derivatives, and what the result is put together from, may take.
    """

    method: Method
    n: int
    m: int
    symmetric: bool
    outputs: int
    entries: int
    leaves: tuple[tuple[int, LeafPlan], ...]
    itemsize: int
    passing: int
    chunk: int
    rows: int
    columns: int
    outputs_at_once: int | None
    limit: int

    @property
    def whole(self) -> bool:
        """Whether all derivatives are held at a time."""
        return self.rows >= self.n and (self.symmetric or self.columns >= self.m)

    @property
    def kept(self) -> int:
        """Numbers kept per example, over all leaves."""
        return sum(leaf.kept for _, leaf in self.leaves)

    @property
    def copied(self) -> int:
        """Numbers per example of which a tile multiplied with itself takes a copy: it is cut into pieces."""
        return sum(leaf.kept for _, leaf in self.leaves if leaf.form != "deferred")

    @property
    def multiplications(self) -> int:
        """Multiply-adds beyond the passes through f."""
        return sum(leaf.multiplications for _, leaf in self.leaves)

    @property
    def bytes(self) -> int:
        """Memory beside parameters, inputs and result."""
        if self.method == "products":
            return self.limit
        if self.outputs_at_once is not None:
            return self.itemsize * self.passing
        beside = self.copied * self.rows if self.symmetric and self.whole else self.kept * self.columns
        block = BLOCKS * self.entries * self.rows * self.columns
        return self.itemsize * (self.kept * self.rows + beside + self.passing * self.chunk + block)

    @property
    def least(self) -> int:
        """Memory for the derivatives of one example at a time, kept for one row and one column."""
        return self.itemsize * (2 * self.kept + self.passing + BLOCKS * self.entries)

    def together(self, examples: int) -> int:
        """How many of so many examples are best evaluated together."""
        an_example = self.itemsize * self.passing
        spare = self.limit - self.least + an_example
        return _divisor(examples, min(CHUNK_BYTES, spare) // an_example)

    def groups(self, labels: dict[int, str] | None) -> tuple[tuple[tuple[int, Form], ...], ...]:
        """Leaf numbers and forms, in one group or by label: what compiled code depends on."""
        forms: list[tuple[int, Form]] = [(number, leaf.form) for number, leaf in self.leaves]
        if labels is None:
            return (tuple(forms),)
        names = dict.fromkeys(labels.values())
        # A bias that is wanted apart from its weight takes rows of its own.
        apart: list[tuple[int, Form]] = [
            (number, "rows" if form == "shift" else form) for number, form in forms
        ]
        return tuple(tuple(pair for pair in apart if labels[pair[0]] == name) for name in names)

    def __str__(self) -> str:
        """A table with a line for every leaf."""
        head = (
            f"{self.method}: {self.n} x {self.m} points, {self.outputs} outputs, {self.bytes / 2**20:.1f} MiB, "
            f"{self.multiplications:.2e} multiply-adds beside the passes through f"
        )
        if self.method == "products":
            return head
        head += f"; {self.rows} x {self.columns} at a time, evaluated by {self.chunk}"
        if self.outputs_at_once is not None:
            head += f", {self.outputs_at_once} outputs at once"
        width = max([len(leaf.name) for _, leaf in self.leaves], default=0)
        lines = [
            f"  {leaf.name:<{width}}  {leaf.shape!s:<18} {leaf.form:<10} {leaf.kept * self.itemsize:>10} bytes a point"
            f"  {leaf.multiplications:.2e} multiply-adds"
            for _, leaf in self.leaves
        ]
        return "\n".join([head, *lines])


@dataclass(frozen=True, eq=False)
class Study:
    """What is known of `f` at parameters and inputs of given shapes; it holds no numbers.

    Attributes:
        names: of the leaves of the parameters.
        shapes: of the leaves.
        itemsize: bytes of a number.
        outputs: number of outputs k.
        structure: the layers that were found.
        passing: numbers that appear on one example's way through f.
        closed: whether f closes over nothing that JAX is tracing.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    itemsize: int
    outputs: int
    structure: Structure
    passing: int
    closed: bool


def study(f: Callable[[Any, Any], Any], params: Any, point: Any, chosen: tuple[Chosen, ...]) -> Study:
    """Trace one example's way through f and look for structure."""
    program = trace(one_example(f), params, point)
    leaves = jax.tree_util.tree_leaves(params)
    return Study(
        names_of(params),
        tuple(np.shape(leaf) for leaf in leaves),
        max(np.dtype(leaf.dtype).itemsize for leaf in leaves),
        program.output.shape[0],
        find_structure(program, tuple(choice is not False for choice in chosen)),
        sum(prod(value.shape) for operation in program.operations for value in operation.outputs),
        is_concrete(list(program.constants.values())),
    )


def make_plan(
    who: str,
    known: Study,
    chosen: tuple[Chosen, ...],
    contraction: Contraction,
    n: int,
    m: int,
    *,
    symmetric: bool,
    method: str,
    memory_limit: int,
    kernels: int = 1,
) -> Plan:
    """Choose the cheapest form for each leaf and tiles that fit the memory.

    For a leaf whose gradient is a sum over S positions of outer products of I and J numbers, in B groups, "pairs" costs
    `B S² (I + q J)` multiply-adds for each pair of examples, q the pairs of outputs visited, and "gradients" `q B I J`
    for each pair and `k B S I J` for each example. `kernels` is how many are wanted at once, one for each block of
    parameters.

    Raises:
        ValueError: when the derivatives of one point do not fit `memory_limit`.
    """
    pairs = n * (n + 1) // 2 if symmetric else n * m
    examples = n if symmetric else n + m
    visited = contraction.pairs_of_outputs(known.outputs)
    plans: list[tuple[int, LeafPlan]] = []
    passing = known.passing
    whole = method == "jacobian" or known.structure.forward_only
    for number, (name, shape) in enumerate(zip(known.names, known.shapes, strict=True)):
        if chosen[number] is False:
            continue
        uses = known.structure.uses.get(number, ())
        if whole or not uses or isinstance(chosen[number], np.ndarray):
            rows = known.outputs * prod(shape)
            plan = LeafPlan(name, shape, "rows", rows, pairs * visited * prod(shape))
            passing += rows
        else:
            plan = _cheaper(name, shape, uses, known.outputs, visited, pairs, examples)
            passing += 2 * _factor_numbers(uses, known.outputs)
        plans.append((number, plan))
    if not whole:
        plans = _with_shifts(plans, known.structure, chosen)
    settled: Method = "layerwise" if any(plan.form != "rows" for _, plan in plans) else "jacobian"
    plan = Plan(
        settled,
        n,
        m,
        symmetric,
        known.outputs,
        kernels * contraction.entries(known.outputs),
        tuple(plans),
        known.itemsize,
        passing,
        chunk=1,
        rows=n,
        columns=m,
        outputs_at_once=None,
        limit=memory_limit,
    )
    if method == "products" or (method == "auto" and plan.least > memory_limit):
        return replace(plan, method="products")
    if plan.least > memory_limit:
        raise ValueError(
            f"{who} needs memory_limit >= {plan.least} bytes for the derivatives of one point "
            f"({known.outputs} outputs, {sum(map(prod, known.shapes))} parameters), got {memory_limit}. "
            'Raise memory_limit, use float32 inputs, a function with fewer outputs, or method="products".'
        )
    few = _few_outputs_at_once(plan, known) if contraction.sums_outputs else plan
    if few.outputs_at_once is not None and few.bytes <= memory_limit:
        return few
    chunk = plan.together(max(n, m))
    whole_plan = replace(plan, chunk=chunk)
    if whole_plan.bytes <= memory_limit:
        return whole_plan
    room = 2 * side_of_two_tiles(
        memory_limit // plan.itemsize - passing * chunk, plan.kept, BLOCKS * plan.entries
    )
    if symmetric:
        rows = _balanced(chunk, n, _multiple(chunk, min(n, room // 2)))
        return replace(plan, chunk=chunk, rows=rows, columns=rows)
    # Columns pass again for each tile of rows, and what rows defer is formed again for each tile of columns.
    columns = _multiple(chunk, min(m, room // 4))
    rows = _balanced(chunk, n, _multiple(chunk, min(n, room - columns)))
    columns = min(rows, max(columns, _multiple(chunk, room - rows)))
    return replace(plan, chunk=chunk, rows=rows, columns=_balanced(chunk, m, min(m, columns)))


def _few_outputs_at_once(plan: Plan, known: Study) -> Plan:
    """The plan with cotangents of a few outputs at a time, where nothing else is needed of the outputs.

    That is so of layers that meet one position in each example: their cotangents enter by a Gram of their own.
    """
    uses = [known.structure.uses[number] for number, leaf in plan.leaves if leaf.form == "pairs"]
    layers = [use for of_leaf in uses for use in of_leaf]
    others = any(leaf.form not in ("pairs", "shift", "rows") for _, leaf in plan.leaves)
    single = all(use.batches * use.positions == 1 and not isinstance(use.kind, Lookup) for use in layers)
    if others or not layers or not single or len(layers) != len(uses):
        return plan
    examples = plan.n if plan.symmetric else plan.n + plan.m
    rows = sum(prod(leaf.shape) for _, leaf in plan.leaves if leaf.form == "rows")
    an_output = examples * (rows + sum(use.outputs for use in layers))
    steps = -(-plan.outputs // max(1, OUTPUTS_BYTES // (plan.itemsize * an_output)))
    steps = min(steps, plan.outputs)
    if steps == 1:
        return plan
    at_once = -(-plan.outputs // steps)
    passing = (
        examples * (known.passing + sum(use.inputs for use in layers))
        + 2 * at_once * an_output
        + (len(layers) + 2) * plan.n * plan.m
    )
    return replace(plan, passing=passing, chunk=max(plan.n, plan.m), outputs_at_once=at_once)


def _multiple(chunk: int, most: int) -> int:
    """At most `most` examples, in whole chunks if there is room for one."""
    return max(1, most - most % chunk if most >= chunk else most)


def _balanced(chunk: int, examples: int, most: int) -> int:
    """Tiles as many as with `most` examples each, but alike: the last one is filled up with copies."""
    even = -(-examples // -(-examples // most))
    return even if most < chunk else min(most, -(-even // chunk) * chunk)


def _divisor(examples: int, most: int) -> int:
    """At most `most`, dividing `examples` where that costs no more than half: a rest is a program of its own."""
    most = max(1, min(examples, most))
    dividing = max(chunk for chunk in range(1, most + 1) if examples % chunk == 0)
    return dividing if 2 * dividing >= most else most


def _with_shifts(
    plans: list[tuple[int, LeafPlan]], structure: Structure, chosen: tuple[Chosen, ...]
) -> list[tuple[int, LeafPlan]]:
    """Biases of weights that are held in factors go with them."""
    in_pairs = {number for number, plan in plans if plan.form == "pairs"}
    return [
        (number, LeafPlan(plan.name, plan.shape, "shift", 0, 0))
        if number in structure.shifts and structure.shifts[number][0] in in_pairs and chosen[number] is True
        else (number, plan)
        for number, plan in plans
    ]


def _factor_numbers(uses: tuple[Use, ...], outputs: int) -> int:
    inputs = sum(
        use.positions * (1 if isinstance(use.kind, Lookup) else use.batches * use.inputs) for use in uses
    )
    return inputs + sum(outputs * use.batches * use.positions * use.outputs for use in uses)


def _cheaper(
    name: str,
    shape: tuple[int, ...],
    uses: tuple[Use, ...],
    outputs: int,
    visited: int,
    pairs: int,
    examples: int,
) -> LeafPlan:
    """The form with fewer multiply-adds."""
    first, positions = uses[0], sum(use.positions for use in uses)
    size = first.batches * first.inputs * first.outputs
    looked_up = isinstance(first.kind, Lookup)
    compared = 1 if looked_up else first.inputs
    by_pairs = pairs * first.batches * positions**2 * (compared + visited * first.outputs)
    formed = examples * outputs * positions * (first.outputs if looked_up else size)
    by_gradients = pairs * visited * size + formed
    if by_pairs <= by_gradients:
        return LeafPlan(name, shape, "pairs", _factor_numbers(uses, outputs), by_pairs)
    factors = _factor_numbers(uses, outputs)
    if factors < outputs * size and not looked_up:
        return LeafPlan(name, shape, "deferred", factors, by_gradients)
    return LeafPlan(name, shape, "gradients", outputs * size, by_gradients)
