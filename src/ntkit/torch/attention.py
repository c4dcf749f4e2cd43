"""`nn.MultiheadAttention` written out, so that its projections are dense layers with outputs to tap.

The module multiplies by its projections inside one function, out of the reach of hooks. Its output is computed
again here from dense layers; the unusual options (biases of keys, a zero key) are left as they are.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ntkit.torch.layers import Layer, Use

Note = Callable[[Layer | None, torch.Tensor], torch.Tensor]

_SIGNATURE = inspect.signature(nn.MultiheadAttention.forward)


def attend(module: nn.MultiheadAttention, arguments: tuple, keywords: dict, output: Any, note: Note) -> Any:
    """The module's output with its projections tapped; the output itself where that cannot be done."""
    given = _SIGNATURE.bind(module, *arguments, **keywords)
    given.apply_defaults()
    query, key, value = (given.arguments[name] for name in ("query", "key", "value"))
    unusual = module.bias_k is not None or module.bias_v is not None or module.add_zero_attn
    if (
        type(module).forward is not nn.MultiheadAttention.forward
        or unusual
        or query.ndim != 3
        or query.is_nested
    ):
        return output
    q, k, v = _projections(module, query, key, value, note)
    if not module.batch_first:
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
    n, length, width = q.shape
    heads = (part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
    mask = _mask(module, given.arguments["attn_mask"], given.arguments["key_padding_mask"], n, q.dtype)
    mixed = F.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2).reshape(n, length, width)
    mixed = mixed if module.batch_first else mixed.transpose(0, 1)
    dense = module.out_proj
    result = _dense(mixed, dense.weight, dense.bias, dense.weight, dense.bias, 0, note)
    return result, output[1]


def _projections(module: nn.MultiheadAttention, query, key, value, note: Note) -> tuple[torch.Tensor, ...]:
    width, bias = module.embed_dim, module.in_proj_bias
    if module.in_proj_weight is not None and query is key and key is value:
        weight = module.in_proj_weight
        return _dense(query, weight, bias, weight, bias, 0, note).chunk(3, dim=-1)
    parts = []
    for number, x in enumerate((query, key, value)):
        rows = slice(number * width, (number + 1) * width)
        part = None if bias is None else bias[rows]
        if module.in_proj_weight is not None:
            whole, start = module.in_proj_weight, rows.start
            weight = whole[rows]
        else:
            weight = whole = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)[number]
            start = 0
        parts.append(_dense(x, weight, part, whole, bias, start, note, rows.start))
    return tuple(parts)


def _dense(
    x, weight, bias, whole, whole_bias, offset: int, note: Note, bias_offset: int | None = None
) -> torch.Tensor:
    """A dense layer whose weight and bias are rows, from `offset` on, of whole parameters."""
    uses = [Use(whole, "outer", lambda: x, offset=offset)]
    if bias is not None:
        uses.append(Use(whole_bias, "sum", offset=offset if bias_offset is None else bias_offset))
    return note(Layer(tuple(uses), x, 1, x._version), F.linear(x, weight, bias))


def _mask(module: nn.MultiheadAttention, mask, padding, n: int, dtype: torch.dtype) -> torch.Tensor | None:
    """Both masks as one summand of the scores, shape (n, heads or 1, length or 1, keys)."""
    parts = []
    if mask is not None:
        parts.append(mask[None, None] if mask.ndim == 2 else mask.unflatten(0, (n, module.num_heads)))
    if padding is not None:
        parts.append(padding[:, None, None, :])
    summands = [
        torch.zeros_like(part, dtype=dtype).masked_fill(part, float("-inf"))
        if part.dtype == torch.bool
        else part.to(dtype)
        for part in parts
    ]
    return sum(summands[1:], summands[0]) if summands else None
