"""The empirical neural tangent kernel of any JAX function, layer by layer, tile by tile inside a memory budget."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.empirical.alone import check_examples_alone
from ntkit.empirical.blocks import Task, compiled_diagonal, own_diagonal
from ntkit.empirical.contraction import Contraction, Full, PerOutput, Traced
from ntkit.empirical.function import (
    Function,
    Params,
    as_example_pair,
    as_examples,
    as_params,
    check_function,
    count_joined_outputs,
    reverse_derivatives,
    working_dtype,
)
from ntkit.empirical.function_kernel import FunctionKernel
from ntkit.empirical.gram import concrete_grams, traced_grams
from ntkit.empirical.plan import Plan, Study, make_plan, study
from ntkit.empirical.selection import Mask, Parameters, as_parameters, chosen_leaves, names_of
from ntkit.numerics.dtypes import Array, at_once, is_concrete, is_numpy, precision, to_jax

FORWARD = 'method="auto" with memory_limit enough for the Jacobian of a point, which it takes by forward mode'


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False, repr=False)
class EmpiricalNTK(FunctionKernel):
    """The tangent kernel of a finite function at its parameters, traced over outputs.

    `Θ(x, x') = (1/O) Σ_o Σ_p ∂_p f_o(x; θ) ∂_p f_o(x'; θ)`, shape (n, m): the O x O block `J(x) J(x')ᵀ` (see `full`)
    traced and divided by the number of outputs, so that it tends to `NTK(network)` as the width grows, with O(1/√width)
    fluctuations. Jacot, Gabriel & Hongler (2018, "Neural tangent kernel", section 4).

    Computed layer by layer: where a parameter meets data in a product, a convolution or a lookup, its gradient is a
    sum over positions of outer products (what went in) x (cotangent of what came out), and the kernel follows from the
    Grams of the two, or from gradients formed a part at a time (compare Novak, Sohl-Dickstein & Schoenholz 2022, "Fast
    finite width neural tangent kernel"). Every other parameter takes rows of the Jacobian, so the result is exact for
    any function; `plan` shows which parameter is held in which form, and what it costs.

    The dtype is that of the inputs' floating arrays: the parameters are converted to it, so NumPy float64 inputs give
    a float64 kernel even of parameters drawn in float32, whatever the JAX configuration. Integers alone (tokens) take
    the parameters' dtype. Under `jit`, `grad` and `vmap` the kernel is a pure function.

    Args:
        f: `f(params, x)`, inputs (n, ...) or a pytree of such arrays to outputs (n, ...) or a pytree of such arrays,
            joined to O numbers a point; each point is treated alone, and a function that mixes the points of a batch
            (batch normalisation or dropout in training mode) is refused.
        params: pytree of floating-point arrays.
        parameters: over which the kernel is taken: None for all; names ("head", "blocks/0/attention") or shell
            patterns ("*lora*") of paths; a function of a path; or booleans in the shape of `params`.
        method: "layerwise", "jacobian" (rows for every parameter), "products" (no derivative is kept: products with the
            Jacobian and its transpose), or "auto": layer by layer where a form is found and fits the memory.
        memory_limit: bytes that derivatives, and what the result is put together from, may take (default 1 GiB).

    >>> import numpy as np
    >>> EmpiricalNTK(lambda w, x: x @ w, np.zeros((2, 1)))(np.array([[1.0, 2.0], [0.0, 3.0]]))
    array([[5., 6.],
           [6., 9.]])
    """

    f: Function
    params: Params
    memory_limit: int = 2**30
    parameters: Parameters = None
    method: str = "auto"

    def __post_init__(self):
        check_function("EmpiricalNTK", self.f)
        if self.method not in ("auto", "layerwise", "jacobian", "products"):
            raise ValueError(
                "EmpiricalNTK needs method as 'auto', 'layerwise', 'jacobian' or 'products', "
                f"got {self.method!r}."
            )
        object.__setattr__(self, "parameters", as_parameters(self.parameters))

    def tree_flatten(self) -> tuple[tuple[Params], tuple[Any, ...]]:
        """The parameters are leaves, all else is structure."""
        return (self.params,), (self.f, self.memory_limit, self.parameters, self.method)

    @classmethod
    def tree_unflatten(cls, structure: tuple[Any, ...], leaves: tuple[Params]) -> "EmpiricalNTK":
        """Rebuilt without checks: JAX fills leaves with placeholders."""
        kernel = object.__new__(cls)
        names = ("f", "memory_limit", "parameters", "method", "params")
        for name, value in zip(names, (*structure, *leaves), strict=True):
            object.__setattr__(kernel, name, value)
        return kernel

    def __repr__(self) -> str:
        sizes = [np.size(leaf) for leaf in jax.tree_util.tree_leaves(self.params)]
        return (
            f"EmpiricalNTK({getattr(self.f, '__qualname__', type(self.f).__name__)}, {sum(sizes)} parameters)"
        )

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "n m"]:
        """The output-traced kernel; with `x2=None` exactly symmetric, each pair of points visited once.

        Raises:
            ValueError: when the derivatives of a single point exceed `memory_limit` in the method asked for, when f
                does not return (n, ...) or mixes its points, or when a derivative is not finite.
            MemoryError: when the result is larger than the machine's memory.
        """
        return self._grams(x1, x2, Traced())[0]

    def per_output(self, x1: Any, x2: Any = None) -> Float[Array, "n m k"]:
        """`Σ_p ∂_p f_o(x_i) ∂_p f_o(x'_j)` for each output: the diagonal of `full` over outputs, shape (n, m, k)."""
        return self._grams(x1, x2, PerOutput())[0]

    def full(self, x1: Any, x2: Any = None) -> Float[Array, "n m k k"]:
        """`Θ_ab(x_i, x'_j) = Σ_p ∂_p f_a(x_i) ∂_p f_b(x'_j)`, shape (n, m, k, k), not divided by k."""
        return self._grams(x1, x2, Full())[0]

    def blocks(
        self, x1: Any, x2: Any = None, by: Callable[[str], str] | None = None
    ) -> dict[str, Float[Array, "n m"]]:
        """The output-traced kernel of each block of parameters, (n, m) each; their sum is the kernel.

        Args:
            x1: inputs.
            x2: other inputs, or None.
            by: the block's name for a parameter's path; by default every leaf is a block of its own path.
        """
        names = names_of(self.params)
        chosen = chosen_leaves("EmpiricalNTK", self.params, self.parameters)
        labels = {
            number: name if by is None else by(name)
            for number, name in enumerate(names)
            if chosen[number] is not False
        }
        wanted = tuple(dict.fromkeys(labels.values()))
        return dict(zip(wanted, self._grams(x1, x2, Traced(), labels), strict=True))

    def diag(self, x: Any) -> Float[Array, " n"]:
        """`(1/O) Σ_op (∂_p f_o(x_i))²` for each point, without the matrix."""
        return self._own(x, Traced())

    def diag_per_output(self, x: Any) -> Float[Array, "n k"]:
        """`Σ_p (∂_p f_o(x_i))²` for each point and output: the diagonal of `per_output` over points, shape (n, k).

        >>> import numpy as np
        >>> EmpiricalNTK(lambda w, x: x @ w, np.zeros((2, 3))).diag_per_output(np.array([[1.0, 2.0]]))
        array([[5., 5., 5.]])
        """
        return self._own(x, PerOutput())

    def plan(
        self, x1: Any, x2: Any = None, *, kind: Literal["traced", "per_output", "full"] = "traced"
    ) -> Plan:
        """How the kernel between these points would be computed; printed, a table of leaves, bytes and operations."""
        n, m = as_example_pair("EmpiricalNTK", x1, x2)
        contraction = {"traced": Traced(), "per_output": PerOutput(), "full": Full()}[kind]
        with self._setting(x1) as (_, _, known, _, _):
            return self._plan(known, n, m, contraction, symmetric=x2 is None)

    def _own(self, x: Any, contraction: Contraction) -> Any:
        """The kernel of each point with itself."""
        n = as_examples("EmpiricalNTK", x)
        with self._setting(x) as (params, left, known, concrete, numpy):
            plan = self._plan(known, 1, 1, contraction, symmetric=False)
            plan = replace(plan, chunk=plan.together(n))
            run = compiled_diagonal if concrete else own_diagonal
            result = run(self._task(plan, contraction), params, self._masks(), left)
            return _checked(np.array(result) if numpy else result)

    def _grams(
        self, x1: Any, x2: Any, contraction: Contraction, labels: dict[int, str] | None = None
    ) -> tuple[Any, ...]:
        """The kernel of each group of parameters."""
        n, m = as_example_pair("EmpiricalNTK", x1, x2)
        with self._setting(x1, x2) as (params, left, known, concrete, numpy):
            right = None if x2 is None else to_jax(x2)
            kernels = 1 if labels is None else len(set(labels.values()))
            plan = self._plan(known, n, m, contraction, symmetric=x2 is None, kernels=kernels)
            parts = (self._task(plan, contraction, labels), plan, params, self._masks(), left, right)
            if not concrete:
                return traced_grams(*parts)
            return tuple(_checked(gram if numpy else jnp.asarray(gram)) for gram in concrete_grams(*parts))

    @contextmanager
    def _setting(self, x: Any, other: Any = None) -> Iterator[tuple[Params, Any, Study, bool, bool]]:
        """Parameters and inputs as JAX arrays of one precision, and what is known of f for them.

        Then whether all of it holds numbers, and whether the answer is due as NumPy.
        """
        given = is_concrete((self.params, x, other))
        numpy = given and is_numpy(x, other)
        dtype = working_dtype(self.params, x)
        with precision(dtype) if numpy else nullcontext(), reverse_derivatives("EmpiricalNTK", FORWARD):
            with at_once() if given else nullcontext():
                params = as_params("EmpiricalNTK", self.params, dtype)
                inputs = to_jax(x)
                known = self._study(params, inputs, x, given)
            concrete = given and known.closed
            with at_once() if concrete else nullcontext():
                yield params, inputs, known, concrete, numpy

    def _study(self, params: Params, x: Any, as_given: Any, given: bool) -> Study:
        """What is known of f for inputs like `x`, which are those given as JAX arrays; looked at once."""
        leaves, structure = jax.tree_util.tree_flatten(x)
        key = (structure, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves), given)
        if key not in self._seen:
            count_joined_outputs("EmpiricalNTK", self.f, params, x)
            structs = jax.tree_util.tree_map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params
            )
            point = jax.tree_util.tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)
            chosen = chosen_leaves("EmpiricalNTK", self.params, self.parameters)
            known = study(self.f, structs, point, chosen)
            if given and known.closed:
                check_examples_alone("EmpiricalNTK", self.f, params, as_given)
            self._seen[key] = known
        return self._seen[key]

    def _plan(
        self, known: Study, n: int, m: int, contraction: Contraction, *, symmetric: bool, kernels: int = 1
    ) -> Plan:
        key = (known, n, m, contraction, symmetric, kernels)
        if key not in self._seen:
            self._seen[key] = make_plan(
                "EmpiricalNTK",
                known,
                chosen_leaves("EmpiricalNTK", self.params, self.parameters),
                contraction,
                n,
                m,
                symmetric=symmetric,
                method=self.method,
                memory_limit=int(self.memory_limit),
                kernels=kernels,
            )
        return self._seen[key]

    def _task(self, plan: Plan, contraction: Contraction, labels: dict[int, str] | None = None) -> Task:
        return Task(self.f, plan.groups(labels), contraction, plan.outputs, plan.chunk, plan.outputs_at_once)

    def _masks(self) -> dict[int, jax.Array]:
        if not isinstance(self.parameters, Mask):
            return {}
        chosen = chosen_leaves("EmpiricalNTK", self.params, self.parameters)
        return {
            number: jnp.asarray(choice)
            for number, choice in enumerate(chosen)
            if isinstance(choice, np.ndarray)
        }

    @cached_property
    def _seen(self) -> dict[Any, Any]:
        """What was found out about f at inputs of given shapes, and the plans made from it; it holds no numbers."""
        return {}


def _checked(result: Any) -> Any:
    """Raise where a derivative was not finite, and say at which points."""
    if is_concrete(result) and not bool(np.isfinite(np.asarray(result)).all()):
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(np.asarray(result)))[0])
        raise ValueError(
            f"EmpiricalNTK needs f with finite derivatives, got {np.asarray(result)[where]} at entry {list(where)} "
            "of the kernel. Look at f(params, x) and its gradient at these points; float64 inputs widen the range."
        )
    return result
