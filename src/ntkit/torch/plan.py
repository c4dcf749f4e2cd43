"""Which parameter is contracted how, at what cost, and how many examples fit the memory: decided before any long work.

Multiply-adds for n x m examples, k outputs, s positions, a inputs and b outputs of a layer:

    pairs      n m s² (a + k b + e)                  full: n m s² (a + k² b + k² e)
    gradients  (n + m) k (s + t) a b + n m k a b     full: (n + m) k (s + t) a b + n m k² a b

where e stands for the entry-by-entry product and t for writing a gradient and reading it, both bound by memory.
Of a matrix against itself a good half of n m is multiplied.
"""

from dataclasses import dataclass

import torch

from ntkit.engines.plan import side_of_two_tiles
from ntkit.torch.factors import FULL, NARROW, SLAB, Form
from ntkit.torch.network import Network
from ntkit.torch.probe import Site, Structure

ELEMENTWISE = 8
"""What an entry-by-entry product costs in multiply-adds of a matrix product."""

TOUCH = 32
"""What it costs to write a number of a gradient and to read it, in the same unit."""

BLOCK_BYTES = 1 << 26
"""What the taps of examples evaluated together should take, to stay near the processor."""

SWEEP = 1 << 21
"""Numbers at the taps of a block, on a processor: one output after another where there are as many."""


BLOCKS = 4
"""How many times the block of two tiles is there, beside the result that it is written to: itself and its triangles."""


@dataclass(frozen=True)
class Line:
    """The plan for one parameter.

    Attributes:
        name: the parameter.
        method: "pairs" and "gradients" (layer-wise), "whole" (layer-wise, gradients stored), "jacobian" (torch.func),
            or "none" for a parameter without influence.
        bytes: what one example keeps.
        operations: multiply-adds of the contraction.
    """

    name: str
    method: str
    bytes: int
    operations: int


@dataclass(frozen=True)
class Plan:
    """How a kernel will be computed; print it.

    Attributes:
        lines: parameter by parameter.
        outputs: k.
        tile: examples whose factors are kept at a time, for rows and for columns.
        block: examples evaluated at a time.
        together: whether one sweep finds the derivatives of all outputs.
    """

    lines: tuple[Line, ...]
    outputs: int
    tile: int
    block: int
    together: bool

    def __str__(self) -> str:
        width = max(9, *(len(line.name) for line in self.lines))
        head = f"{'parameter':{width}}  {'method':9}  {'bytes/example':>13}  {'multiply-adds':>13}"
        rows = [
            f"{line.name:{width}}  {line.method:9}  {line.bytes:13,d}  {line.operations:13.2e}"
            for line in self.lines
        ]
        foot = f"{self.outputs} outputs; {self.tile} examples a tile, {self.block} evaluated at a time"
        return "\n".join([head, *rows, foot])


def make_plan(
    network: Network, structure: Structure, n: int, m: int, symmetric: bool, form: Form, memory_limit: int
) -> Plan:
    """The cheapest way, within `memory_limit` bytes.

    Raises:
        ValueError: when a single example does not fit, with an estimate and the remedies.
    """
    k = structure.outputs
    size = next(iter(network.chosen.values())).element_size()
    lines = []
    for name, parameter in network.chosen.items():
        count = parameter.numel()
        if name in structure.ordinary:
            lines.append(
                Line(name, "jacobian", k * count * size, n * m * count * (k * k if form == "full" else k))
            )
        elif not structure.sites[name]:
            lines.append(Line(name, "none", 0, 0))
        else:
            lines.append(_line(name, structure.sites[name], count, k, n, m, symmetric, form, size))
    kept = sum(line.bytes for line in lines)
    # Evaluated examples hold activations and patches; a sweep at each tap its cotangents, twice while they are formed.
    inputs = sum(site.positions * site.inputs for sites in structure.sites.values() for site in sites)
    single = size * (4 * structure.activations + inputs)
    single += 2 * sum(line.bytes for line in lines if line.method == "jacobian")
    pair = BLOCKS * size * gram_shape(form, 1, 1, k).numel()
    needed = single + 2 * kept + pair
    if needed > memory_limit:
        dearest = max(lines, key=lambda line: line.bytes)
        raise ValueError(
            f"{network.who} needs memory_limit >= {needed} bytes for one example ({k} outputs, of which "
            f"{dearest.name!r} takes {2 * dearest.bytes}), got {memory_limit}. Raise memory_limit, pick fewer outputs "
            "with outputs=, or fewer parameters with parameters=."
        )
    slabs = 2 * SLAB * size * (FULL if form == "full" else 1)
    room = max(memory_limit - slabs, memory_limit // 2)
    # On a processor arrays that leave its cache are better swept one output after another.
    passing = single + size * structure.activations * 2 * k
    together = next(iter(network.chosen.values())).is_cuda or max(n, m) * structure.activations < SWEEP
    together = together and passing + 2 * kept <= memory_limit
    passing = passing if together else single
    numbers = SWEEP // max(1, structure.activations)
    block = max(
        1, min(n + m, BLOCK_BYTES // max(1, passing) if together else numbers, room // (2 * max(1, passing)))
    )
    tile = max(1, min(max(n, m), side_of_two_tiles(room - block * passing, kept, pair)))
    block = -(-tile // -(-tile // min(block, tile)))  # as many blocks, but alike
    return Plan(tuple(lines), k, tile, int(block), together)


def _line(
    name: str,
    sites: tuple[Site, ...],
    count: int,
    k: int,
    n: int,
    m: int,
    symmetric: bool,
    form: Form,
    size: int,
) -> Line:
    first = sites[0]
    squared = k * k if form == "full" else k
    whole = n * m * count * squared
    alike = all(
        site.simple and (site.kind, site.transposed) == (first.kind, first.transposed) for site in sites
    )
    if not alike:
        return Line(name, "whole", k * count * size, whole)
    s, b = sum(site.positions for site in sites), first.outputs
    a = 0 if first.kind == "lookup" else first.inputs
    each = k if form == "full" else 1
    pairs = (
        _products(n, m, symmetric, each * s)
        * s
        * s
        * (a + squared * (b + ELEMENTWISE) if form != "traced" else a + k * b + ELEMENTWISE)
    )
    # Tokens that do not occur on both sides meet nothing: at most n s of them count.
    wide = min(count // b, n * s) if first.kind == "lookup" else a
    formed = (n if symmetric else n + m) * k * s * wide * b
    touched = (n if symmetric else n + m) * k * wide * b * TOUCH
    gradients = formed + touched + _products(n, m, symmetric, each) * squared * wide * b
    factors = s * ((a or 2) + k * b) * size  # tokens are integers of 8 bytes
    if pairs <= gradients:
        return Line(name, "pairs", factors, pairs)
    if k * count * size <= factors:
        return Line(name, "whole", k * count * size, formed + whole)
    return Line(name, "gradients", factors, gradients)


def _products(n: int, m: int, symmetric: bool, each: int) -> int:
    """How many pairs of examples are multiplied: of a symmetric matrix strips, `each` rows standing for an example."""
    if not symmetric:
        return n * m
    return int(n * m * min(1.0, (1 + max(NARROW / (n * each), 1 / 8)) / 2))


def gram_shape(form: Form, n: int, m: int, k: int) -> torch.Size:
    """The shape of the matrix that contractions add into."""
    return torch.Size({"traced": (n, m), "per_output": (k, n, m), "full": (k * n, k * m)}[form])
