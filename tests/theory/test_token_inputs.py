"""Spectra, alignment and learning curves on tokens and trees, against the explicit tangent kernel."""

import numpy as np
import pytest
from tests.empirical.token_model import PARAMS, X_NEW, X, Y, kernel_by_hand, model, nngp_by_hand

from ntkit.empirical import EmpiricalNNGP, EmpiricalNTK
from ntkit.kernels.row_kernel import RowKernel
from ntkit.theory import (
    alignment,
    compare_kernels,
    convergence_certificate,
    eigensystem,
    learning_curve_on,
    measured_learning_curve,
)

KINDS = pytest.mark.parametrize("kind", ["tokens", "tree"])
TANGENT, OF_OUTPUTS = EmpiricalNTK(model, PARAMS, method="jacobian"), EmpiricalNNGP(model, PARAMS)
ROWS = np.arange(6.0)[:, None]


@KINDS
def test_the_spectrum_on_tokens_is_that_of_the_explicit_kernel(kind):
    x, x_new = X[kind], X_NEW[kind]
    system = eigensystem(TANGENT, x)
    values, vectors = np.linalg.eigh(kernel_by_hand(x))
    np.testing.assert_allclose(system.eigenvalues, values[::-1] / 6, atol=1e-10)
    extended = kernel_by_hand(x_new, x) @ (vectors / values[None, :])[:, ::-1] * 6**0.5
    # eigenvectors are known up to their sign
    np.testing.assert_allclose(np.abs(system.eigenfunctions(x_new)), np.abs(extended), atol=1e-10)
    assert system.eigenfunctions(x_new).dtype == np.float64


@KINDS
def test_kernels_are_compared_on_tokens(kind):
    found = compare_kernels((TANGENT, OF_OUTPUTS), X[kind], Y)
    expected = alignment(kernel_by_hand(X[kind]), nngp_by_hand(X[kind]))
    assert found.uncentered[0, 1] == pytest.approx(expected, rel=1e-10)


@KINDS
def test_learning_curves_on_tokens_are_those_of_the_explicit_kernel(kind):
    explicit = RowKernel(kernel_by_hand(X[kind]), "explicit")
    predicted = learning_curve_on(TANGENT, X[kind], Y, [2, 3], 0.1)
    np.testing.assert_allclose(
        predicted.test_error, learning_curve_on(explicit, ROWS, Y, [2, 3], 0.1).test_error, rtol=1e-9
    )
    measured = measured_learning_curve(TANGENT, X[kind], Y, [3], ridge=0.1, repeats=3)
    np.testing.assert_allclose(
        measured.mean, measured_learning_curve(explicit, ROWS, Y, [3], ridge=0.1, repeats=3).mean, rtol=1e-9
    )


@KINDS
def test_points_that_are_the_same_in_every_array_are_found(kind):
    """Of the tree's points 0 and 1 the tokens are equal, but not the masks, which the mean of equal tokens forgets."""
    tokens, mask = X["tree"]["tokens"].copy(), X["tree"]["mask"].copy()
    tokens[:4], mask[:4] = [[1, 1, 3, 3], [1, 1, 3, 3], [4, 0, 2, 3], [4, 0, 2, 3]], [True, True, False, True]
    mask[:2] = [[True, True, False, False], [True, False, False, False]]
    certificate = convergence_certificate(
        TANGENT, tokens if kind == "tokens" else {"tokens": tokens, "mask": mask}
    )
    found = [(group.points, group.reason) for group in certificate.singular_points]
    first = "duplicates" if kind == "tokens" else "indistinguishable"
    assert found == [((0, 1), first), ((2, 3), "duplicates")]


def test_tokens_that_the_kernel_takes_for_the_same_are_not_called_collinear():
    """The mean over positions forgets their order; twice the tokens is no multiple of the points."""
    certificate = convergence_certificate(TANGENT, np.array([[1, 2, 0, 0], [2, 1, 0, 0], [4, 0, 0, 0]]))
    assert [group.reason for group in certificate.singular_points] == ["indistinguishable"]
