"""One and two examples, evaluated before all others: do they mix, where do they lie in each layer, who uses what."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch.autograd.graph import get_gradient_edge

from ntkit.torch.inputs import Batch
from ntkit.torch.network import Network
from ntkit.torch.record import Tap, recorded


@dataclass(frozen=True)
class Layout:
    """Where the examples lie among the lead axes of a layer's output.

    Attributes:
        axis: the axis that grows with the number of examples.
        count: entries of that axis for each example.
        major: whether an example's entries lie together, rather than `count` blocks of all examples.
    """

    axis: int
    count: int
    major: bool

    def positions(self, values: torch.Tensor, trailing: int) -> torch.Tensor:
        """Bring (*lead, *features) into (n, s, *features); `trailing` counts the axes of features."""
        features = values.shape[values.ndim - trailing :]
        values = values.movedim(self.axis, 0)
        n = values.shape[0] // self.count
        if self.major:
            return values.reshape(n, -1, *features)
        return values.unflatten(0, (self.count, n)).transpose(0, 1).reshape(n, -1, *features)


@dataclass(frozen=True)
class Site:
    """One use of a parameter: which tap, which of its uses, and the sizes of a single example.

    Attributes:
        tap: number of the tap.
        use: number of the use in its layer.
        kind: the formula of the gradient.
        positions: s.
        inputs: a, 1 for tokens, scales and biases.
        outputs: b.
        simple: whether the gradient is a plain sum of outer products of vectors.
        transposed: whether the parameter is stored as (a, b).
    """

    tap: int
    use: int
    kind: str
    positions: int
    inputs: int
    outputs: int
    simple: bool
    transposed: bool


@dataclass(frozen=True)
class Structure:
    """What the network is made of, as far as its kernel is concerned.

    Attributes:
        outputs: k.
        layouts: of every tap, None where examples cannot be told apart.
        shared: taps whose outputs belong to all examples.
        sites: for each parameter reached only through known layers, its uses; empty for one without influence.
        ordinary: the other parameters.
        activations: numbers that one example leaves at its taps.
    """

    outputs: int
    layouts: tuple[Layout | None, ...]
    shared: frozenset[int]
    sites: dict[str, tuple[Site, ...]]
    ordinary: tuple[str, ...]
    activations: int


def probe(network: Network, batch: Batch, layerwise: bool) -> Structure:
    """Look at the network with one and with two examples.

    Raises:
        ValueError: when an example's outputs depend on the other's, or are not finite numbers (n, k).
    """
    two, one = batch.rows([0, min(1, len(batch) - 1)]), batch.rows([0])
    # With gradients, since modules may compute something else without them (nn.TransformerEncoder does).
    expected = network.checked(two).detach()
    if not bool(torch.isfinite(expected).all()):
        raise ValueError(
            f"{network.who} needs finite outputs, got {expected[~torch.isfinite(expected)][0].item()} for the first "
            "two examples. Look at the module and at the scale of its inputs."
        )
    _check_apart(network, expected, network.checked(one).detach())
    names = tuple(network.chosen)
    nothing = Structure(expected.shape[1], (), frozenset(), {}, names, 0)
    if not layerwise:
        return nothing
    found = _taps(network, one, two, expected, frozenset())
    if found is None:
        return nothing
    alone, both, result = found
    still = frozenset(i for i, (a, b) in enumerate(zip(alone, both, strict=True)) if a.shape == b.shape)
    shared: frozenset[int] = frozenset()
    if still:
        again = _taps(network, one, two, expected, still)
        if again is not None:
            (alone, both, result), shared = again, still
    return _structure(network, alone, both, result, shared)


def _check_apart(network: Network, together: torch.Tensor, alone: torch.Tensor) -> None:
    if _agree(together[:1], alone):
        return
    error = float((together[0] - alone[0]).abs().max())
    raise ValueError(
        f"{network.who} needs each example treated alone, got outputs of the first example that differ by {error:.2g} "
        "with and without the second. The module draws at random or mixes its batch: call module.eval(), and replace "
        "layers that use the statistics of a batch."
    )


def _agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equality up to half the digits: rounding differs between batch sizes, and mixing is no rounding."""
    bound = torch.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max().clamp_min(1e-30))
    return found.shape == expected.shape and bool(((found - expected).abs() <= bound).all())


