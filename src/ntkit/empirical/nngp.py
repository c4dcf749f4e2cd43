"""The kernel of a finite function's outputs: what its NNGP is the infinite-width mean of."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.empirical.alone import check_examples_alone
from ntkit.empirical.function import (
    Function,
    Params,
    as_example_pair,
    as_examples,
    as_params,
    check_function,
    count_joined_outputs,
    one_example,
    working_dtype,
)
from ntkit.empirical.function_kernel import FunctionKernel
from ntkit.numerics.dtypes import Array, is_concrete, is_numpy, precision, to_jax


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["f"])
@dataclass(frozen=True, eq=False)
class EmpiricalNNGP(FunctionKernel):
    """The Gram matrix of a finite function's outputs, averaged over them.

    `K(x, x') = (1/O) Σ_o f_o(x; θ) f_o(x'; θ)`; over random wide networks with independent outputs its mean tends to
    `NNGP(network)`. Lee et al. (2018, "Deep neural networks as Gaussian processes"). Each point is treated alone; the
    dtype is as for `EmpiricalNTK`.

    Args:
        f: `f(params, x)`, inputs (n, ...) or a pytree to outputs (n, ...) or a pytree, joined to O numbers a point.
        params: pytree of floating-point arrays.

    >>> import numpy as np
    >>> EmpiricalNNGP(lambda w, x: x @ w, np.array([[1.0, 0.0], [0.0, 2.0]]))(np.array([[1.0, 1.0], [3.0, 0.0]]))
    array([[2.5, 1.5],
           [1.5, 4.5]])
    """

    f: Function
    params: Params

    def __post_init__(self):
        check_function("EmpiricalNNGP", self.f)

    def __call__(self, x1: Any, x2: Any = None) -> Float[Array, "n m"]:
        """The output-averaged kernel; with `x2=None` symmetric.

        Raises:
            ValueError: for inputs that do not fit, or outputs that are not floating arrays (n, ...).
        """
        left, right = self._pair(x1, x2)
        gram = _product("no,mo->nm", left, right) / left.shape[1]
        return (gram + gram.T) / 2 if x2 is None else gram

    def full(self, x1: Any, x2: Any = None) -> Float[Array, "n m k k"]:
        """`f_a(x_i) f_b(x'_j)`, not divided by k."""
        return _product("na,mb->nmab", *self._pair(x1, x2))

    def diag(self, x: Any) -> Float[Array, " n"]:
        """`(1/O) Σ_o f_o(x_i)²` for each point."""
        as_examples("EmpiricalNNGP", x)
        return (self._outputs(x) ** 2).mean(axis=1)

    def _pair(self, x1: Any, x2: Any) -> tuple[Any, Any]:
        as_example_pair("EmpiricalNNGP", x1, x2)
        left = self._outputs(x1)
        return left, left if x2 is None else self._outputs(x2)

    def _outputs(self, x: Any) -> Any:
        """The outputs at each point alone, (n, O)."""
        dtype = working_dtype(self.params, x)
        numpy = is_concrete((self.params, x)) and is_numpy(x)
        with precision(dtype) if numpy else nullcontext():
            params = as_params("EmpiricalNNGP", self.params, dtype)
            inputs = to_jax(x)
            count_joined_outputs("EmpiricalNNGP", self.f, params, inputs)
            if is_concrete((self.params, x)):
                check_examples_alone("EmpiricalNNGP", self.f, params, x)
            outputs = _each(self.f, params, inputs)
            if is_concrete(outputs) and not bool(np.isfinite(np.asarray(outputs)).all()):
                raise ValueError(
                    "EmpiricalNNGP needs f with finite outputs, got some that are not. Look at f(params, x); float64 "
                    "inputs widen the range."
                )
            return np.array(outputs) if numpy and is_concrete(outputs) else outputs


def _product(formula: str, left: Any, right: Any) -> Any:
    if isinstance(left, np.ndarray):
        return np.einsum(formula, left, right)
    return jnp.einsum(formula, left, right, precision="highest")


@partial(jax.jit, static_argnums=0)
def _each(f: Function, params: Params, x: Any) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return jax.vmap(lambda point: one_example(f)(params, point))(x)
