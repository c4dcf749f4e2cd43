"""Which parameter is contracted how, at what cost, and how many examples fit the memory: decided before any long work.

Multiply-adds for n x m examples, k outputs, s positions, a inputs and b outputs of a layer:

    pairs      n m s² (a + k b + e)                  full: n m s² (a + k² b + k² e)
    gradients  (n + m) k s a b + n m k a b           full: (n + m) k s a b + n m k² a b

where e = 8 stands for the entry-by-entry product, which is bound by memory.
"""

from dataclasses import dataclass

import torch

from ntkit.torch.factors import SLAB, Form
from ntkit.torch.network import Network
from ntkit.torch.probe import Site, Structure

ELEMENTWISE = 8
"""What an entry-by-entry product costs in multiply-adds of a matrix product."""

BLOCK_BYTES = 1 << 26
"""What the taps of examples evaluated together should take, to stay near the processor."""


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
    """

    lines: tuple[Line, ...]
    outputs: int
    tile: int
    block: int

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
    # Evaluated examples hold activations, k cotangents at each tap, and ordinary gradients once more.
    passing = size * structure.activations * (1 + 2 * k)
    passing += 2 * sum(line.bytes for line in lines if line.method == "jacobian")
    needed = passing + 2 * kept
    if needed > memory_limit:
        dearest = max(lines, key=lambda line: line.bytes)
        raise ValueError(
            f"{network.who} needs memory_limit >= {needed} bytes for one example ({k} outputs, of which "
            f"{dearest.name!r} takes {2 * dearest.bytes}), got {memory_limit}. Raise memory_limit, pick fewer outputs "
            "with outputs=, or fewer parameters with parameters=."
        )
    slabs = 3 * SLAB * size
    room = max(memory_limit - slabs, memory_limit // 2)
    block = max(1, min(n + m, BLOCK_BYTES // max(1, passing), room // (2 * max(1, passing))))
    tile = max(1, min(max(n, m), (room - block * passing) // max(1, 2 * kept)))
    return Plan(tuple(lines), k, int(tile), int(min(block, tile)))


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
    pairs = n * m * s * s * (a + squared * (b + ELEMENTWISE) if form != "traced" else a + k * b + ELEMENTWISE)
    # Tokens that do not occur on both sides meet nothing: at most n s of them count.
    wide = min(count // b, n * s) if first.kind == "lookup" else a
    formed = (n if symmetric else n + m) * k * s * wide * b
    gradients = formed + n * m * squared * wide * b
    factors = s * ((a or 2) + k * b) * size  # tokens are integers of 8 bytes
    if pairs <= gradients:
        return Line(name, "pairs", factors, pairs)
    if k * count * size <= factors:
        return Line(name, "whole", k * count * size, formed + whole)
    return Line(name, "gradients", factors, gradients)


def gram_shape(form: Form, n: int, m: int, k: int) -> torch.Size:
    """The shape of the matrix that contractions add into."""
    return torch.Size({"traced": (n, m), "outputs": (k, n, m), "full": (n * k, m * k)}[form])
