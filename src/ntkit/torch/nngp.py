"""The kernel of a module's outputs: the finite counterpart of the NNGP."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ntkit.empirical.function_kernel import FunctionKernel
from ntkit.engines.plan import tracked
from ntkit.torch.inputs import Batch, Inputs
from ntkit.torch.network import Network, Outputs, derivatives, make_problem
from ntkit.torch.probe import probe

EXAMPLES = 256
"""Examples evaluated at a time."""


@dataclass(frozen=True, eq=False, repr=False)
class EmpiricalNNGP(FunctionKernel):
    """The kernel of a module's outputs, `k(x, x') = (1/k) Σ_o f_o(x) f_o(x')`, shape (n, m).

    Averaged over draws of the parameters it is the covariance of the outputs, which tends to `NNGP(network)`.

    Args:
        module: in evaluation mode; each example is treated alone.
        outputs: picks the tensor (n, k) from what the module returns; a hidden layer's features are features too.

    >>> import torch
    >>> EmpiricalNNGP(torch.nn.Flatten())(torch.tensor([[1.0, 2.0], [0.0, 4.0]]))
    tensor([[2.5000, 4.0000],
            [4.0000, 8.0000]])
    """

    module: nn.Module
    outputs: Outputs = None

    def __eq__(self, other: object) -> bool:
        return self is other  # a module can be trained, so that only the same kernel is an equal one

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"EmpiricalNNGP({type(self.module).__name__})"

    def __call__(self, x1: Inputs, x2: Inputs | None = None) -> Any:
        """The kernel, shape (n, m); with `x2=None` exactly symmetric."""
        with derivatives(self.module), torch.no_grad():
            problem = make_problem("EmpiricalNNGP", self.module, self.outputs, [], x1, x2)
            left = _features(problem.network, problem.first)
            if problem.second is None:
                gram = left @ left.mT
                gram = gram.triu() + gram.triu(1).mT
            else:
                gram = left @ _features(problem.network, problem.second).mT
            return problem.first.answer(gram / left.shape[1])

    def diag(self, x: Inputs) -> Any:
        """`k(x_i, x_i)`, shape (n,)."""
        with derivatives(self.module), torch.no_grad():
            problem = make_problem("EmpiricalNNGP", self.module, self.outputs, [], x)
            return problem.first.answer(_features(problem.network, problem.first).square().mean(1))


def _features(network: Network, batch: Batch) -> torch.Tensor:
    """The outputs, shape (n, k), checked for mixing and for numbers that are not finite."""
    probe(network, batch, layerwise=False)
    parts = list(batch.parts(EXAMPLES))
    values = torch.cat([network.checked(part) for part in tracked(parts, len(parts), "outputs")])
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            "EmpiricalNNGP needs finite outputs. Look at the module and at the scale of its inputs."
        )
    return values
