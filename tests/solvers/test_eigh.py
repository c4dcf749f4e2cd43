"""What is particular to the eigendecomposition: null directions, their report, and indefinite matrices."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit.errors import AccuracyWarning, NotPositiveDefiniteError
from ntkit.kernels import NTK, RBF
from ntkit.nn import Dense, Relu, Serial
from ntkit.solvers import Eigh, decompose, spectrum

random = np.random.default_rng(2)
POINTS = random.normal(size=(6, 2))
EPS = np.finfo(float).eps


def with_eigenvalues(eigenvalues):
    basis = np.linalg.qr(random.normal(size=(len(eigenvalues), len(eigenvalues))))[0]
    matrix = (basis * np.asarray(eigenvalues)) @ basis.T
    return (matrix + matrix.T) / 2, basis


def test_a_singular_matrix_is_inverted_on_its_range():
    points = np.concatenate([POINTS, POINTS[:2]])
    gram = RBF()(points)
    factor = Eigh().factor(gram)
    assert factor.rank == 6
    right = random.normal(size=(8, 2))
    # Range of condition number about 100 here; pinv and ours differ by n eps of it.
    condition = factor.eigenvalues[-1] / factor.eigenvalues[2]
    expected = np.linalg.pinv(gram, hermitian=True) @ right
    np.testing.assert_allclose(factor.solve(right), expected, atol=80 * EPS * condition**2)
    # What lies outside of the range cannot be reached, and the residual says so.
    outside = np.zeros(8)
    outside[[0, 6]] = 1.0, -1.0
    assert factor.residual(outside) == pytest.approx(1.0, abs=1e-12)


def test_the_determinant_of_a_singular_matrix_is_zero():
    assert Eigh().factor(np.ones((3, 3))).log_det() == -np.inf
    with jax.enable_x64(True):
        assert jax.jit(lambda gram: Eigh().factor(gram).log_det())(jnp.ones((3, 3))) == -np.inf
    assert Eigh().factor(np.ones((3, 3)), noise=1e-3).log_det() == pytest.approx(
        np.log(3.001 * 1e-6), rel=1e-12
    )


def test_the_cutoff_can_be_chosen():
    gram, basis = with_eigenvalues([1e-4, 1.0, 3.0])
    assert Eigh().factor(gram).rank == 3
    factor = Eigh(cutoff=1e-3).factor(gram)
    assert factor.rank == 2
    np.testing.assert_allclose(
        factor.solve(basis[:, 0]), 0.0, atol=1e-11
    )  # eps / 1e-4 of the direction left out
    with pytest.raises(ValueError, match="cutoff of at least 0"):
        Eigh(cutoff=-1.0)


def test_a_matrix_that_no_kernel_makes_is_refused():
    gram, _ = with_eigenvalues([-1e-3, 1.0, 1.0])
    with pytest.raises(
        NotPositiveDefiniteError, match=r"my kernel on 3 points in float64 .* eigenvalue of -0.001 "
    ):
        Eigh().factor(gram, name="my kernel")


def test_an_eigenvalue_slightly_too_negative_is_reported_and_frozen():
    gram, basis = with_eigenvalues([-1e-9, 1.0, 1.0])
    with pytest.warns(AccuracyWarning, match="more negative than rounding explains"):
        factor = Eigh().factor(gram, name="my kernel")
    assert factor.rank == 2
    np.testing.assert_allclose(factor.solve(basis[:, 0]), 0.0, atol=1e-12)


def test_rounding_below_zero_is_no_news():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Eigh().factor(np.ones((50, 50))).rank == 1


def test_the_entries_of_a_float32_matrix_carry_their_own_rounding():
    gram = RBF(3.0)(random.normal(size=(40, 1)))
    fine, coarse = decompose(gram), decompose(gram.astype(np.float32))
    # The bound holds for the float32 matrix: no eigenvalue moved by more than the cutoff.
    assert np.abs(coarse.eigenvalues - fine.eigenvalues).max() <= coarse.cutoff
    assert coarse.rank < fine.rank
    assert coarse.cutoff == pytest.approx(40 * np.finfo(np.float32).eps, rel=1e-6)


def test_both_lapack_drivers_give_the_same_spectrum(monkeypatch):
    gram = NTK(Serial(Dense(1, b_std=0.2), Relu(), Dense(1)))(POINTS)
    divided = decompose(gram)
    monkeypatch.setattr(spectrum, "LARGEST_DIVIDE_AND_CONQUER", 0)
    robust = decompose(gram)
    np.testing.assert_allclose(
        robust.eigenvalues, divided.eigenvalues, atol=6 * EPS * divided.eigenvalues[-1]
    )
    rebuilt = (robust.eigenvectors * robust.eigenvalues) @ robust.eigenvectors.T
    # The robust driver's vectors are orthogonal to about n eps times a few tens.
    np.testing.assert_allclose(rebuilt, gram, atol=1000 * EPS * divided.eigenvalues[-1])


def test_an_all_zero_matrix_has_rank_zero():
    factor = Eigh().factor(np.zeros((3, 3)))
    assert factor.rank == 0
    np.testing.assert_array_equal(factor.solve(np.ones(3)), np.zeros(3))
