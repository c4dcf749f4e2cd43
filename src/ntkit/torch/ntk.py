"""The empirical neural tangent kernel of a PyTorch module."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ntkit.empirical.function_kernel import FunctionKernel
from ntkit.torch import products
from ntkit.torch.engine import Evaluation, make_evaluation
from ntkit.torch.factors import Form
from ntkit.torch.inputs import Inputs
from ntkit.torch.network import Outputs, Selection, derivatives, make_problem, select
from ntkit.torch.plan import Plan

METHODS = ("auto", "layerwise", "jacobian")


@dataclass(frozen=True, eq=False, repr=False)
class EmpiricalNTK(FunctionKernel):
    """The tangent kernel of a finite module at its parameters, traced over outputs.

    `Θ(x, x') = (1/k) Σ_o Σ_p ∂_p f_o(x; θ) ∂_p f_o(x'; θ)`, shape (n, m): the k x k block `J(x) J(x')ᵀ` (see `full`)
    traced and divided by the number of outputs, as in `ntkit.EmpiricalNTK`. Jacot, Gabriel & Hongler (2018, "Neural
    tangent kernel", section 4).

    Dense, convolution, embedding and norm layers, attention and GPT-2's `Conv1D` are taken layer by layer: the Gram
    of a layer's inputs times the Gram of the cotangents of its outputs, `(A A') * (G G')`, or the gradients `Aᵀ G`
    and one product, whichever costs fewer multiply-adds (`plan` shows which). One sweep per output serves all
    examples, legitimate because examples do not mix, which is checked. All other parameters (recurrent layers,
    parameters used directly) go through `torch.func`, exact as well.

    NumPy in gives NumPy out, tensors in give tensors on their device. The dtype is that of parameters and inputs
    together: NumPy float64 inputs give a float64 kernel even of float32 parameters, which are converted in a copy;
    half precision becomes float32. The module is left as it was. On a GPU products follow PyTorch's settings of
    precision; convolutions use TF32 there unless `torch.backends.cudnn.allow_tf32 = False`.

    Args:
        module: in evaluation mode; each example is treated alone.
        outputs: picks the tensor (n, k) from what the module returns, e.g. `lambda result: result.logits`.
        parameters: which parameters, frozen ones included: None for all, a condition on the name, or a list of names of
            parameters and submodules.
        method: "layerwise" and "jacobian" ask for one method; "auto" is layer-wise where it applies.
        memory_limit: bytes that may be taken beside the result (default 1 GiB).

    Raises:
        ValueError: when called on a module in training mode whose examples mix, or when one example exceeds
            `memory_limit`.
        MemoryError: when the result is larger than the machine's memory.

    >>> import torch
    >>> linear = torch.nn.Linear(2, 1, bias=False)
    >>> EmpiricalNTK(linear)(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    tensor([[5., 6.],
            [6., 9.]])
    """

    module: nn.Module
    outputs: Outputs = None
    parameters: Selection = None
    method: str = "auto"
    memory_limit: int = 2**30

    def __post_init__(self) -> None:
        select("EmpiricalNTK", self.module, self.parameters)
        if self.method not in METHODS:
            raise ValueError(
                f"EmpiricalNTK needs method 'auto', 'layerwise' or 'jacobian', got {self.method!r}."
            )

    def __eq__(self, other: object) -> bool:
        return self is other  # a module can be trained, so that only the same kernel is an equal one

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        count = sum(value.numel() for value in self.module.parameters())
        return f"EmpiricalNTK({type(self.module).__name__}, {count} parameters)"

    def __call__(self, x1: Inputs, x2: Inputs | None = None) -> Any:
        """The output-traced kernel, shape (n, m); with `x2=None` exactly symmetric, each pair of tiles visited once.

        Inputs are arrays (n, ...) of NumPy or PyTorch, floating or tokens, or dicts of them, passed by keyword.
        """
        return self._blocks(x1, x2, "traced", _everything)[None]

    def full(self, x1: Inputs, x2: Inputs | None = None) -> Any:
        """`Θ_ab(x_i, x'_j) = Σ_p ∂_p f_a(x_i) ∂_p f_b(x'_j)`, shape (n, m, k, k), not divided by k."""
        return self._blocks(x1, x2, "full", _everything)[None]

    def per_output(self, x1: Inputs, x2: Inputs | None = None) -> Any:
        """The diagonal of `full` over outputs, shape (n, m, k): the kernel of each output alone."""
        return self._blocks(x1, x2, "per_output", _everything)[None]

    def blocks(
        self, x1: Inputs, x2: Inputs | None = None, by: Callable[[str], Any] | None = None
    ) -> dict[Any, Any]:
        """The traced kernel of each parameter, or of each group of them, (n, m); their sum is the kernel.

        Args:
            x1: inputs.
            x2: other inputs.
            by: the group of a parameter's name, e.g. `lambda name: name.split(".")[0]`; None for each alone.
        """
        return self._blocks(x1, x2, "traced", by or str)

    def diag(self, x: Inputs) -> Any:
        """`Θ(x_i, x_i)`, shape (n,), without the matrix."""
        with derivatives(self.module):
            found = self._evaluation(x, None, "traced")
            return found.problem.first.answer(found.squares() / found.structure.outputs)

    def plan(
        self,
        x1: Inputs,
        x2: Inputs | None = None,
        *,
        kind: Form = "traced",
    ) -> Plan:
        """Which parameter is contracted how, what that costs and how examples are tiled; print it."""
        with derivatives(self.module):
            return self._evaluation(x1, x2, kind).plan

    def jacobian_vector_product(self, x: Inputs, tangent: dict[str, torch.Tensor]) -> Any:
        """`J(x) v`, shape (n, k), for a change of each parameter by name."""
        return products.jacobian_vector_product(self.module, self.outputs, self.parameters, x, tangent)

    def vector_jacobian_product(self, x: Inputs, cotangent: Any) -> dict[str, torch.Tensor]:
        """`J(x)ᵀ u` for u of shape (n, k): one tensor per parameter, by name."""
        return products.vector_jacobian_product(self.module, self.outputs, self.parameters, x, cotangent)

    def kernel_vector_product(self, x: Inputs, cotangent: Any, x2: Inputs | None = None) -> Any:
        """`J(x) J(x2)ᵀ u`, shape (n, k), for u of shape (m, k), without the kernel; `x2=None` means x.

        The full kernel acts, not the traced one.
        """
        u = self.vector_jacobian_product(x if x2 is None else x2, cotangent)
        return self.jacobian_vector_product(x, u)

    def _evaluation(self, x1: Inputs, x2: Inputs | None, form: Form) -> Evaluation:
        names = select("EmpiricalNTK", self.module, self.parameters)
        problem = make_problem("EmpiricalNTK", self.module, self.outputs, names, x1, x2)
        return make_evaluation(problem, form, self.method, self.memory_limit)

    def _blocks(
        self, x1: Inputs, x2: Inputs | None, form: Form, group: Callable[[str], Any]
    ) -> dict[Any, Any]:
        with derivatives(self.module):
            found = self._evaluation(x1, x2, form)
            grams = found.grams(form, group)
            if form == "traced":
                grams = {name: gram / found.structure.outputs for name, gram in grams.items()}
            return {name: found.problem.first.answer(gram) for name, gram in grams.items()}


def _everything(name: str) -> None:
    """All parameters are one group."""
