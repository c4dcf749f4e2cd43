"""The two kernels of a network at infinite width: NNGP and NTK."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.engines import choice, reference
from ntkit.engines.choice import Engine, Execution
from ntkit.engines.reference import Grams
from ntkit.kernels.base import Kernel
from ntkit.nn.activations.expansion import ExpansionBound, expansion_bounds
from ntkit.nn.base import Layer
from ntkit.nn.mask import check_present
from ntkit.numerics.dtypes import Array, as_input_pair, as_inputs, at_once, is_concrete, is_numpy
from ntkit.numerics.trees import pytree


@pytree("engine")
@dataclass(frozen=True, eq=False)
class NNGP(Kernel):
    """Neural network Gaussian process kernel `Sigma(x, x')`: the covariance of one output at initialisation.

    The limit of `E[f(x) f(x')]` over random networks as every hidden layer's width grows (Neal 1994;
    Lee et al. 2018). Inputs are used as given; the first layer sees `x.x' / d`. Images go in as
    they are, shape (n, *S, c), channels last.

    Args:
        network: a layer of `ntkit.nn`, usually a `Serial`; for images one that ends in vectors.
        engine: how Gram matrices of numbers are computed on a CPU: "fused" (by Numba), "reference" (by XLA), or
            "auto", which fuses large ones where the network allows it. `plan` tells which and why.

    Raises:
        KernelOverflowError: on evaluation, when a value exceeds the inputs' dtype.
        FusionError: on evaluation, for engine="fused" and a network that it cannot run.
    """

    network: Layer
    engine: Engine = "auto"

    def __call__(
        self, x1: Float[Array, "n1 *d"], x2: Float[Array, "n2 *d"] | None = None
    ) -> Float[Array, "n1 n2"]:
        return nngp_and_ntk(self.network, x1, x2, ntk=False, engine=self.engine).nngp  # type: ignore[return-value]

    def diag(self, x: Float[Array, "n *d"]) -> Float[Array, " n"]:
        return _diagonal("NNGP", self.network, x, ntk=False).nngp  # type: ignore[return-value]

    def bounds(self, x: Float[Array, "n *d"]) -> tuple[ExpansionBound, ...]:
        """The certified truncation error of every expanded activation, for these inputs; none if all are closed."""
        return _bounds("NNGP", self.network, x, ntk=False)

    def plan(self, x1: Float[Array, "n1 *d"], x2: Float[Array, "n2 *d"] | None = None) -> Execution:
        """Engine, tiles, threads, memory and estimated time of the Gram matrix, to be printed."""
        return _plan(self.network, x1, x2, ntk=False, engine=self.engine)


@pytree("engine")
@dataclass(frozen=True, eq=False)
class NTK(Kernel):
    """Neural tangent kernel `Theta(x, x')` at infinite width (Jacot et al. 2018).

    The limit of `J(x) J(x')^T`, for one output, of a network whose every weight is trained. Inputs are
    used as given; the first layer sees `x.x' / d`. Images go in as they are, shape (n, *S, c), channels last.

    Args:
        network: a layer of `ntkit.nn`, usually a `Serial`.
        engine: as for `NNGP`.

    Raises:
        KernelUndefinedError: on evaluation, for a network with a discontinuous activation.
        KernelOverflowError: on evaluation, when a value exceeds the inputs' dtype.
        FusionError: on evaluation, for engine="fused" and a network that it cannot run.
    """

    network: Layer
    engine: Engine = "auto"

    def __call__(
        self, x1: Float[Array, "n1 *d"], x2: Float[Array, "n2 *d"] | None = None
    ) -> Float[Array, "n1 n2"]:
        return nngp_and_ntk(self.network, x1, x2, engine=self.engine).ntk  # type: ignore[return-value]

    def diag(self, x: Float[Array, "n *d"]) -> Float[Array, " n"]:
        return _diagonal("NTK", self.network, x, ntk=True).ntk  # type: ignore[return-value]

    def bounds(self, x: Float[Array, "n *d"]) -> tuple[ExpansionBound, ...]:
        """The certified truncation error of every expanded activation, for these inputs; none if all are closed."""
        return _bounds("NTK", self.network, x, ntk=True)

    def plan(self, x1: Float[Array, "n1 *d"], x2: Float[Array, "n2 *d"] | None = None) -> Execution:
        """Engine, tiles, threads, memory and estimated time of the Gram matrix, to be printed."""
        return _plan(self.network, x1, x2, ntk=True, engine=self.engine)


def nngp_and_ntk(
    network: Layer,
    x1: Float[Array, "n1 *d"],
    x2: Float[Array, "n2 *d"] | None = None,
    *,
    ntk: bool = True,
    engine: Engine = "auto",
) -> Grams:
    """Both kernels of one network in one pass.

    Args:
        network: a layer of `ntkit.nn`.
        x1: inputs, shape (n1, d), or images, shape (n1, *S, c); float32 or float64.
        x2: other inputs of the same dtype and shape but for their number; None for x1 against itself.
        ntk: whether the tangent kernel is wanted too.
        engine: as for `NNGP`; values traced by JAX and arrays on other devices always go through the reference engine.

    Returns:
        `Grams(nngp, ntk)`, each of shape (n1, n2) and the inputs' dtype.
    """
    x1, x2 = _input_pair(network, x1, x2)
    if _on_host(network, x1, x2):
        other = None if x2 is None else np.asarray(x2)
        # Numbers are due now, whatever JAX is tracing outside.
        with at_once():
            grams = choice.concrete(network, np.asarray(x1), other, ntk=ntk, engine=engine)
            return grams if is_numpy(x1, x2) else _to_jax(grams)
    return reference.traced(network, x1, x2, ntk=ntk)


def _diagonal(who: str, network: Layer, x: Array, *, ntk: bool) -> Grams:
    x = as_inputs(who, x)
    check_present(network, x, "x")
    if _on_host(network, x):
        with at_once():
            grams = choice.concrete_diagonal(network, np.asarray(x), ntk=ntk)
            return grams if is_numpy(x) else _to_jax(grams)
    return reference.traced_diagonal(network, x, ntk=ntk)


def _input_pair(network: Layer, x1: Array, x2: Array | None) -> tuple[Array, Array | None]:
    x1, x2 = as_input_pair("A kernel", x1, x2)
    check_present(network, x1, "x1")
    if x2 is not None:
        check_present(network, x2, "x2")
    return x1, x2


def _on_host(network: Layer, *x: Array | None) -> bool:
    """Whether all is concrete, and inputs are NumPy or all arrays lie on a CPU, where tiles beat one large program."""
    if not is_concrete((network, x)):
        return False
    arrays = [leaf for leaf in jax.tree_util.tree_leaves((network, x)) if isinstance(leaf, jax.Array)]
    return is_numpy(*x) or all(device.platform == "cpu" for array in arrays for device in array.devices())


def _to_jax(grams: Grams) -> Grams:
    return Grams(*(None if gram is None else jnp.asarray(gram) for gram in grams))


def _plan(network: Layer, x1: Array, x2: Array | None, *, ntk: bool, engine: Engine) -> Execution:
    x1, x2 = _input_pair(network, x1, x2)
    if not is_concrete((network, x1, x2)):
        raise ValueError(
            "plan needs concrete inputs, got values traced by JAX. Call it outside jit and grad."
        )
    other = None if x2 is None else np.asarray(x2)
    with at_once():
        return choice.execution(network, np.asarray(x1), other, ntk=ntk, engine=engine)


def _bounds(who: str, network: Layer, x: Array, *, ntk: bool) -> tuple[ExpansionBound, ...]:
    x = np.asarray(as_inputs(who, x))
    with at_once():
        return expansion_bounds(network, x, ntk)
