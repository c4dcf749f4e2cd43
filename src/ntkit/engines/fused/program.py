"""The `propagate` of a block of layers, taken apart: what each point, each other point, each pair has to compute.

The one definition of every dual is its layer's, on JAX arrays. Traced on scalars it becomes a list of elementary
operations; an operation that depends on one point only is done once per point by JAX, the rest goes, line by line, into
a compiled loop over pairs.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from ntkit.errors import FusionError
from ntkit.nn.base import Layer
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import precision

SUMS = {"mehler": 2, "chebyshev_series": 3}
"""Functions that the generator knows as one operation, and the rows of work space that each needs."""

PAIR_INPUTS = ("cov", "ntk", "defect", "surplus")


class Reach(IntEnum):
    """What a value depends on beyond the layers' parameters."""

    NOTHING = 0
    ROW = 1
    COLUMN = 2
    PAIR = 3

    def joined(self, other: "Reach") -> "Reach":
        """What a value depends on that depends on both."""
        return Reach(int(self) | int(other))


@dataclass(frozen=True)
class Operation:
    """One operation: `name = primitive(arguments)`; arguments are names, or literals as NumPy scalars."""

    name: str
    primitive: Any
    settings: dict
    arguments: tuple[Any, ...]
    outputs: tuple[str, ...]
    reach: Reach


@dataclass(frozen=True)
class Form:
    """Shape and kind of a value: `()` for a number, `(k,)` for a vector, and whether it is a truth value."""

    shape: tuple[int, ...]
    truth: bool


