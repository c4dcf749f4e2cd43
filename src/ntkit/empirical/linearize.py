"""The first-order Taylor expansion of a network in its parameters: a linear model with a constant kernel."""

from collections.abc import Callable
from typing import Any

from ntkit.empirical.function import Function, Params
from ntkit.empirical.taylor import expansion


def linearize(f: Function, params: Params) -> Callable[[Params, Any], Any]:
    """The linearised function `f_lin(θ, x) = f(x; θ_0) + J(x)(θ − θ_0)` at `θ_0 = params`.

    Computed as one forward-mode derivative, exact to rounding, without a Jacobian: `taylor_expand` at
    degree 1. Its empirical NTK is that of `f` at `params`, whatever `θ` is. Lee et al. (2019, "Wide
    neural networks of any depth evolve as linear models under gradient descent"), equation 3.

    Args:
        f: `f(params, x)` with inputs (n, ...), tokens included, and outputs (n, k); either may be a pytree of arrays.
        params: the pytree of floating-point arrays to expand at.

    Returns:
        `f_lin(params, x)`, used like `f` and returning what `f` does; NumPy inputs give NumPy outputs, JAX inputs JAX
        outputs, in the dtype of the inputs' floating arrays, to which the parameters are converted. Integers alone
        (tokens) take the dtype of `params`.

    >>> import numpy as np
    >>> f = lambda w, x: x * w**2
    >>> linearize(f, np.array(3.0))(np.array(4.0), np.array([[1.0], [2.0]]))   # 9 x + 6 x (4 - 3)
    array([[15.],
           [30.]])
    """
    return expansion("linearize", f, params, 1)
