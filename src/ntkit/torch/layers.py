"""Layers whose weight gradients are known: what of the input meets the cotangent of the output, and how.

With positions `s` (pixels, tokens), inputs `A_s` and cotangents `G_s` of one example, the gradient is

    dense, convolution (A_s the patch at s)    Σ_s G_s ⊗ A_s
    embedding of tokens t_s                     Σ_s e(t_s) ⊗ G_s
    scale of a norm (A_s the normalised input)  Σ_s G_s * A_s
    bias                                        Σ_s G_s
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

Kind = Literal["outer", "lookup", "scale", "sum"]


@dataclass(frozen=True)
class Use:
    """How one parameter enters a layer.

    Attributes:
        parameter: the tensor itself.
        kind: the formula of its gradient.
        inputs: A, shape (*lead, a), of a "lookup" tokens (*lead); None for a "sum". A function, so that patches are
            cut out only when they are needed.
        transposed: whether the parameter is stored as (a, b) rather than (b, a).
        groups: into how many groups channels are divided.
        offset: where in the rows of the parameter this layer's outputs begin.
    """

    parameter: torch.Tensor
    kind: Kind
    inputs: Callable[[], torch.Tensor] | None = None
    transposed: bool = False
    groups: int = 1
    offset: int = 0


@dataclass(frozen=True)
class Layer:
    """One evaluation of a layer.

    Attributes:
        uses: its parameters.
        input: the tensor that went in, and `version`, how often it had been written to by then.
        channels: the axis of the output, counted from its end, that holds channels; lead axes are the others.
        version: see `input`.
    """

    uses: tuple[Use, ...]
    input: torch.Tensor
    channels: int
    version: int


def read(module: Any, x: torch.Tensor, output: Any) -> Layer | None:
    """The layer that `module` is, if its gradients are known here; None for every other module.

    A module is known by its `forward`, so that a subclass that computes something else is not taken for its parent.
    """
    if "forward" in module.__dict__ or not isinstance(output, torch.Tensor):
        return None
    forward = type(module).forward
    if forward is nn.Linear.forward:
        return _layer(module, x, Use(module.weight, "outer", lambda: x), 1)
    if forward in (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward):
        if x.ndim != module.weight.ndim:  # an image without a batch
            return None
        use = Use(module.weight, "outer", lambda: patches(module, x), groups=module.groups)
        return _layer(module, x, use, module.weight.ndim - 1)
    if forward is nn.Embedding.forward:
        if module.scale_grad_by_freq:
            return None
        padding = module.padding_idx
        tokens = x if padding is None else torch.where(x == padding, -1, x)
        return Layer((Use(module.weight, "lookup", lambda: tokens),), x, 1, x._version)
    if type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils":
        return _layer(module, x, Use(module.weight, "outer", lambda: x, transposed=True), 1)
    if forward is nn.LayerNorm.forward and module.weight is not None and module.weight.ndim == 1:
        size, epsilon = module.normalized_shape, module.eps
        return _layer(module, x, Use(module.weight, "scale", lambda: F.layer_norm(x, size, eps=epsilon)), 1)
    if forward is nn.GroupNorm.forward and module.weight is not None:

        def grouped() -> torch.Tensor:
            return F.group_norm(x, module.num_groups, eps=module.eps).movedim(1, -1)

        return _layer(module, x, Use(module.weight, "scale", grouped), output.ndim - 1)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
        mean, variance = module.running_mean, module.running_var

        def standardised() -> torch.Tensor:
            return F.batch_norm(x, mean, variance, eps=module.eps).movedim(1, -1)

        return _layer(module, x, Use(module.weight, "scale", standardised), output.ndim - 1)
    return None


def _layer(module: Any, x: torch.Tensor, weight: Use, channels: int) -> Layer:
    uses = (weight,) if module.bias is None else (weight, Use(module.bias, "sum"))
    return Layer(uses, x, channels, x._version)


def patches(module: Any, x: torch.Tensor) -> torch.Tensor:
    """The receptive fields of a convolution, shape (n, positions, kernel x channels).

    Channels come last, other than in the weight: whole pieces of memory are copied if they do in `x`. No contraction
    depends on the order of a weight's entries.
    """
    dimensions = x.ndim - 2
    if isinstance(module.padding, str):
        total = [step * (size - 1) for step, size in zip(module.dilation, module.kernel_size, strict=True)]
        sides = [(0, 0) if module.padding == "valid" else (all_ // 2, all_ - all_ // 2) for all_ in total]
    else:
        sides = [(side, side) for side in module.padding]
    if any(side for pair in sides for side in pair):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = F.pad(x, [side for pair in reversed(sides) for side in pair], mode=mode)
    x = x.movedim(1, -1).contiguous()
    for axis in range(dimensions):
        size, stride, step = module.kernel_size[axis], module.stride[axis], module.dilation[axis]
        x = x.unfold(axis + 1, step * (size - 1) + 1, stride)[..., ::step]
    # (n, positions ..., c, kernel ...) to (n, positions, kernel x c)
    count = x.shape[1 : 1 + dimensions].numel()
    return x.movedim(1 + dimensions, -1).reshape(x.shape[0], count, -1)
