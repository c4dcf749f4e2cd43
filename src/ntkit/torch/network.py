"""A module read as a function of its parameters: which of them, in which dtype, with which outputs."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntkit.torch.inputs import Batch, Inputs, as_batch

Outputs = Callable[[Any], torch.Tensor] | None
"""Picks the tensor (n, k) from what the module returns; None when it returns that tensor."""

Selection = Callable[[str], bool] | Sequence[str] | None
"""Which parameters: a condition on the name, or names and names of submodules; None for all."""

Parameters = dict[str, torch.Tensor]
"""Tensors by the name of the parameter."""

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def select(who: str, module: nn.Module, selection: Selection) -> list[str]:
    """The names of the chosen floating-point parameters; tied parameters have one name.

    Raises:
        ValueError: for something other than a module, when a name fits nothing, or when nothing is chosen.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"{who} needs a torch.nn.Module, got {type(module).__name__}.")
    names = [name for name, value in module.named_parameters() if value.is_floating_point()]
    if isinstance(selection, str):
        raise ValueError(f"{who} needs parameters as a list of names, got a string. Use [{selection!r}].")
    if selection is None:
        chosen = names
    elif callable(selection):
        chosen = [name for name in names if selection(name)]
    else:
        for prefix in selection:
            if not any(name == prefix or name.startswith(prefix + ".") for name in names):
                raise ValueError(
                    f"{who} needs names of parameters or submodules, got {prefix!r}, which fits none of "
                    f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
                )
        chosen = [
            name
            for name in names
            if any(name == prefix or name.startswith(prefix + ".") for prefix in selection)
        ]
    if not chosen:
        raise ValueError(
            f"{who} needs at least one floating-point parameter, got none of {len(names)}. Check `parameters`."
        )
    return chosen


def check_modes(who: str, module: nn.Module) -> None:
    """Refuse what mixes the examples of a batch or draws at random.

    Raises:
        ValueError: naming the submodule, why its kernel does not exist, and what to do.
    """
    for name, part in module.named_modules():
        label = f"{type(part).__name__} {name!r}" if name else type(part).__name__
        if isinstance(part, _BATCH_NORM) and (part.training or part.running_mean is None):
            remedy = (
                "Call module.eval()."
                if part.running_mean is not None
                else "It keeps no running statistics; use track_running_stats=True or another norm."
            )
            raise ValueError(
                f"{who} needs each example treated alone, got {label} that normalises by the statistics of the "
                f"batch, so that f(x) depends on the other examples. {remedy}"
            )
        random = (isinstance(part, _DROPOUT) and part.p > 0) or (
            isinstance(part, nn.MultiheadAttention | nn.RNNBase) and part.dropout > 0
        )
        if part.training and (random or isinstance(part, nn.RReLU)):
            raise ValueError(
                f"{who} needs a function without chance, got {label} in training mode. Call module.eval()."
            )
        if isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.max_norm is not None:
            raise ValueError(
                f"{who} must not change the module, got {label} with max_norm, which rescales its weights whenever it "
                "is evaluated. Set max_norm=None once the weights are scaled."
            )


@dataclass(frozen=True)
class Network:
    """A module at its parameters in one dtype, evaluated without touching it.

    Attributes:
        who: for messages.
        module: the module, which keeps its own parameters, buffers and modes.
        outputs: picks the tensor of outputs.
        chosen: the parameters that are differentiated; leaves of their own.
        constant: the other parameters, and copies of the buffers.
    """

    who: str
    module: nn.Module
    outputs: Outputs
    chosen: Parameters
    constant: Parameters

    def __call__(self, chosen: Parameters, batch: Batch) -> Any:
        """`f(x; chosen)`, shape (n, k), unless the module is not of that form."""
        arguments, keywords = ((), batch.values) if batch.named else (tuple(batch.values.values()), {})
        result = functional_call(self.module, {**self.constant, **chosen}, arguments, keywords)
        return result if self.outputs is None else self.outputs(result)

    def checked(self, batch: Batch) -> torch.Tensor:
        """`f(x)`, with its form checked.

        Raises:
            ValueError: when the outputs are not a finite tensor (n, k).
        """
        result = self(self.chosen, batch)
        if not isinstance(result, torch.Tensor):
            raise ValueError(
                f"{self.who} needs a module that returns one tensor, got {type(result).__name__}. Pick it, for example "
                "with outputs=lambda result: result.logits."
            )
        if result.ndim != 2 or result.shape[0] != len(batch) or result.shape[1] == 0:
            raise ValueError(
                f"{self.who} needs outputs of shape (points, outputs), got {tuple(result.shape)} for {len(batch)} "
                "points. Flatten them with outputs=lambda result: result.reshape(len(result), -1), or pick a few."
            )
        if not result.is_floating_point():
            raise ValueError(f"{self.who} needs outputs in floating point, got {result.dtype}.")
        return result


def make_network(
    who: str, module: nn.Module, outputs: Outputs, names: list[str], dtype: torch.dtype, device: torch.device
) -> Network:
    """The network in `dtype`, its chosen parameters as leaves that require gradients."""

    def convert(value: torch.Tensor) -> torch.Tensor:
        value = value.detach()
        value = value.clone() if value.is_inference() else value
        return value.to(dtype) if value.is_floating_point() else value

    parameters = {name: convert(value) for name, value in module.named_parameters()}
    buffers = {name: convert(value).clone() for name, value in module.named_buffers()}
    # `detach` once more: of a parameter that keeps its dtype the conversion is the same tensor.
    chosen = {name: parameters[name].detach().requires_grad_() for name in names}
    rest = {name: value for name, value in parameters.items() if name not in chosen}
    return Network(who, module, outputs, chosen, rest | buffers)


@dataclass(frozen=True)
class Problem:
    """A network and one or two sets of examples in its dtype; `second` is None for the first against itself."""

    network: Network
    first: Batch
    second: Batch | None


def make_problem(
    who: str, module: nn.Module, outputs: Outputs, names: list[str], x1: Inputs, x2: Inputs | None = None
) -> Problem:
    """Check a module and its inputs; `names` (see `select`) are the parameters to differentiate.

    The dtype is that of parameters and inputs together, at least 32 bits.

    Raises:
        ValueError: for a module or for inputs of which no kernel can be computed, with the remedy.
    """
    check_modes(who, module)
    parameters = dict(module.named_parameters())
    device = next((value.device for value in parameters.values()), torch.device("cpu"))
    first = as_batch(who, x1, "x1", device)
    second = None if x2 is None else as_batch(who, x2, "x2", device)
    if second is not None and (first.shapes() != second.shapes() or first.numpy != second.numpy):
        raise ValueError(
            f"{who} needs x1 and x2 of one shape and library, got {first.shapes()} and {second.shapes()}."
        )
    dtype = torch.float32  # half precision has too few digits for a sum over parameters
    found = [value.dtype for value in parameters.values() if value.is_floating_point()]
    for other in [*found, *first.floating(), *([] if second is None else second.floating())]:
        dtype = torch.promote_types(dtype, other)
    network = make_network(who, module, outputs, names, dtype, device)
    return Problem(
        network, first.converted(dtype, device), None if second is None else second.converted(dtype, device)
    )


@contextmanager
def derivatives(module: nn.Module):
    """Where derivatives are taken, whatever the caller's modes: with gradients, no autocast, plain attention.

    The fused attention kernels have no rule for a batch of cotangents; written out, attention has.
    """
    kind = next((value.device.type for value in module.parameters()), "cpu")
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield
