"""The first-order Taylor expansion of a network in its parameters: a linear model with a constant kernel."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.empirical.function import Function, Params, as_inputs, as_params, count_outputs
from ntkit.numerics.dtypes import Array, is_concrete, is_numpy, precision


def linearize(f: Function, params: Params):
    """The linearised function `f_lin(θ, x) = f(x; θ_0) + J(x)(θ − θ_0)` at `θ_0 = params`.

    Computed as one forward-mode derivative, exact to rounding, without a Jacobian. Its empirical
    NTK is that of `f` at `params`, whatever `θ` is. Lee et al. (2019, "Wide neural networks of any
    depth evolve as linear models under gradient descent"), equation 3.

    Args:
        f: `f(params, x)` with inputs (n, ...) and outputs (n, k).
        params: the pytree of floating-point arrays to expand at.

    Returns:
        `f_lin(params, x)`, used like `f`; NumPy inputs give NumPy outputs of the same dtype (the
        parameters are converted to it), JAX inputs give JAX outputs.

    >>> import numpy as np
    >>> f = lambda w, x: x * w**2
    >>> linearize(f, np.array(3.0))(np.array(4.0), np.array([[1.0], [2.0]]))   # 9 x + 6 x (4 - 3)
    array([[15.],
           [30.]])
    """

    def linearized(new_params: Params, x: Float[Array, "n *d"]) -> Float[Array, "n k"]:
        x = as_inputs("linearize", x)
        if not is_numpy(x) or not is_concrete((params, new_params)):
            return _expand(f, params, new_params, jnp.asarray(x))
        with precision(x.dtype):
            return np.array(_expand(f, params, new_params, jnp.asarray(x)))

    return linearized


def _expand(f: Function, params: Params, new_params: Params, x: jax.Array) -> Any:
    origin = as_params("linearize", params, x.dtype)
    target = as_params("linearize", new_params, x.dtype)
    count_outputs("linearize", f, origin, x)
    displacement = jax.tree_util.tree_map(jnp.subtract, target, origin)
    with jax.default_matmul_precision("highest"):
        outputs, change = jax.jvp(lambda parameters: f(parameters, x), (origin,), (displacement,))
    return outputs + change
