"""From the programs of layers to the text of one module: a compiled function that runs whole networks on a tile."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ntkit.engines.fused import elementary
from ntkit.engines.fused.program import SUMS, Operation, Program, Reach
from ntkit.errors import FusionError

TERMS = 8
"""Terms of a sum that are added in one pass over a row of pairs."""

STATE = ("cov", "ntk", "defect", "surplus")

INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "lt": "<", "ge": ">=", "le": "<="},
    **{"eq": "==", "ne": "!=", "and": "&", "or": "|", "xor": "^"},
}
FORMS = {
    "max": "({0} if {0} > {1} else {1})",
    "min": "({0} if {0} < {1} else {1})",
    "clamp": "({0} if {1} < {0} else ({2} if {1} > {2} else {1}))",
    "select_n": "({2} if {0} else {1})",
    "neg": "(-{0})",
    "abs": "abs({0})",
    "not": "(not {0})",
    "square": "({0} * {0})",
    "sqrt": "math.sqrt({0})",
    "rsqrt": "(f(1.0) / math.sqrt({0}))",
    "pow": "({0} ** {1})",
    "sign": "(f(1.0) if {0} > f(0.0) else (f(-1.0) if {0} < f(0.0) else f(0.0)))",
}
VECTORISED = ("exp", "expm1", "atan2")
ONE_BY_ONE = (
    "log",
    "log1p",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "erfc",
    "asin",
    "acos",
    "atan",
)
"""Functions that are left to the C library: right, but a loop with one of them is not vectorised."""


@dataclass(frozen=True)
class Sides:
    """What a block's loop over pairs needs from outside: names of values by where they come from.

    Attributes:
        constants: numbers that depend on the parameters alone.
        rows: numbers of the first point; `columns` of the second.
        row_vectors: vectors of the first point, for Mehler sums; `column_vectors` of the second.
        tables: vectors that depend on the parameters alone, for Chebyshev series.
    """

    constants: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_vectors: tuple[str, ...]
    column_vectors: tuple[str, ...]
    tables: tuple[str, ...]


def sides_of(program: Program) -> Sides:
    """Every value from outside that operations on pairs, or the results themselves, refer to."""
    needed = program.needed(program.results)
    used: dict[str, None] = {}
    for operation in program.operations:
        if operation.reach is Reach.PAIR and not needed.isdisjoint(operation.outputs):
            used |= dict.fromkeys(a for a in operation.arguments if isinstance(a, str))
    used |= dict.fromkeys(result for result in program.results if isinstance(result, str))
    groups: dict[tuple[Reach, bool], list[str]] = {}
    for name in used:
        if program.reach[name] is Reach.PAIR:
            continue
        shape = program.forms[name].shape
        if len(shape) > 1:
            raise FusionError(f"a value of shape {shape} in the loop over pairs")
        groups.setdefault((program.reach[name], len(shape) == 1), []).append(name)

    def group(reach: Reach, vector: bool) -> tuple[str, ...]:
        return tuple(groups.get((reach, vector), ()))

    return Sides(
        group(Reach.NOTHING, False),
        group(Reach.ROW, False),
        group(Reach.COLUMN, False),
        group(Reach.ROW, True),
        group(Reach.COLUMN, True),
        group(Reach.NOTHING, True),
    )


@dataclass(frozen=True)
class Access:
    """How a loop over a run of pairs reaches what it needs, as texts: `{k}` is the number of a value, `{q}` a term.

    Attributes:
        length: the number of pairs.
        row: a number of the first point, and whether it changes from pair to pair as those of the second do.
        row_vector: a term of a vector of the first point.
        column: numbers of the second points.
        column_vector: terms of their vectors.
        item: an entry of what `row` gave, where those change, or `column`: `{array}` is "rows" or "columns", `{name}`
            what was given.
        begin: lines that set `cov`, `ntk`, `defect` and `surplus` of pair `j`.
        constant_place: where in `constants` the block's own begin.
    """

    length: str
    row: str
    rows_vary: bool
    row_vector: str
    column: str
    column_vector: str
    item: str
    begin: tuple[str, ...]
    constant_place: int = 0


STRIP_ACCESS = Access(
    length="cov_.size",
    row="rows[{k}, i]",
    rows_vary=False,
    row_vector="row_vectors[{k}, {q}, i]",
    # Slices first: of an index `first + j` Numba cannot tell that it is not negative, and does not vectorise.
    column="columns[{k}, first : first + cov_.size]",
    column_vector="column_vectors[{k}, {q}, first : first + cov_.size]",
    item="{name}[j]",
    begin=tuple(f"{name} = {name}_[j]" for name in STATE),
)


@lru_cache(maxsize=512)
def loop_source(program: Program) -> str:
    """The function `layers`: a block of layers on a row of pairs, in place.

    Its arrays: `constants` (c,); `rows` (r, n1) and `columns` (s, n2) with `row_vectors` and `column_vectors`
    (v, k, n); `i` is the row, `first` the first column; the four states and `work` are of the row's length.
    """
    targets = [(f"{name}_[j]", result) for name, result in zip(STATE, program.results, strict=True)]
    lines = [
        "def layers(constants, rows, columns, row_vectors, column_vectors, i, first, cov_, ntk_, defect_, "
        "surplus_, work):",
        "    full_width()",
        *loop_lines(program, STRIP_ACCESS, targets),
    ]
    return "\n".join(lines) + "\n"


def loop_lines(
    program: Program, access: Access, targets: Sequence[tuple[str, Any]], end: Sequence[str] = ()
) -> list[str]:
    """The body of a function that takes a run of pairs through a block of layers.

    Args:
        program: the block.
        access: how it reaches its values.
        targets: texts on the left of assignments, and the values that they get.
        end: lines that follow them for each pair.
    """
    sides = sides_of(program)
    needed = program.needed([value for _, value in targets])
    operations = [o for o in program.operations if o.reach is Reach.PAIR and not needed.isdisjoint(o.outputs)]
    sums = [operation for operation in operations if operation.name in SUMS]
    lines = [
        f"    {name} = {_load(program, name, f'constants[{k}]')}"
        for k, name in enumerate(sides.constants, access.constant_place)
    ]
    place = str(access.constant_place + len(sides.constants))
    for name in sides.tables:
        lines += [f"    {name}_length = int(constants[{place}])", f"    {name}_start = {place} + 1"]
        place = f"{name}_start + {name}_length"
    for k, name in enumerate(sides.rows):
        text = access.row.format(k=k)
        lines.append(
            f"    {name}_ = {text}" if access.rows_vary else f"    {name} = {_load(program, name, text)}"
        )
    lines += [f"    {name}_ = {access.column.format(k=k)}" for k, name in enumerate(sides.columns)]
    changing = dict.fromkeys(sides.columns, "columns")
    if access.rows_vary:
        changing |= dict.fromkeys(sides.rows, "rows")
    varying = {
        name: _load(program, name, access.item.format(array=array, name=f"{name}_"))
        for name, array in changing.items()
    }
    ready: dict[str, int] = {}
    row = 0
    for operation in sums:
        lines += [
            f"    work{k} = work[{k}, : {access.length}]" for k in range(row, row + SUMS[operation.name])
        ]
        before = [(f"work{row}[j]", operation.arguments[-1])]
        lines += _loop(program, access, varying, operations, ready, before)
        if operation.name == "mehler":
            lines += _mehler(operation, sides, program, row, access)
        else:
            lines += _chebyshev(operation, sides, row, access)
        ready[operation.outputs[0]] = row + 1
        row += SUMS[operation.name]
    return (
        lines
        + _loop(program, access, varying, operations, ready, targets)
        + [f"        {line}" for line in end]
    )


def _mehler(operation: Operation, sides: Sides, program: Program, row: int, access: Access) -> list[str]:
    """Horner's rule for a row of correlations in work space `row`, several terms at a time in registers."""
    left, right, _ = operation.arguments
    if left not in sides.row_vectors or right not in sides.column_vectors:
        raise FusionError("an expansion that does not pair one point's coefficients with the other's")
    a, b = sides.row_vectors.index(left), sides.column_vectors.index(right)
    degree = program.forms[left].shape[0]
    last = degree + -degree % TERMS - TERMS
    lines = [f"    work{row + 1}[:] = f(0.0)", f"    for q in range({last}, -1, -{TERMS}):"]
    for k in range(TERMS):
        term = f"(q + {k})"
        lines.append(f"        weight{k} = {access.row_vector.format(k=a, q=term)}")
        lines.append(f"        terms{k} = {access.column_vector.format(k=b, q=term)}")
    lines += [
        f"        for j in range({access.length}):",
        f"            rho, total = work{row}[j], work{row + 1}[j]",
    ]
    for k in reversed(range(TERMS)):
        weight = access.item.format(array="rows", name=f"weight{k}") if access.rows_vary else f"weight{k}"
        term = access.item.format(array="columns", name=f"terms{k}")
        lines.append(f"            total = total * rho + {weight} * {term}")
    return [*lines, f"            work{row + 1}[j] = total"]


