"""Subsets drawn class by class."""

import numpy as np
import pytest

from ntkit.tables.split import stratified_rows

CODES = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [60, 30, 9, 1]))


@pytest.mark.parametrize("limit", [4, 10, 33, 77])
def test_every_class_keeps_its_share_and_one_row_at_least(limit):
    rows = stratified_rows(CODES, limit, seed=1)
    assert len(rows) == len(set(rows)) == limit
    assert (np.diff(rows) > 0).all()
    counts = np.bincount(CODES[rows], minlength=4)
    assert counts.min() >= 1
    # One row may go to each class for being the first, and one by rounding.
    assert np.abs(counts - limit * np.bincount(CODES) / 100).max() <= 2


def test_subsets_are_random_and_repeatable():
    first, again, other = (stratified_rows(CODES, 20, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(stratified_rows(CODES, 100, seed=0), np.arange(100))
