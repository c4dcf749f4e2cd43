"""The text of a module that runs convolutional networks on pairs of images, one offset between pixels at a time.

A plane holds, for one offset d, the pairs of pixels (p, p + d) that lie in both images; several images of the first set
lie side by side as "lanes", so that a step from pixel to pixel is a step of whole vectors. A state is three planes:
covariances, tangents and squared distances `E (u - v)^2`, on all of which windows, sums and pooling act linearly.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ntkit.engines.fused.generate import TERMS, Access, beginning, loop_lines, sides_of
from ntkit.engines.fused.plane_pieces import PIECES
from ntkit.engines.fused.program import Program
from ntkit.engines.fused.schedule import Window

BLOCK_SIDES = 3
"""What a block needs of each pixel before its layers' own: roots of the variances after its weights, their inverses,
and roots of the variances after its layers."""

AFFINE = 5
"""What a block's weights do: covariances are scaled and shifted, tangents gain a part of both, and are scaled."""

ENTER_SIDES = 2
"""What follows pooling: roots of the variances and their inverses."""

ARGUMENTS = (
    "slots, source, target, plane, kept, work, constants, rows, row_at, row_size, columns, column_at, column_size, "
    "pitch, origin, height, width, down, across, circular"
)


@lru_cache(maxsize=256)
def block_source(program: Program | None, window: Window, dtype: np.dtype, last: bool) -> str:
    """The function `block`: a window's average, weights, and layers on each pair by itself, row by row.

    Args:
        program: the layers after the weights, None for none.
        window: over which pixels.
        dtype: of all numbers.
        last: whether only covariances and tangents are wanted afterwards.
    """
    (tall, wide), (step_down, step_across), (above, left_of) = window.shape, window.strides, window.before
    lines = [
        f"def block({ARGUMENTS}):",
        "    full_width()",
        "    separate()",
        *(
            f"    {name} = constants[{k}]"
            for k, name in enumerate(("scale", "shift", "own", "own_one", "kept_on"))
        ),
        "    top, bottom, left, right = region(height, width, down, across, circular)",
        "    columns_wide = 2 * width if circular else width",
        "    run = whole_vectors((right - left) * LANES)",
        "    capacity = kept.size // " + str(3 * tall),
        f"    ready = top * {step_down} - {above}",
        "    for i in range(top, bottom):",
        f"        while ready <= i * {step_down} + {tall - 1 - above}:",
        f"            begin = source + origin + ready * pitch + (left * {step_across} - {left_of}) * LANES",
        f"            place = (ready % {tall}) * capacity",
    ]
    for number in range(3):
        lines += [
            f"            line, to = begin + {number} * plane, place + {number * tall} * capacity",
        ]
        terms = [f"get_before(slots, line + {tap} * LANES + j)" for tap in range(wide)]
        if step_across == 1:
            lines += [
                "            for j in range(run):",
                f"                put_before(kept, to + j, {' + '.join(terms)})",
            ]
        else:
            lines += [
                "            for c in range(right - left):",
                "                for j in range(LANES):",
                f"                    put_before(kept, to + j, {' + '.join(terms)})",
                f"                line, to = line + {step_across} * LANES, to + LANES",
            ]
    lines += [
        "            ready += 1",
        "        at = (i * width + left) * LANES + row_at",
        "        other = ((i + down) * columns_wide + left + across) * LANES + column_at",
        "        out = target + origin + i * pitch + left * LANES",
    ]
    for number in range(3):
        for tap in range(tall):
            row = f"(i * {step_down} + {tap - above}) % {tall}"
            lines.append(f"        line{number}_{tap} = ({number * tall} + {row}) * capacity")
    averages = [
        " + ".join(f"get(kept, line{number}_{tap} + j)" for tap in range(tall)) for number in range(3)
    ]
    begin = [
        f"product = {averages[0]}",
        "cov = scale * product + shift",
        f"ntk = (own * product + own_one) + kept_on * ({averages[1]})",
        f"distance = scale * ({averages[2]})",
    ]
    if program is None:
        body = ["    for j in range(run):", *(f"        {line}" for line in begin)]
        body += _ends("cov", "ntk", None if last else "distance")
    else:
        body = [
            f"    {side}{k} = {at} + {k} * {side}_size"
            for side, at in (("row", "at"), ("column", "other"))
            for k in range(BLOCK_SIDES)
        ]
        begin += [
            "gap = get(rows, row0 + j) - get(columns, column0 + j)",
            "inverse = get(rows, row1 + j) * get(columns, column1 + j)",
            # Of parallel pixels of unequal norms the difference leaves rounding: within it they count as parallel.
            "apart = distance - gap * gap",
            "apart = apart if apart > f(NEAR) * distance else f(0.0)",
            "apart = f(0.5) * apart * inverse",
            "apart = apart if apart < f(2.0) else f(2.0)",
            "defect = apart if inverse > f(0.0) else f(1.0)",
            "surplus = f(2.0) - defect",
            # A difference: what is within rounding of opposition counts as such.
            "surplus = surplus if surplus > f(NEAR) else f(0.0)",
        ]
        end = [] if last else [
            "root1, root2 = get(rows, row2 + j), get(columns, column2 + j)",
            "between = root1 - root2",
            "after_distance = between * between + f(2.0) * (root1 * root2) * after_defect",
        ]  # fmt: skip
        targets = list(zip(("after_cov", "after_ntk", "after_defect"), program.results, strict=False))
        body += loop_lines(program, _access(program, begin), targets[: 2 if last else 3], end)
        body += _ends("after_cov", "after_ntk", None if last else "after_distance")
    return "\n".join([*lines, *("    " + line for line in body)]) + "\n"


