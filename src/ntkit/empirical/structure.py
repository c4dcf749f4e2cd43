"""Where a parameter meets data in a product, a convolution or a lookup: the layers of a function, found in its program.

Of such a parameter the per-example gradient is a sum over positions of an outer product, (what went in) x (cotangent of
what came out), and need never be formed. A parameter is seen through transposes, reshapes, casts and constant scaling.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ntkit.empirical.program import Atom, Constant, Operation, Program, Value


@dataclass(frozen=True)
class View:
    """A leaf of the parameters, rearranged and scaled: each entry of it appears exactly once.

    Attributes:
        leaf: which leaf.
        layout: the rearrangements so far; two views with one layout have their entries in the same places.
        factors: numbers it was multiplied by (or divided by, where the flag is True).
    """

    leaf: int
    layout: tuple[Any, ...] = ()
    factors: tuple[tuple[Atom, bool], ...] = ()


@dataclass(frozen=True)
class Product:
    """`dot_general` of data with a view: the axes by their role, for the view and for the data."""

    view_first: bool
    view_contracted: tuple[int, ...]
    view_batch: tuple[int, ...]
    data_contracted: tuple[int, ...]
    data_batch: tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """`conv_general_dilated` of data with a view as its filter."""

    settings: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Lookup:
    """Rows of a table picked by integers that depend on the data: an embedding.

    Attributes:
        clipped: whether numbers beyond the table count as its ends; else they give no derivative.
    """

    clipped: bool


@dataclass(frozen=True)
class Use:
    """One place where a leaf meets data.

    Attributes:
        view: the leaf as it appears there.
        kind: how they meet.
        data: the other operand.
        output: what comes out.
        batches, positions, inputs, outputs: the gradient is for each of `batches` a sum over `positions` of outer
            products of `inputs` and `outputs` numbers.
    """

    view: View
    kind: Product | Convolution | Lookup
    data: Value
    output: Value
    batches: int
    positions: int
    inputs: int
    outputs: int

    @property
    def place(self) -> tuple[Any, ...]:
        """Equal for two uses of one leaf whose gradients have their entries in the same places."""
        kind = self.kind
        if isinstance(kind, Product):
            return (self.view.layout, kind.view_contracted, kind.view_batch)
        if isinstance(kind, Convolution):
            settings = dict(kind.settings)
            return (self.view.layout, settings["dimension_numbers"].rhs_spec, settings["feature_group_count"])
        return (self.view.layout, "lookup")


@dataclass(frozen=True)
class Structure:
    """What was found in a program.

    Attributes:
        uses: the uses of each leaf all of whose appearances have structure and one layout.
        shifts: leaves (biases) that are only ever added to what a leaf of `uses` makes of its data, in one place and
            at one position: the leaf's number to the number of that weight and the view that is added.
        forward_only: whether a parameter passes a loop of unknown length, which has no reverse derivative.
    """

    uses: dict[int, tuple[Use, ...]]
    shifts: dict[int, tuple[int, View]]
    forward_only: bool = False


def find_structure(program: Program, chosen: tuple[bool, ...]) -> Structure:
    """Look for the layers of a function in its program.

    Args:
        program: one example's way through the function.
        chosen: which leaves are differentiated; the others count as numbers.
    """
    walk = _Walk(
        {leaf: View(index) for index, leaf in enumerate(program.leaves) if chosen[index]},
        set(program.inputs),
        {leaf for index, leaf in enumerate(program.leaves) if chosen[index]},
    )
    for operation in program.operations:
        walk.visit(operation)
    walk.irregular |= {view.leaf for view in [walk.view(program.output)] if view is not None}
    found: dict[int, list[Use]] = {}
    for use in walk.uses:
        found.setdefault(use.view.leaf, []).append(use)
    regular = {
        leaf: tuple(uses)
        for leaf, uses in found.items()
        if leaf not in walk.irregular and len({use.place for use in uses}) == 1
    }
    shifts: dict[int, tuple[int, View]] = {}
    readers = _readers(program)
    for leaf, uses in regular.items():
        alone = len(uses) == 1 and uses[0].batches * uses[0].positions == 1
        if alone and not isinstance(uses[0].kind, Lookup):
            moved, shift = _followed(uses[0], readers, walk)
            if shift is not None and walk.met[shift.leaf] == 1:
                regular[leaf] = (moved,)
                shifts[shift.leaf] = (leaf, shift)
    return Structure(regular, shifts, walk.forward_only)


def _readers(program: Program) -> dict[Value, list[Operation]]:
    """The operations that read each value; the program's output counts as one more reader."""
    readers: dict[Value, list[Operation]] = {}
    for operation in program.operations:
        for atom in operation.inputs:
            if isinstance(atom, Value):
                readers.setdefault(atom, []).append(operation)
    if isinstance(program.output, Value):
        readers.setdefault(program.output, []).extend(program.operations[-1:])
    return readers