@dataclass(eq=False)
class Program:
    """The operations of a block of layers in order, and the names of its results.

    Attributes:
        parameters: names of the layers' numbers.
        operations: in order.
        results: names (or literals) of nngp, ntk, defect and surplus after the block.
        after: names (or literals) of both variances after the block.
        width: the width after the block, None if it passes on that before it.
    """

    parameters: tuple[str, ...]
    operations: list[Operation] = field(default_factory=list)
    reach: dict[str, Reach] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    results: tuple[Any, ...] = ()
    after: tuple[Any, ...] = ()
    width: int | None = None

    @property
    def work(self) -> int:
        """The rows of work space that its sums need."""
        return sum(SUMS.get(operation.name, 0) for operation in self.operations)

    def needed(self, roots: Sequence[Any], ready: Container[str] = ()) -> set[str]:
        """Every name that the roots depend on, themselves included; not looking behind names that are ready."""
        origin = {output: operation for operation in self.operations for output in operation.outputs}
        found: set[str] = set()
        waiting = [root for root in roots if isinstance(root, str)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                if name in origin and name not in ready:
                    waiting += [a for a in origin[name].arguments if isinstance(a, str)]
        return found


@lru_cache(maxsize=512)
def trace(structure: Any, shapes: tuple[tuple[int, ...], ...], dtype: np.dtype, ntk: bool) -> Program:
    """Take the `propagate` of a block of layers apart: parameters, width, variances and pairs are unknowns.

    Args:
        structure: the JAX tree structure of a tuple of layers.
        shapes: of its leaves.
        dtype: of all numbers.
        ntk: whether the tangent kernel is wanted.

    Raises:
        FusionError: for layers whose pairs need more than elementary operations.
    """
    widths: list[Any] = []

    def propagate(leaves, width, cov, tangent, var1, var2, defect, surplus):
        block: tuple[Layer, ...] = jax.tree_util.tree_unflatten(structure, leaves)
        state = KernelState(cov, tangent if ntk else None, var1, var2, defect, surplus, width)
        for layer in block:
            state = layer.propagate(state)
        widths.append(state.width)
        tangent = state.ntk if ntk else tangent
        return state.nngp, tangent, state.defect, state.surplus, state.var1, state.var2

    scalar = jax.ShapeDtypeStruct((), dtype)
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    with precision(dtype):
        closed = jax.make_jaxpr(propagate)(leaves, *[scalar] * 7)
    names = [*(f"p{number}" for number in range(len(leaves))), "width"]
    program = Program(tuple(names))
    program.width = widths[0] if isinstance(widths[0], int) else None
    for name, shape in zip(names, [*leaves, scalar], strict=True):
        program.reach[name], program.forms[name] = Reach.NOTHING, Form(shape.shape, False)
    reaches = (Reach.PAIR, Reach.PAIR, Reach.ROW, Reach.COLUMN, Reach.PAIR, Reach.PAIR)
    for name, reach in zip(("cov", "ntk", "var1", "var2", "defect", "surplus"), reaches, strict=True):
        program.reach[name], program.forms[name] = reach, Form((), False)
    inputs = [*names, "cov", "ntk", "var1", "var2", "defect", "surplus"]
    *results, after1, after2 = _Flattener(program).run(closed.jaxpr, closed.consts, inputs)
    program.results, program.after = tuple(results), (after1, after2)
    return program


class _Flattener:
    """Inlines calls wherever pairs are involved, and leaves everything else as it is."""

    TRANSPARENT = ("convert_element_type", "stop_gradient", "copy")

    def __init__(self, program: Program) -> None:
        self.program, self.count = program, 0
        self.done: dict[Any, list[Any]] = {}

    def run(self, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        known: dict[Any, Any] = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= {
            variable: np.asarray(value) for variable, value in zip(jaxpr.constvars, constants, strict=True)
        }

        def read(atom: Any) -> Any:
            return np.asarray(atom.val) if hasattr(atom, "val") else known[atom]

        for equation in jaxpr.eqns:
            arguments = [read(atom) for atom in equation.invars]
            outputs = self._equation(equation, arguments)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, arguments: list[Any]) -> list[Any]:
        reach = Reach.NOTHING
        for argument in arguments:
            if isinstance(argument, str):
                reach = reach.joined(self.program.reach[argument])
        called = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        primitive = equation.primitive.name
        if reach is Reach.PAIR and called is not None and equation.params.get("name") not in SUMS:
            if primitive in ("scan", "while", "cond"):
                raise FusionError(f"a {primitive} loop over pairs")
            inner = getattr(called, "jaxpr", called)
            return self.run(inner, getattr(called, "consts", ()), arguments)
        if reach is Reach.PAIR and primitive in self.TRANSPARENT:
            truth = isinstance(arguments[0], str) and self.program.forms[arguments[0]].truth
            if truth != (equation.outvars[0].aval.dtype == bool):
                raise FusionError("a conversion between truth values and numbers")
            return arguments
        key = (primitive, repr(equation.params), tuple(map(_identity, arguments))) if called is None else None
        if key in self.done:
            return self.done[key]
        outputs = []
        for variable in equation.outvars:
            name = f"t{self.count}"
            self.count += 1
            self.program.reach[name] = reach
            self.program.forms[name] = Form(variable.aval.shape, variable.aval.dtype == bool)
            outputs.append(name)
        self.program.operations.append(
            Operation(
                equation.params.get("name", primitive) if called is not None else primitive,
                equation.primitive,
                equation.params,
                tuple(arguments),
                tuple(outputs),
                reach,
            )
        )
        if key is not None:
            self.done[key] = outputs
        return outputs


def _identity(argument: Any) -> Any:
    """What two arguments share exactly if they are the same value."""
    return (
        argument if isinstance(argument, str) else (str(argument.dtype), argument.shape, argument.tobytes())
    )


CALLS = ("jit", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint", "closed_call")
"""Operations that only call their `jaxpr`."""


def _perform(operation: Operation, arguments: Sequence[Any]) -> Sequence[Any]:
    """An operation's outputs, by JAX."""
    settings = operation.settings
    called = settings.get("jaxpr", settings.get("call_jaxpr"))
    if called is not None and operation.primitive.name in CALLS:
        closed = called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, ())
        return jaxpr_as_fun(closed)(*arguments)
    outcome = operation.primitive.bind(*arguments, **settings)
    return outcome if operation.primitive.multiple_results else [outcome]


def side_values(
    program: Program, wanted: Sequence[Any], parameters: Sequence[Any], name: str, var: Any
) -> list[Any]:
    """What one point contributes: values that depend on it and the parameters only, by JAX.

    Args:
        program: the block's program.
        wanted: names or literals.
        parameters: the layers' numbers.
        name: "var1" or "var2".
        var: the point's variance before the block, a scalar.
    """
    values: dict[str, Any] = dict(zip(program.parameters, parameters, strict=True)) | {name: var}
    needed = program.needed(wanted)
    for operation in program.operations:
        if needed.isdisjoint(operation.outputs):
            continue
        arguments = [values[a] if isinstance(a, str) else jnp.asarray(a) for a in operation.arguments]
        values.update(zip(operation.outputs, _perform(operation, arguments), strict=True))
    return [values[item] if isinstance(item, str) else jnp.asarray(item) for item in wanted]
