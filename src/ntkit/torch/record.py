"""Forward hooks that note what goes into every known layer and where in the graph its output arises."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from ntkit.torch.attention import attend
from ntkit.torch.layers import Layer, read


@dataclass(frozen=True)
class Tap:
    """One evaluation of a known layer: the layer, the shape of its output, and the place of its cotangent."""

    layer: Layer
    shape: torch.Size
    edge: GradientEdge


@contextmanager
def recorded(
    module: nn.Module, parameters: set[int], examples: int, shared: frozenset[int]
) -> Iterator[list[Tap]]:
    """Collect the taps of the evaluations inside; the hooks go with the context, whatever happens.

    Args:
        module: the module.
        parameters: the identities of the tensors that are differentiated; layers without one are passed over.
        examples: how many examples are evaluated.
        shared: numbers of the taps whose outputs belong to all examples at once (embedded positions): each example
            gets its own copy, so that cotangents stay apart.
    """
    taps: list[Tap] = []

    def note(layer: Layer | None, output: Any) -> Any:
        if (
            layer is None
            or output.grad_fn is None
            or not any(id(use.parameter) in parameters for use in layer.uses)
        ):
            return output
        if len(taps) in shared:
            output = output.expand(examples, *output.shape[output.shape[0] == 1 :])
        taps.append(Tap(layer, output.shape, get_gradient_edge(output)))
        return output

    def after(part: nn.Module, arguments: tuple, keywords: dict, output: Any) -> Any:
        if isinstance(part, nn.MultiheadAttention):
            return attend(part, arguments, keywords, output, note)
        values = [*arguments, *keywords.values()]
        if len(values) != 1 or not isinstance(values[0], torch.Tensor):
            return None
        return note(read(part, values[0], output), output)

    handles = []
    try:
        for part in module.modules():
            if (
                isinstance(part, nn.MultiheadAttention)
                or next(part.parameters(recurse=False), None) is not None
            ):
                handles.append(part.register_forward_hook(after, prepend=True, with_kwargs=True))
        yield taps
    finally:
        for handle in handles:
            handle.remove()