def _followed(use: Use, readers: dict[Value, list[Operation]], walk: "_Walk") -> tuple[Use, View | None]:
    """The use with what comes out followed through constant scaling, and the parameter that is then added to it."""
    while len(readers.get(use.output, ())) == 1:
        (operation,) = readers[use.output]
        if operation.name in ("add", "add_any"):
            (other,) = [atom for atom in operation.inputs if atom is not use.output] or [use.output]
            view = walk.view(other)
            return use, view if view is not None and other.shape == use.output.shape else None
        scaled = walk.scaled(operation, use.output) if operation.name in ("mul", "div") else None
        if scaled is None:
            break
        use = replace(
            use, view=replace(use.view, factors=(*use.view.factors, scaled)), output=operation.outputs[0]
        )
    return use, None


class _Walk:
    """What is known of each value while the operations pass by."""

    def __init__(self, views: dict[Value, View], on_data: set[Value], on_params: set[Value]) -> None:
        self.views = views
        self.on_data = on_data
        self.on_params = on_params
        self.uses: list[Use] = []
        self.irregular: set[int] = set()
        self.forward_only = False
        self.met: dict[int, int] = {}
        """How often a view of each leaf is read by something else than a rearrangement."""

    def view(self, atom: Atom) -> View | None:
        return self.views.get(atom) if isinstance(atom, Value) else None

    def visit(self, operation: Operation) -> None:
        seen = [view for view in map(self.view, operation.inputs) if view is not None]
        if seen:
            use, new = self._use(operation), self._rearranged(operation)
            if new is None:
                for view in seen:
                    self.met[view.leaf] = self.met.get(view.leaf, 0) + 1
            if use is not None:
                self.uses.append(use)
            elif new is not None:
                self.views[operation.outputs[0]] = new
            else:
                self.irregular |= {view.leaf for view in seen}
        if operation.name == "while" and any(atom in self.on_params for atom in operation.inputs):
            self.forward_only = True
        for depends in (self.on_data, self.on_params):
            if any(atom in depends for atom in operation.inputs):
                depends.update(operation.outputs)

    def _is_number(self, atom: Atom) -> bool:
        """Whether it is one number that depends neither on the data nor on the parameters."""
        constant = isinstance(atom, Constant) or (atom not in self.on_data and atom not in self.on_params)
        return constant and int(np.prod(atom.shape, dtype=int)) == 1

    def _rearranged(self, operation: Operation) -> View | None:
        """The view that this operation makes of a view, or None."""
        first = operation.inputs[0]
        view, output = self.view(first), operation.outputs[0]
        same_size = int(np.prod(output.shape, dtype=int)) == int(np.prod(first.shape, dtype=int))
        match operation.name:
            case "transpose" if view is not None:
                return replace(view, layout=(*view.layout, operation.settings["permutation"]))
            case "reshape" | "squeeze" | "expand_dims" | "broadcast_in_dim" if view is not None and same_size:
                order = operation.settings.get("dimensions")  # lax.reshape can transpose first
                return replace(view, layout=(*view.layout, ("shape", output.shape, order)))
            case "convert_element_type" if view is not None and jnp.issubdtype(output.dtype, jnp.floating):
                return view
            case "copy" | "copy_p" | "sharding_constraint" if view is not None:
                return view
            case "neg" if view is not None:
                return replace(view, factors=(*view.factors, (Constant(-1.0), False)))
            case "mul" | "div":
                return self._scaled(operation)
        return None

    def scaled(self, operation: Operation, atom: Atom) -> tuple[Atom, bool] | None:
        """The number that a product or quotient scales `atom` by, and whether it divides; None if it does not."""
        left, right = operation.inputs
        divided = operation.name == "div"
        other = right if atom is left else left
        if (
            not self._is_number(other)
            or (divided and atom is right)
            or atom.shape != operation.outputs[0].shape
        ):
            return None
        return other, divided

    def _scaled(self, operation: Operation) -> View | None:
        for atom in operation.inputs:
            view, factor = self.view(atom), self.scaled(operation, atom)
            if view is not None and factor is not None:
                return replace(view, factors=(*view.factors, factor))
        return None

    def _use(self, operation: Operation) -> Use | None:
        name = operation.name
        if name not in ("dot_general", "conv_general_dilated", "gather"):
            return None
        left, right = operation.inputs
        view_first = self.view(left) is not None
        data, other = (right, left) if view_first else (left, right)
        view, output = self.view(other), operation.outputs[0]
        if view is None or self.view(data) is not None or 0 in other.shape:
            return None
        if not isinstance(data, Value) or data not in self.on_data:
            return None
        if name == "dot_general":
            return _product(operation, view, data, other.shape, view_first, output)
        if name == "gather":
            return _lookup(operation, view, data, other.shape, output) if view_first else None
        return None if view_first else _convolution(operation, view, data, other.shape, output)


