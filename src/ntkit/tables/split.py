"""Choose rows: a held-out test set, or a subsample of a table that is too large for exact kernels."""

import numpy as np
from jaxtyping import Int
from sklearn.model_selection import train_test_split

from ntkit.errors import TableError


def train_test_rows(
    rows: int, test_fraction: float, seed: int, *, classes: Int[np.ndarray, " n"] | None = None
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Split row numbers at random, sorted within each part; stratified by class where every class allows it.

    Raises:
        TableError: if the fraction is outside (0, 1), or a part would be too small.
    """
    if not 0.0 < test_fraction < 1.0:
        raise TableError(f"The split needs a test fraction between 0 and 1, got {test_fraction}.")
    if rows < 10:
        raise TableError(f"The split needs at least 10 complete rows, got {rows}. Give more data.")
    stratify = classes
    if classes is not None:
        counts = np.unique(classes, return_counts=True)[1]
        if counts.min() < 2 or len(counts) > min(rows * test_fraction, rows * (1.0 - test_fraction)):
            stratify = None
    try:
        train, test = train_test_split(
            np.arange(rows), test_size=test_fraction, random_state=seed, stratify=stratify
        )
    except ValueError as error:
        raise TableError(
            f"The split of {rows} rows with test fraction {test_fraction} failed: {error}"
        ) from error
    return np.sort(train), np.sort(test)


def stratified_rows(codes: Int[np.ndarray, " n"], limit: int, seed: int) -> Int[np.ndarray, " kept"]:
    """A random subset of row numbers, sorted, of size min(n, limit), with every class in its proportion.

    While there is room every class keeps a row.

    >>> codes = np.array([0] * 6 + [1] * 3 + [2])
    >>> codes[stratified_rows(codes, 5, seed=0)].tolist()
    [0, 0, 0, 1, 2]
    """
    if len(codes) <= limit:
        return np.arange(len(codes))
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    order = np.empty(len(codes))
    for code in np.unique(codes):
        members = shuffled[codes[shuffled] == code]
        order[members] = (np.arange(len(members)) + 0.5) / len(members)
        order[members[0]] = 0.0
    # Among equals, which the first of every class are, chance decides.
    return np.sort(shuffled[np.argsort(order[shuffled], kind="stable")][:limit])


def limit_rows(rows: int, limit: int, seed: int) -> Int[np.ndarray, " kept"]:
    """A uniformly random subset of row numbers, sorted, of size min(rows, limit)."""
    if rows <= limit:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, size=limit, replace=False))