def _chebyshev(operation: Operation, sides: Sides, row: int, access: Access) -> list[str]:
    """The recurrence of `chebyshev_series` for a row of arguments in work space `row`."""
    name, _ = operation.arguments
    if name not in sides.tables:
        raise FusionError("a series whose coefficients depend on the points")
    lines = [f"    work{row + 1}[:] = f(0.0)", f"    work{row + 2}[:] = f(0.0)"]
    lines += [f"    for q in range({name}_length - {TERMS}, 0, -{TERMS}):"]
    lines += [f"        weight{k} = constants[{name}_start + q + {k}]" for k in range(TERMS)]
    lines += [
        f"        for j in range({access.length}):",
        f"            slope = f(-4.0) * work{row}[j]",
        f"            total, difference = work{row + 1}[j], work{row + 2}[j]",
    ]
    for k in reversed(range(TERMS)):
        lines.append(f"            difference = slope * total + (difference + weight{k})")
        lines.append("            total = total + difference")
    return [
        *lines,
        f"            work{row + 1}[j], work{row + 2}[j] = total, difference",
        f"    weight0 = constants[{name}_start]",
        f"    for j in range({access.length}):",
        f"        work{row + 1}[j] = (f(-2.0) * work{row}[j]) * work{row + 1}[j] + (work{row + 2}[j] + weight0)",
    ]