def _size(shape: tuple[int, ...], axes: Any) -> int:
    return int(np.prod([shape[axis] for axis in axes], dtype=int))


def _product(
    operation: Operation, view: View, data: Value, shape: tuple[int, ...], view_first: bool, output: Value
) -> Use:
    contracted, batch = operation.settings["dimension_numbers"]
    mine, theirs = (0, 1) if view_first else (1, 0)
    kind = Product(
        view_first,
        tuple(contracted[mine]),
        tuple(batch[mine]),
        tuple(contracted[theirs]),
        tuple(batch[theirs]),
    )
    batches, inputs = _size(shape, kind.view_batch), _size(shape, kind.view_contracted)
    positions = _size(data.shape, range(len(data.shape))) // (batches * inputs)
    outputs = _size(shape, range(len(shape))) // (batches * inputs)
    return Use(view, kind, data, output, batches, positions, inputs, outputs)


def _convolution(
    operation: Operation, view: View, data: Value, shape: tuple[int, ...], output: Value
) -> Use | None:
    settings = operation.settings
    if settings["batch_group_count"] != 1:
        return None
    numbers, groups = settings["dimension_numbers"], settings["feature_group_count"]
    outputs = shape[numbers.rhs_spec[0]] // groups
    inputs = _size(shape, numbers.rhs_spec[1:])
    positions = _size(output.shape, range(len(output.shape))) // (groups * outputs)
    names = (
        "window_strides",
        "padding",
        "lhs_dilation",
        "rhs_dilation",
        "dimension_numbers",
        "feature_group_count",
    )
    sizes = tuple(shape[axis] for axis in numbers.rhs_spec[2:])
    kept = (("filter", sizes), *((name, settings[name]) for name in names))
    return Use(view, Convolution(kept), data, output, groups, positions, inputs, outputs)


def _lookup(
    operation: Operation, view: View, data: Value, shape: tuple[int, ...], output: Value
) -> Use | None:
    """Rows `table[i]` of a table: the first axis is picked from, the others are taken whole and come last."""
    numbers, rank = operation.settings["dimension_numbers"], len(output.shape)
    whole = (
        tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
        and tuple(operation.settings["slice_sizes"]) == (1, *shape[1:])
        and tuple(numbers.offset_dims) == tuple(range(rank - len(shape) + 1, rank))
    )
    if not whole or data.shape[-1] != 1:
        return None
    outputs = _size(shape, range(1, len(shape)))
    clipped = operation.settings["mode"] == lax.GatherScatterMode.CLIP
    return Use(
        view, Lookup(clipped), data, output, 1, _size(data.shape, range(len(data.shape))), shape[0], outputs
    )