def _ends(cov: str, ntk: str, distance: str | None) -> list[str]:
    found = [cov, ntk, *([] if distance is None else [distance])]
    return [
        f"        put{number}(slots, out + {number} * plane + j, {name})" for number, name in enumerate(found)
    ]


def _access(program: Program, begin: Sequence[str]) -> Access:
    """How a block reaches its layers' values: all numbers of an image lie in one vector, those of a kind together."""
    sides = sides_of(program)
    rows, columns = BLOCK_SIDES + len(sides.rows), BLOCK_SIDES + len(sides.columns)
    degree = max(
        (vector_length(program, name) for name in (*sides.row_vectors, *sides.column_vectors)), default=0
    )
    return Access(
        length="run",
        row=f"at + ({BLOCK_SIDES} + {{k}}) * row_size",
        rows_vary=True,
        row_vector=f"at + ({rows} + {{k}} * {degree} + {{q}}) * row_size",
        column=f"other + ({BLOCK_SIDES} + {{k}}) * column_size",
        column_vector=f"other + ({columns} + {{k}} * {degree} + {{q}}) * column_size",
        item="get({array}, {name} + j)",
        constant_place=AFFINE,
        begin=tuple(begin),
    )


def vector_length(program: Program, name: str) -> int:
    """The terms of a vector, filled up to what is added in one pass."""
    length = program.forms[name].shape[0]
    return length + -length % TERMS


