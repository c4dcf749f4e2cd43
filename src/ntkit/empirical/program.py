"""One example's way through `f(params, x)` as a flat list of operations, ready to be read and run again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}
"""Operations that only wrap others, and the parameter that holds what they wrap.

What has a derivative of its own (custom_jvp_call) or a loop (scan, while, cond) stays whole.
"""


@dataclass(frozen=True, eq=False)
class Constant:
    """A number written into the program."""

    value: Any
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Value:
    """A value that the program computes or takes; `number` is its place in the order of appearance."""

    number: int
    shape: tuple[int, ...]
    dtype: Any = field(compare=False)


Atom = Constant | Value


@dataclass(frozen=True)
class Operation:
    """One equation of the function's jaxpr, with the program's names for what goes in and comes out."""

    owner: Jaxpr
    equation: JaxprEqn
    inputs: tuple[Atom, ...]
    outputs: tuple[Value, ...]

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.equation.primitive.name

    @property
    def settings(self) -> dict[str, Any]:
        """JAX's own parameters of the primitive."""
        return self.equation.params

    def run(self, *arguments: Any) -> list[Any]:
        """The outputs for these inputs, differentiable and batchable like any JAX function."""
        taken: dict[Any, Any] = {}
        for variable, argument in zip(self.equation.invars, arguments, strict=True):
            if not isinstance(variable, Literal):
                taken[variable] = argument
        alone = self.owner.replace(
            constvars=[], invars=list(taken), outvars=list(self.equation.outvars), eqns=[self.equation]
        )
        return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*taken.values())


@dataclass(frozen=True)
class Program:
    """`single(params, point)` as operations in order.

    Attributes:
        operations: in an order in which they can run.
        constants: arrays that the function closes over.
        leaves: the leaves of the parameters, in pytree order.
        inputs: the leaves of the point.
        output: the vector of outputs, shape (k,).
    """

    operations: tuple[Operation, ...]
    constants: dict[Value, Any]
    leaves: tuple[Value, ...]
    inputs: tuple[Value, ...]
    output: Atom

    def evaluate(
        self,
        leaves: list[Any],
        point: list[Any],
        step: Callable[[Operation, list[Any]], list[Any]],
    ) -> tuple[Any, dict[Value, Any]]:
        """The output for these parameters and this point, and all values on the way; `step` runs an operation."""
        values: dict[Value, Any] = dict(self.constants)
        values.update(zip(self.leaves, leaves, strict=True))
        values.update(zip(self.inputs, point, strict=True))
        for operation in self.operations:
            results = step(operation, [read(atom, values) for atom in operation.inputs])
            values.update(zip(operation.outputs, results, strict=True))
        return read(self.output, values), values


def read(atom: Atom, values: dict[Value, Any]) -> Any:
    """What an atom stands for, given the values so far."""
    return atom.value if isinstance(atom, Constant) else values[atom]


def trace(single: Callable[[Any, Any], jax.Array], params: Any, point: Any) -> Program:
    """The program of a function of one example; only shapes and dtypes of the arguments are looked at."""
    closed = jax.make_jaxpr(single)(params, point)
    numbers = _Numbers()
    operations: list[Operation] = []
    arguments = [numbers.fresh(variable) for variable in closed.jaxpr.invars]
    (output,) = _inline(closed, arguments, numbers, operations)
    leaves = len(jax.tree_util.tree_leaves(params))
    return Program(
        tuple(operations), numbers.constants, tuple(arguments[:leaves]), tuple(arguments[leaves:]), output
    )


class _Numbers:
    """Gives every value its number, once per time that its operation runs."""

    def __init__(self) -> None:
        self.used = 0
        self.constants: dict[Value, Any] = {}

    def fresh(self, variable: Any) -> Value:
        self.used += 1
        return Value(self.used, tuple(variable.aval.shape), variable.aval.dtype)


def _inline(
    closed: ClosedJaxpr, arguments: list[Any], numbers: _Numbers, operations: list[Operation]
) -> Iterator[Atom]:
    """Append the operations of `closed`, those of its wrapped calls included; returns its outputs."""
    known: dict[Any, Atom] = dict(zip(closed.jaxpr.invars, arguments, strict=True))
    for variable, constant in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        known[variable] = value = numbers.fresh(variable)
        numbers.constants[value] = constant

    def read(atom: Any) -> Atom:
        return Constant(atom.val, np.shape(atom.val)) if isinstance(atom, Literal) else known[atom]

    for equation in closed.jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        wrapped = equation.params.get(INLINED.get(equation.primitive.name, ""))
        if isinstance(wrapped, Jaxpr):
            wrapped = ClosedJaxpr(wrapped, ())
        if isinstance(wrapped, ClosedJaxpr):
            known.update(zip(equation.outvars, _inline(wrapped, inputs, numbers, operations), strict=True))
            continue
        outputs = [numbers.fresh(variable) for variable in equation.outvars]
        known.update(zip(equation.outvars, outputs, strict=True))
        operations.append(Operation(closed.jaxpr, equation, tuple(inputs), tuple(outputs)))
    return (read(atom) for atom in closed.jaxpr.outvars)
