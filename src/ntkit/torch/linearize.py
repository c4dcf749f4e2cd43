"""The first-order Taylor expansion of a module in its parameters."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ntkit.torch.inputs import Inputs
from ntkit.torch.network import Outputs, Parameters, Selection, derivatives, make_problem, select
from ntkit.torch.products import jacobian_vector_product


def linearize(
    module: nn.Module, *, outputs: Outputs = None, parameters: Selection = None
) -> Callable[[Parameters, Inputs], Any]:
    """The linearised module `f_lin(θ, x) = f(x; θ_0) + J(x)(θ − θ_0)` at its present parameters `θ_0`.

    Its tangent kernel is that of the module, whatever `θ` is. Lee et al. (2019, "Wide neural networks of any depth
    evolve as linear models under gradient descent"), equation 3. The module's parameters are copied: training it
    later does not move the expansion.

    Args:
        module: in evaluation mode.
        outputs: picks the tensor (n, k) from what the module returns.
        parameters: which parameters vary; see `EmpiricalNTK`.

    Returns:
        `f_lin(parameters, x)` with parameters by name, one tensor for each that varies; NumPy in, NumPy out.

    >>> import torch
    >>> linear = torch.nn.Linear(1, 1, bias=False)
    >>> linearized = linearize(linear)
    >>> linearized({"weight": torch.tensor([[3.0]])}, torch.tensor([[2.0]])).item()
    6.0
    """
    names = select("linearize", module, parameters)
    origin = copy.deepcopy(module)

    def linearized(new_parameters: Parameters, x: Inputs) -> Any:
        with derivatives(origin):
            problem = make_problem("linearize", origin, outputs, names, x)
            value = problem.first.answer(problem.network.checked(problem.first).detach())
            old = problem.network.chosen
        change = {
            name: torch.as_tensor(given).to(old[name]) - old[name].detach() if name in old else given
            for name, given in new_parameters.items()
        }
        return value + jacobian_vector_product(origin, outputs, parameters, x, change)

    return linearized
