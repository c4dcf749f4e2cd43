"""Tiles: how a Gram matrix is cut into blocks that fit the cache, and run on all cores.

Results do not depend on the size or the order of the tiles beyond rounding; progress is counted in tiles.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from math import sqrt

import numpy as np
from rich.console import Console
from rich.progress import Progress

TILE = 256
"""Default side of a tile: at 8 bytes an entry, the arrays of one tile stay in second-level cache."""


@dataclass(frozen=True)
class Plan:
    """How an (n1, n2) Gram matrix will be computed.

    Attributes:
        rows: number of rows, n1.
        columns: number of columns, n2.
        symmetric: whether only tiles on and above the diagonal are computed, the others mirrored.
        tile: side of a tile.
        threads: tiles in progress at a time.
    """

    rows: int
    columns: int
    symmetric: bool
    tile: int = TILE
    threads: int = 1

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """The blocks of rows and columns to compute."""
        for top in range(0, self.rows, self.tile):
            for left in range(top if self.symmetric else 0, self.columns, self.tile):
                yield (
                    slice(top, min(top + self.tile, self.rows)),
                    slice(left, min(left + self.tile, self.columns)),
                )

    def __len__(self) -> int:
        down, across = -(-self.rows // self.tile), -(-self.columns // self.tile)
        return down * (down + 1) // 2 if self.symmetric else down * across


def make_plan(rows: int, columns: int, symmetric: bool, result_bytes: int, tile: int = TILE) -> Plan:
    """Plan a Gram matrix, or say at once that it does not fit.

    Args:
        rows: number of rows.
        columns: number of columns.
        symmetric: whether rows and columns are the same points.
        result_bytes: memory of the finished matrices.
        tile: side of a tile.

    Raises:
        MemoryError: when the result is larger than the machine's memory.
    """
    check_result(
        f"A kernel between {rows} and {columns} points", result_bytes, "Use fewer points, or float32."
    )
    return Plan(rows, columns, symmetric, tile, threads=usable_cores())


def place(plan: Plan, gram: np.ndarray, rows: slice, columns: slice, block: np.ndarray) -> None:
    """Write a tile to its place, and of a symmetric matrix to its mirror image."""
    mirrored = plan.symmetric and rows.start != columns.start
    if plan.symmetric and not mirrored:
        # One triangle decides, so that rounding cannot make the matrix unsymmetric.
        block = np.triu(block) + np.triu(block, 1).T
    gram[rows, columns] = block
    if mirrored:
        gram[columns, rows] = block.T


def run(plan: Plan, compute: Callable[[slice, slice], None], description: str) -> None:
    """Run `compute` on every tile, on the plan's threads, showing progress when it takes long.

    An interrupt or an error stops the tiles not yet begun and is raised.
    """
    if len(plan) == 1:
        for rows, columns in plan.tiles():
            compute(rows, columns)
        return
    with ThreadPoolExecutor(plan.threads) as pool:
        tiles = plan.tiles()
        pending = {pool.submit(compute, *tile) for tile in islice(tiles, 2 * plan.threads)}
        try:
            for _ in tracked(range(len(plan)), len(plan), description):
                done, pending = wait(pending, return_when=FIRST_COMPLETED) if pending else (set(), pending)
                for future in done:
                    future.result()
                pending |= {pool.submit(compute, *tile) for tile in islice(tiles, len(done))}
        finally:
            for future in pending:
                future.cancel()


def side_of_two_tiles(room: int, kept: int, pair: int) -> int:
    """How many examples r each of two tiles may hold, when `kept` is for each and `pair` > 0 for each pair of them.

    The largest r with `2 kept r + pair r² <= room`; of 2 r examples in all, no other two tiles have more pairs.
    """
    return int((sqrt(kept**2 + pair * max(room, 0)) - kept) / pair)


def check_result(kernel: str, needed: int, remedy: str) -> None:
    """Say at once that a result does not fit the machine.

    Raises:
        MemoryError: when `needed` bytes are more than the machine's memory.
    """
    available = physical_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"{kernel} needs {needed / 2**30:.1f} GiB, got a machine with {available / 2**30:.1f} GiB. {remedy}"
        )


def tracked(items: Iterable, total: int, description: str) -> Iterator:
    """Pass `items` on, with a progress bar on a terminal's standard error."""
    if not sys.stderr.isatty():
        yield from items
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=description)


def usable_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """The machine's memory in bytes, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
