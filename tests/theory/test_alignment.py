"""Alignment: the formulas as the papers print them, and what they must not depend on."""

import numpy as np
import pytest

from ntkit import NNGP, NTK, RBF, nn
from ntkit.theory import (
    alignment,
    center_gram,
    centered_alignment,
    centered_target_alignment,
    compare_kernels,
    target_alignment,
)

GENERATOR = np.random.default_rng(0)
A, B = (features @ features.T for features in GENERATOR.normal(size=(2, 12, 4)))
NETWORK = nn.Serial(nn.Dense(8), nn.Relu(), nn.Dense(1))


def test_alignment_is_the_cosine_of_two_matrices():
    by_hand = (A * B).sum() / np.sqrt((A**2).sum() * (B**2).sum())
    assert alignment(A, B) == pytest.approx(by_hand, rel=1e-14)
    assert alignment(A, 7.0 * A) == pytest.approx(1.0, abs=1e-14)
    assert alignment(np.diag([1.0, 0.0]), np.diag([0.0, 1.0])) == 0.0


def test_centering_is_the_projection_on_what_has_no_mean():
    h = np.eye(12) - 1.0 / 12.0
    np.testing.assert_allclose(center_gram(A), h @ A @ h, atol=1e-13)


def test_centered_alignment_is_the_normalised_independence_criterion():
    # HSIC(K, L) = tr(K H L H) / (n - 1)^2 (Kornblith et al. 2019, equation 3)
    h = np.eye(12) - 1.0 / 12.0
    hsic = [np.trace(k @ h @ other @ h) for k, other in ((A, B), (A, A), (B, B))]
    assert centered_alignment(A, B) == pytest.approx(hsic[0] / np.sqrt(hsic[1] * hsic[2]), rel=1e-12)


def test_a_constant_in_the_kernel_does_not_matter_once_centered():
    assert centered_alignment(A + 5.0, B) == pytest.approx(centered_alignment(A, B), rel=1e-12)
    assert abs(alignment(A + 5.0, B) - alignment(A, B)) > 0.01


def test_a_kernel_made_of_the_targets_is_aligned_with_them():
    y = GENERATOR.normal(size=(12, 2)) + 3.0
    assert target_alignment(y @ y.T, y) == pytest.approx(1.0, abs=1e-13)
    assert centered_target_alignment(y @ y.T, y) == pytest.approx(1.0, abs=1e-13)
    direct = np.sum(y[:, :1] * (A @ y[:, :1])) / (np.linalg.norm(A) * np.sum(y[:, :1] ** 2))
    assert target_alignment(A, y[:, :1]) == pytest.approx(direct, rel=1e-12)


def test_comparing_kernels_is_comparing_their_matrices():
    x, y = GENERATOR.normal(size=(9, 3)), GENERATOR.normal(size=(9, 1))
    kernels = (NNGP(NETWORK), NTK(NETWORK), RBF(2.0))
    grams = [kernel(x) for kernel in kernels]
    found = compare_kernels(kernels, x, y)
    assert found.uncentered[0, 2] == pytest.approx(alignment(grams[0], grams[2]), rel=1e-12)
    assert found.centered[1, 2] == pytest.approx(centered_alignment(grams[1], grams[2]), rel=1e-12)
    assert found.target[1] == pytest.approx(target_alignment(grams[1], y), rel=1e-12)
    assert found.centered_target[2] == pytest.approx(centered_target_alignment(grams[2], y), rel=1e-12)
    np.testing.assert_allclose(np.diag(found.centered), 1.0, rtol=1e-13)
    np.testing.assert_allclose(found.centered, found.centered.T, rtol=1e-12)
    assert compare_kernels(kernels, x).target is None


def test_huge_and_tiny_kernels_align_as_well():
    assert alignment(1e200 * A, 1e-200 * B) == pytest.approx(alignment(A, B), rel=1e-12)


def test_what_has_no_direction_is_refused():
    with pytest.raises(ValueError, match="got a zero matrix"):
        alignment(np.zeros((3, 3)), np.eye(3))
    with pytest.raises(ValueError, match="differ from a constant"):
        centered_alignment(np.full((3, 3), 0.1), np.eye(3))
    with pytest.raises(ValueError, match="finite"):
        alignment(np.full((2, 2), np.nan), np.eye(2))
    with pytest.raises(ValueError, match="at least one kernel"):
        compare_kernels((), np.eye(2))
