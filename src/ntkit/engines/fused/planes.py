"""The text of a module that runs convolutional networks on pairs of images, one plane of pixel pairs at a time.

A convolution of stride 1 couples only pixel pairs (p, p') of equal offset p' - p, and activations act on each pair by
itself: so for each offset all layers run on one plane, as large as an image, that stays in first-level cache. With zero
padding, terms that would leave either image are dropped by masks.
"""

from functools import lru_cache

import numpy as np

from ntkit.engines.fused.generate import beginning

PLANES, KEPT = ("plane0", "plane1", "plane2"), ("kept0", "kept1", "kept2")

Taps = tuple[tuple[int, ...], tuple[int, ...]]
"""Where the taps of a window lie, down and across."""

WINDOW_SIDES = 3
"""What a window needs of each point: the roots of its variances before and after, and the inverse of the latter."""


def shifts(size: int) -> tuple[int, ...]:
    """Where the taps of a filter of this size lie, for padding that keeps an image's size."""
    return tuple(range(-((size - 1) // 2), size // 2 + 1))


def _window(number: int, taps: Taps) -> str:
    """Average three padded planes over a window: first along rows, then along columns."""
    down, across = taps
    lines = [
        "@njit(**OPTIONS)",
        f"def window{number}(plane0, plane1, plane2, kept0, kept1, kept2, row_masks, column_masks, size, width):",
        "    full_width()",
        f"    share = f({1.0 / (len(down) * len(across))!r})",
    ]
    for source, target, steps, masks, stride in (
        (PLANES, KEPT, across, "row_masks", "1"),
        (KEPT, PLANES, down, "column_masks", "width"),
    ):
        for k, shift in enumerate(steps):
            lines.append(f"    mask{k} = {masks}[{k}, :size]")
            for plane in source:
                lines.append(
                    f"    {plane}_{k} = {plane}[MARGIN + {shift} * {stride} : MARGIN + {shift} * {stride} + size]"
                )
        for plane in target:
            lines.append(f"    {plane}_to = {plane}[MARGIN : MARGIN + size]")
        lines.append("    for j in range(size):")
        for plane, to in zip(source, target, strict=True):
            terms = [
                f"{plane}_{k}[j]" if shift == 0 else f"mask{k}[j] * {plane}_{k}[j]"
                for k, shift in enumerate(steps)
            ]
            factor = "share * " if stride == "width" else ""
            lines.append(f"        {to}_to[j] = {factor}({' + '.join(terms)})")
    return "\n".join(lines) + "\n"


PAIRS = '''
@njit(**OPTIONS)
def masks_of(offset, size, steps, repeat, spread, out):
    """1 where a step from a pixel stays within both images, for a circular offset between them along one axis.

    Pixel i of the axis is entry `i * repeat + r` for all r below `repeat`, in `spread` copies.
    """
    for k in range(steps.size):
        for i in range(size):
            to = i + steps[k]
            inside = 0 <= to and to < size and (i < size - offset) == (to < size - offset)
            for r in range(repeat):
                out[k, i * repeat + r] = f(1.0) if inside else f(0.0)
        first = out[k, : size * repeat]
        for copy in range(1, spread):
            other = out[k, copy * size * repeat : (copy + 1) * size * repeat]
            for i in range(first.size):
                other[i] = first[i]


@njit(**OPTIONS)
def falls_out(offset, size, steps, out):
    """1 where some step along an axis lies in one image and outside the other."""
    for i in range(size):
        out[i] = f(0.0)
        for step in steps:
            if (0 <= i + step < size) != (0 <= (i + offset) % size + step < size):
                out[i] = f(1.0)


@njit(**OPTIONS)
def uneven(rows, columns, out):
    """1 where some tap of a window lies in one image and outside the other, from the same along both axes."""
    width = columns.size
    for i in range(rows.size):
        to, row = out[i * width : (i + 1) * width], rows[i]
        for j in range(width):
            to[j] = row if row > columns[j] else columns[j]


@njit(**OPTIONS)
def shifted(plane, down, across, height, width, out):
    """A plane moved circularly, so that entry p holds what lies at p plus the offset."""
    for i in range(height):
        origin = ((i + down) % height) * width
        source, to = plane[origin : origin + width], out[i * width : (i + 1) * width]
        begin, rest = source[across:], to[width - across :]
        for j in range(begin.size):
            to[j] = begin[j]
        for j in range(rest.size):
            rest[j] = source[j]


@njit(**OPTIONS)
def enter(before1, before2, cov, tangent, defect, distance, carried, product):
    """What a window averages, from the state."""
    full_width()
    for j in range(cov.size):
        gap = before1[j] - before2[j]
        distance[j] = gap * gap + f(2.0) * (before1[j] * before2[j]) * defect[j]
        carried[j] = tangent[j]
        product[j] = cov[j]


@njit(**OPTIONS)
def leave(after1, after2, inverse1, inverse2, taps, distance, carried, product, cov, tangent, defect, surplus):
    """The state, from what a window averaged."""
    full_width()
    for j in range(cov.size):
        gap = after1[j] - after2[j]
        inverse = inverse1[j] * inverse2[j]
        part = f(0.5) * (distance[j] - gap * gap) * inverse
        # Terms that fall out of one image only do not show in masked distances.
        part = part if taps[j] == f(0.0) else f(1.0) - product[j] * inverse
        part = part if part > f(SNAP) else f(0.0)
        part = part if part < f(2.0) else f(2.0)
        part = part if inverse > f(0.0) else f(1.0)
        defect[j] = part
        surplus[j] = f(2.0) - part
        cov[j] = product[j]
        tangent[j] = carried[j]


@njit(**OPTIONS)
def pairs(steps, kinds, taps_down, taps_across, constants, rows, columns, row_vectors, column_vectors, x1, x2, height,
          width, all_offsets, nngp, ntk):
    """Both kernels of every image of one block with every image of another, averaged over pixel pairs.

    Without `all_offsets` only pairs of pixels of the same position are averaged. `steps` says what comes in turn, a
    window or a block of layers, `kinds` which; `rows` and `columns` are (images, steps, numbers, pixels), the vectors
    (images, steps, v, terms, pixels), the images (images, channels, pixels) divided by the root of their channels.
    """
    full_width()
    size = height * width
    count = steps.size
    state, work = np.empty((4, size + 48), x1.dtype), np.empty((WORK, size + 48), x1.dtype)
    cov, tangent, defect, surplus = state[0, :size], state[1, :size], state[2, :size], state[3, :size]
    padded, kept = np.zeros((3, size + 2 * MARGIN), x1.dtype), np.zeros((3, size + 2 * MARGIN), x1.dtype)
    odd_rows = np.empty((taps_down.shape[0], height), x1.dtype)
    odd_columns = np.empty((taps_down.shape[0], width), x1.dtype)
    uneven_taps = np.empty((taps_down.shape[0], size), x1.dtype)
    moved = np.empty((count, columns.shape[2], size), x1.dtype)
    moved_vectors = np.empty((count, column_vectors.shape[2], column_vectors.shape[3], size), x1.dtype)
    image = np.empty((x2.shape[1], size), x1.dtype)
    windows = taps_down.shape[0]
    row_masks = np.empty((windows, taps_across.shape[1], size), x1.dtype)
    column_masks = np.empty((windows, taps_down.shape[1], size), x1.dtype)
    sums = np.zeros((x1.shape[0], 2, size), x1.dtype)
    for b in range(x2.shape[0]):
        sums[:] = f(0.0)
        for down in range(height if all_offsets else 1):
            for across in range(width if all_offsets else 1):
                for channel in range(image.shape[0]):
                    shifted(x2[b, channel], down, across, height, width, image[channel])
                for k in range(windows):
                    masks_of(across, width, taps_across[k], 1, height, row_masks[k])
                    if across == 0:
                        masks_of(down, height, taps_down[k], width, 1, column_masks[k])
                        falls_out(down, height, taps_down[k], odd_rows[k])
                    falls_out(across, width, taps_across[k], odd_columns[k])
                    uneven(odd_rows[k], odd_columns[k], uneven_taps[k])
                for step in range(count):
                    for k in range(columns.shape[2]):
                        shifted(columns[b, step, k], down, across, height, width, moved[step, k])
                    if VECTORS and steps[step] == 1:
                        for v in range(column_vectors.shape[2]):
                            for q in range(column_vectors.shape[3]):
                                shifted(column_vectors[b, step, v, q], down, across, height, width,
                                        moved_vectors[step, v, q])
                for a in range(x1.shape[0]):
                    distance, carried = padded[0, MARGIN : MARGIN + size], padded[1, MARGIN : MARGIN + size]
                    product = padded[2, MARGIN : MARGIN + size]
                    for j in range(size):
                        distance[j] = f(0.0)
                        product[j] = f(0.0)
                        carried[j] = f(0.0)
                    for channel in range(image.shape[0]):
                        left, right = x1[a, channel], image[channel]
                        for j in range(size):
                            difference = left[j] - right[j]
                            distance[j] += difference * difference
                            product[j] += left[j] * right[j]
                    fresh = True
                    for step in range(count):
                        if steps[step] == 0:
                            if not fresh:
                                enter(rows[a, step, 0], moved[step, 0], cov, tangent, defect, distance, carried,
                                      product)
                            WINDOWS
                            leave(rows[a, step, 1], moved[step, 1], rows[a, step, 2], moved[step, 2],
                                  uneven_taps[kinds[step]], distance, carried, product, cov, tangent, defect, surplus)
                            fresh = False
                        LAYERS
                    total, total_tangent = sums[a, 0], sums[a, 1]
                    for j in range(size):
                        total[j] += cov[j]
                        total_tangent[j] += tangent[j]
        share = 1.0 / (size * size if all_offsets else size)
        for a in range(x1.shape[0]):
            one, two = 0.0, 0.0
            for j in range(size):
                one += sums[a, 0, j]
                two += sums[a, 1, j]
            nngp[a, b] = f(one * share)
            ntk[a, b] = f(two * share)
'''


@lru_cache(maxsize=64)
def plane_source(
    loops: tuple[str, ...],
    windows: tuple[Taps, ...],
    work: int,
    margin: int,
    vectors: bool,
    dtype: np.dtype,
) -> str:
    """The whole module.

    Args:
        loops: the kinds of blocks of layers, as `loop_source` gives them for planes.
        windows: the kinds of windows, the taps down and across.
        work: rows of work space.
        margin: entries of a plane beyond both ends that a window may touch.
        vectors: whether there are expansions.
        dtype: of all numbers.
    """
    eps = float(np.finfo(dtype).eps)
    parts = [
        *beginning("convolutional network", loops, dtype),
        f"WORK, MARGIN, VECTORS, SNAP = {max(1, work)}, {margin}, {vectors}, {(8.0 * eps) ** 2!r}",
    ]
    calls, layers = [], []
    for number, taps in enumerate(windows):
        parts.append(_window(number, taps))
        calls.append(
            f"{'if' if number == 0 else 'elif'} kinds[step] == {number}:\n                                "
            f"window{number}(padded[0], padded[1], padded[2], kept[0], kept[1], kept[2], row_masks[{number}], "
            f"column_masks[{number}], size, width)"
        )
    for number in range(len(loops)):
        layers.append(
            f"elif kinds[step] == {number}:\n                            "
            f"layers{number}(constants[step], rows[a, step], moved[step], row_vectors[a, step], moved_vectors[step], "
            "0, 0, cov, tangent, defect, surplus, work)"
        )
    indent = "\n" + " " * 28
    text = PAIRS.replace("WINDOWS", indent.join(calls)).replace("LAYERS", ("\n" + " " * 24).join(layers))
    return "\n".join([*parts, text])