def _taps(network: Network, one: Batch, two: Batch, expected: torch.Tensor, shared: frozenset[int]):
    """The taps with one and with two examples, if recording leaves the outputs as they are; else None."""
    leaves = {id(value) for value in network.chosen.values()}
    runs = []
    for batch in (one, two):
        with recorded(network.module, leaves, len(batch), shared) as taps:
            try:
                result = network(network.chosen, batch)
            except (RuntimeError, ValueError):
                if shared:  # an output given to each example did not fit what follows
                    return None
                raise
        runs.append(taps)
    if len(runs[0]) != len(runs[1]) or not _agree(result.detach(), expected):
        return None
    return *runs, result


def _structure(
    network: Network, alone: list[Tap], both: list[Tap], result: torch.Tensor, shared
) -> Structure:
    edges, nodes = _graph(network, result)
    names = {id(value): name for name, value in network.chosen.items()}
    layouts = tuple(_layout(a, b) for a, b in zip(alone, both, strict=True))
    sites: dict[str, list[Site]] = {name: [] for name in network.chosen}
    for number, (tap, layout) in enumerate(zip(both, layouts, strict=True)):
        if layout is None or tap.edge.node not in nodes:
            continue
        for index, use in enumerate(tap.layer.uses):
            if id(use.parameter) in names:
                sites[names[id(use.parameter)]].append(_site(number, index, tap, layout))
    # Every use of a parameter is an edge of the graph; one that no tap accounts for makes it ordinary.
    ordinary = tuple(name for name in sites if edges[name] != len(sites[name]))
    known = {name: tuple(found) for name, found in sites.items() if name not in ordinary}
    activations = sum(tap.shape.numel() + tap.layer.input.numel() for tap in both) // 2
    return Structure(result.shape[1], layouts, shared, known, ordinary, activations)


def _site(number: int, index: int, tap: Tap, layout: Layout) -> Site:
    use = tap.layer.uses[index]
    outputs = tap.shape[-tap.layer.channels]
    positions = tap.shape.numel() // outputs // 2
    inputs = use.parameter.numel() // use.parameter.shape[0] if use.kind == "outer" else 1
    if use.transposed:
        inputs = use.parameter.shape[0]
    simple = use.kind in ("outer", "lookup") and use.groups == 1
    # A layer whose outputs are some rows of the parameter only (attention to another sequence) fills in zeros.
    whole = use.kind == "lookup" or use.parameter.shape[-1 if use.transposed else 0] == outputs
    return Site(number, index, use.kind, positions, inputs, outputs, simple and whole, use.transposed)


def _graph(network: Network, result: torch.Tensor) -> tuple[Counter, set]:
    """How often each parameter is used on the way to the outputs, and all nodes on that way."""
    leaves = {get_gradient_edge(value).node: name for name, value in network.chosen.items()}
    edges: Counter = Counter()
    nodes, waiting = set(), [result.grad_fn] if result.grad_fn is not None else []
    while waiting:
        node = waiting.pop()
        if node in nodes:
            continue
        nodes.add(node)
        for following, _ in node.next_functions:
            if following in leaves:
                edges[leaves[following]] += 1
            elif following is not None:
                waiting.append(following)
    return edges, nodes


def _layout(alone: Tap, both: Tap) -> Layout | None:
    """Where the examples lie, from what one and two of them leave at a tap."""
    if alone.layer.version != alone.layer.input._version or both.layer.version != both.layer.input._version:
        return None  # written to after the layer had read it
    shapes = [_lead(tap) for tap in (alone, both)]
    if len(shapes[0]) != len(shapes[1]):
        return None
    grown = [axis for axis, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b]
    if len(grown) != 1 or shapes[1][grown[0]] != 2 * shapes[0][grown[0]]:
        return None
    axis, count = grown[0], shapes[0][grown[0]]
    if both.layer.channels != 1 and axis != 0:
        return None
    if both.layer.input.shape == alone.layer.input.shape:  # shared by all examples, its output given to each
        return Layout(axis, count, True)
    a, b = alone.layer.input, both.layer.input
    if a.shape[axis] != count or b.shape[axis] != 2 * count:
        return None
    for major, own in ((True, slice(0, count)), (False, slice(0, None, 2))):
        first = b[(slice(None),) * axis + (own,)]
        if torch.equal(first, a) if not a.is_floating_point() else _agree(first.detach(), a.detach()):
            return Layout(axis, count, major)
    return None


def _lead(tap: Tap) -> tuple[int, ...]:
    shape = list(tap.shape)
    del shape[len(shape) - tap.layer.channels]
    return tuple(shape)
