"""Products with the Jacobian of a module, and its tangent kernel acting on vectors, without either matrix."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import jvp

from ntkit.torch.inputs import Inputs
from ntkit.torch.network import Network, Outputs, Parameters, Selection, derivatives, make_problem, select


def jacobian_vector_product(
    module: nn.Module, outputs: Outputs, selection: Selection, x: Inputs, tangent: dict[str, Any]
) -> Any:
    """`J(x) v`, shape (n, k): one forward-mode derivative, or two reverse ones where an operation has none."""
    with derivatives(module):
        names = select("jacobian_vector_product", module, selection)
        problem = make_problem("jacobian_vector_product", module, outputs, names, x)
        network, batch = problem.network, problem.first
        network.checked(batch.rows([0]))
        direction = _like_parameters(network, tangent)
        chosen = {name: value.detach() for name, value in network.chosen.items()}
        try:
            result = jvp(lambda parameters: network(parameters, batch), (chosen,), (direction,))[1]
        except (NotImplementedError, RuntimeError):
            result = _twice_reversed(network, batch, direction)
        return batch.answer(result.detach())


def vector_jacobian_product(
    module: nn.Module, outputs: Outputs, selection: Selection, x: Inputs, cotangent: Any
) -> Parameters:
    """`J(x)ᵀ u` for u of shape (n, k): one tensor per parameter, by name."""
    with derivatives(module):
        names = select("vector_jacobian_product", module, selection)
        problem = make_problem("vector_jacobian_product", module, outputs, names, x)
        network = problem.network
        result = network.checked(problem.first)
        u = torch.from_numpy(cotangent) if isinstance(cotangent, np.ndarray) else cotangent
        if tuple(u.shape) != tuple(result.shape):
            raise ValueError(
                f"vector_jacobian_product needs a vector of the outputs' shape {tuple(result.shape)}, got "
                f"{tuple(u.shape)}."
            )
        u = u.to(result)
        found = torch.autograd.grad(
            result, list(network.chosen.values()), u, allow_unused=True, materialize_grads=True
        )
        return dict(zip(network.chosen, found, strict=True))


def _like_parameters(network: Network, tangent: dict[str, Any]) -> Parameters:
    if set(tangent) != set(network.chosen):
        raise ValueError(
            f"jacobian_vector_product needs one tensor for each of the {len(network.chosen)} chosen parameters, by "
            f"name, got {len(tangent)}, of which {len(set(tangent) & set(network.chosen))} fit. Use "
            "dict(module.named_parameters()) as a template."
        )
    direction = {}
    for name, value in network.chosen.items():
        given = torch.as_tensor(tangent[name])
        if given.shape != value.shape:
            raise ValueError(
                f"jacobian_vector_product needs {name!r} of shape {tuple(value.shape)}, got {tuple(given.shape)}."
            )
        direction[name] = given.detach().to(value)
    return direction


def _twice_reversed(network: Network, batch: Any, direction: Parameters) -> torch.Tensor:
    """`J v` as the derivative of `(Jᵀ u) · v` in u."""
    result = network(network.chosen, batch)
    u = torch.zeros_like(result, requires_grad=True)
    leaves = list(network.chosen.values())
    transposed = torch.autograd.grad(
        result, leaves, u, create_graph=True, allow_unused=True, materialize_grads=True
    )
    products = [(part * direction[name]).sum() for name, part in zip(network.chosen, transposed, strict=True)]
    return torch.autograd.grad(torch.stack(products).sum(), u)[0]
