"""The text of a module that runs dense networks on strips of a tile of a Gram matrix."""

from functools import lru_cache

import numpy as np

from ntkit.engines.fused.generate import beginning

TILE = '''
@njit(**OPTIONS)
def strip(kinds, constants, rows, columns, row_vectors, column_vectors, x1, x2, inverse1, inverse2, near, same,
          first1, first2, products, top, height, width, scratch):
    """Both kernels of a strip of pairs from its scalar products: into scratch[0] and, if there, scratch[1].

    The strip is `height` rows of `products` from `top` on, `width` columns wide (whole arrays, since of parts of them
    the compiled code would not know that rows are contiguous). `first1` and `first2` number its first points;
    `inverse1` and `inverse2` are 1 over the roots of their variances, 0 for 0; `same` says that only pairs on and
    above the diagonal are wanted.
    """
    full_width()
    share = f(1.0) / f(x1.shape[1])
    # Rows of their own, apart by no power of two: whole matrices' rows would evict each other from the cache.
    state, work = np.empty((4, width + 48), x1.dtype), np.empty((WORK, width + 48), x1.dtype)
    for i in range(height):
        begin = max(0, first1 - first2 + i - i % 16) if same else 0
        first, count = first2 + begin, width - begin
        cov, other, defect, surplus = state[0, :count], state[1, :count], state[2, :count], state[3, :count]
        product, other_inverse = products[top + i, begin:width], inverse2[first : first + count]
        inverse = inverse1[first1 + i] * share
        close = 0
        for j in range(count):
            value = product[j]
            rho = value * (inverse * other_inverse[j])
            rho = rho if rho < f(1.0) else f(1.0)
            rho = rho if rho > f(-1.0) else f(-1.0)
            cov[j] = value * share
            other[j] = f(0.0)
            defect[j] = f(1.0) - rho
            surplus[j] = f(1.0) + rho
            close += f(1.0) - abs(rho) < near
        if close > 0:
            for j in range(count):
                if min(defect[j], surplus[j]) < near:
                    sign = f(1.0) if surplus[j] < defect[j] else f(-1.0)
                    square = f(0.0)
                    for q in range(x1.shape[1]):
                        other_end = x2[first + j, q] * inverse2[first + j]
                        chord = x1[first1 + i, q] * inverse1[first1 + i] + sign * other_end
                        square += chord * chord
                    if sign > f(0.0):
                        surplus[j] = square * share / f(2.0)
                    else:
                        defect[j] = square * share / f(2.0)
        for k in range(kinds.size):
'''

PLACE = '''
        to = scratch[0, i, begin:width]
        for j in range(count):
            to[j] = cov[j]
        if scratch.shape[0] > 1:
            to = scratch[1, i, begin:width]
            for j in range(count):
                to[j] = other[j]


@njit(**OPTIONS)
def place(block, height, width, gram, top, left, transposed, same):
    """Write a block to its place, and its transpose to the mirror image if asked for.

    With `same` only what lies on and above the matrix's diagonal counts; `reflect` does the rest.
    """
    for i in range(height):
        row, to = block[i], gram[top + i, left : left + width]
        for j in range(max(0, top - left + i) if same else 0, width):
            to[j] = row[j]
    # In strips of rows that fill whole lines of the cache.
    for start in range(0, width if transposed else 0, 16):
        for j in range(start, min(start + 16, width)):
            to = gram[left + j, top : top + height]
            for i in range(height):
                to[i] = block[i, j]


@njit(**OPTIONS)
def reflect(gram, start, stop):
    """Copy what lies above the diagonal of a block on the diagonal below it."""
    for i in range(start, stop):
        for j in range(start, i):
            gram[i, j] = gram[j, i]
'''


@lru_cache(maxsize=64)
def module_source(loops: tuple[str, ...], work: int, dtype: np.dtype) -> str:
    """The whole module: elementary functions, one function per kind of block, and the tile.

    Args:
        loops: the kinds, as `loop_source` gives them.
        work: rows of work space that they need.
        dtype: of all numbers.
    """
    parts = [*beginning("network", loops, dtype), f"WORK = {max(1, work)}"]
    calls = []
    for number in range(len(loops)):
        calls.append(
            f"            {'if' if number == 0 else 'elif'} kinds[k] == {number}:\n"
            f"                layers{number}(constants[k], rows[k], columns[k], row_vectors[k], column_vectors[k], "
            "first1 + i, first,\n                        cov, other, defect, surplus, work)"
        )
    return "\n".join([*parts, TILE + "\n".join(calls) + PLACE])