LEVELS = '''
@njit(**OPTIONS)
def level(steps, offsets_down, offsets_across, circular, constants, rows, columns, plane, pitch, origin, slots, kept,
          work, line, shares, targets, pooled, totals):
    """All steps of a level for all of its offsets; see `images.encoded` for what a step's numbers are."""
    for base_down in offsets_down:
        for base_across in offsets_across:
            for k in range(steps.shape[0]):
                (operation, kind, slot, target, height, width, stride_down, stride_across, before_height, before_width,
                 before_down, before_across, row_at, row_size, column_at, column_size, border_row, border_column,
                 above, below, before, behind, buffer, number, table) = steps[k]
                down, across = base_down // stride_down, base_across // stride_across
                source, to = slot * 3 * plane, target * 3 * plane
                if operation == ENTER:
                    enter(slots, to, plane, rows, row_at, row_size, columns, column_at, column_size, number, pitch,
                          origin, height, width, down, across, circular)
                elif operation == ENTER_POOLED:
                    enter_pooled(slots, to, plane, rows, row_at, row_size, columns, column_at, column_size, pooled,
                                 buffer, pitch, origin, height, width, down, across, circular)
                elif operation == COPY or operation == ADD:
                    branch(slots, source, to, plane, operation == ADD, pitch, origin, height, width, down, across,
                           circular)
                elif operation == POOL:
                    pool(slots, source, plane, targets[table, 0, :height], shares[table, 0, :height],
                         targets[table, 1, :width], shares[table, 1, :width], pooled, buffer, before_height,
                         before_width, pitch, origin, height, width, down, across, circular)
                elif operation == TOTAL:
                    total(slots, source, plane, line, totals, pitch, origin, height, width, down, across, circular)
                else:
                    if above + below + before + behind > 0:
                        border(slots, source, plane, rows, border_row, columns, border_column, pitch, origin,
                               before_height, before_width, base_down // before_down, base_across // before_across,
                               circular, above, below, before, behind)
                    BLOCKS


@njit(**OPTIONS)
def pairs(steps, first_steps, offsets_down, first_down, offsets_across, first_across, circular, constants, left, right,
          upper, share, plane, pitch, origin, slots, kept, work, line, shares, targets, pooled, nngp, ntk):
    """Both kernels of every image of one set, (n1, k) numbers, with every image of another, (n2, l)."""
    lanes = np.empty((LANES, left.shape[1]), left.dtype)
    blocks = (left.shape[0] + LANES - 1) // LANES
    rows = np.zeros((blocks, left.shape[1] * LANES + 4 * VECTOR), left.dtype)
    columns = np.zeros(right.shape[1] * LANES + 4 * VECTOR, left.dtype)
    totals = np.empty((2, LANES), np.float64)
    for block in range(blocks):
        for lane in range(LANES):
            lanes[lane] = left[min(block * LANES + lane, left.shape[0] - 1)]
        interleave(lanes, rows[block])
    for b in range(right.shape[0]):
        spread(right[b], columns)
        for block in range(min(blocks, b // LANES + 1) if upper else blocks):
            totals[:] = 0.0
            pooled[:] = f(0.0)
            for k in range(circular.size):
                level(steps[first_steps[k] : first_steps[k + 1]], offsets_down[first_down[k] : first_down[k + 1]],
                      offsets_across[first_across[k] : first_across[k + 1]], circular[k], constants, rows[block],
                      columns, plane, pitch, origin, slots, kept, work, line, shares, targets, pooled, totals)
            a = block * LANES
            for lane in range(min(LANES, left.shape[0] - a)):
                nngp[a + lane, b] = f(totals[0, lane] * share)
                ntk[a + lane, b] = f(totals[1, lane] * share)
'''

OPERATIONS = ("ENTER", "ENTER_POOLED", "COPY", "ADD", "POOL", "TOTAL", "BLOCK")


@lru_cache(maxsize=16)
def pieces_source(lanes: int, dtype: np.dtype) -> str:
    """The module of what does not depend on the network, for so many images side by side."""
    return "\n".join([*beginning("convolutional network", (), dtype), _constants(lanes, dtype), PIECES])


@lru_cache(maxsize=64)
def plane_source(blocks: tuple[str, ...], lanes: int, dtype: np.dtype, pieces: str) -> str:
    """The module of a network.

    Args:
        blocks: the kinds of blocks, as `block_source` gives them.
        lanes: images side by side.
        dtype: of all numbers.
        pieces: the name of the module of `pieces_source`.
    """
    parts = [*beginning("convolutional network", (), dtype), _constants(lanes, dtype)]
    parts.append(f"from {pieces} import {', '.join(re.findall('def (.*)[(]', PIECES))}")
    calls = []
    for number, block in enumerate(blocks):
        parts.append("@njit(**OPTIONS)\n" + block.replace("def block(", f"def block{number}(", 1))
        calls.append(
            f"{'if' if number == 0 else 'elif'} kind == {number}:\n" + " " * 24 + f"block{number}(slots, source, to, "
            "plane, kept, work, constants[number], rows, row_at, row_size, columns,\n" + " " * 31 +
            "column_at, column_size, pitch, origin, height, width, down, across, circular)"
        )  # fmt: skip
    text = LEVELS.replace("BLOCKS", ("\n" + " " * 20).join(calls) or "pass")
    return "\n".join([*parts, text])


def _constants(lanes: int, dtype: np.dtype) -> str:
    eps = float(np.finfo(dtype).eps)
    return (
        f"LANES, VECTOR = {lanes}, {64 // dtype.itemsize}\n"
        f"NEAR, NOISE = {16.0 * eps!r}, {64.0 * eps!r}\n"
        f"{', '.join(OPERATIONS)} = range({len(OPERATIONS)})\n"
    )