def _loop(
    program: Program,
    access: Access,
    varying: dict[str, str],
    operations: Sequence[Operation],
    ready: dict[str, int],
    targets: Sequence[tuple[str, Any]],
) -> list[str]:
    """A loop over the row's pairs that computes the targets, taking finished sums from their rows of work space."""
    wanted = program.needed([value for _, value in targets], ready)
    lines = [f"    for j in range({access.length}):"]
    lines += [f"        {line}" for line in access.begin]
    lines += [f"        {name} = {text}" for name, text in varying.items() if name in wanted]
    for operation in operations:
        (output,) = operation.outputs
        if output in wanted:
            text = f"work{ready[output]}[j]" if output in ready else expression(operation)
            lines.append(f"        {output} = {text}")
    return lines + [f"        {target} = {_text(value)}" for target, value in targets]


def expression(operation: Operation) -> str:
    """One operation as Python text.

    Raises:
        FusionError: for an operation that is not elementary.
    """
    name, arguments = operation.name, [_text(argument) for argument in operation.arguments]
    if name in INFIX:
        return f"({arguments[0]} {INFIX[name]} {arguments[1]})"
    if name in FORMS and len(arguments) <= 3:
        return FORMS[name].format(*arguments)
    if name == "integer_pow":
        power = operation.settings["y"]
        product = " * ".join([arguments[0]] * abs(power)) or "f(1.0)"
        return f"({product})" if power >= 0 else f"(f(1.0) / ({product}))"
    if name in VECTORISED:
        return f"{name}({', '.join(arguments)})"
    if name in ONE_BY_ONE:
        return f"f(math.{name}({', '.join(arguments)}))"
    raise FusionError(f"the operation {name} on pairs")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value.shape != ():
        raise FusionError(f"a constant of shape {value.shape} in the loop over pairs")
    if value.dtype == bool:
        return str(bool(value))
    number = float(value)
    if math.isfinite(number):
        return f"f({number!r})"
    return "f(np.nan)" if math.isnan(number) else f"f({'-' if number < 0 else ''}np.inf)"


def _load(program: Program, name: str, place: str) -> str:
    """A value from an array of numbers; truth values were stored as 0 and 1."""
    return f"({place} != f(0.0))" if program.forms[name].truth else place


IMPORTS = """
import math

import numpy as np
from numba import njit

from ntkit.engines.fused.bits import full_width, get, get_before, power_of_two, put0, put1, put2, put_before, separate
"""


def beginning(what: str, loops: Sequence[str], dtype: np.dtype) -> list[str]:
    """What every generated module starts with: its docstring, elementary functions, and the kinds of blocks."""
    return [
        f'"""Generated by ntkit: the layers of a {what}, fused, in {dtype.name}."""',
        IMPORTS,
        f"f = np.{dtype.name}",
        'OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True, "cache": CACHED}',
        elementary.source(dtype),
        *(
            "@njit(**OPTIONS)\n" + loop.replace("def layers(", f"def layers{number}(", 1)
            for number, loop in enumerate(loops)
        ),
    ]
