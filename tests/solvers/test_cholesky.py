"""What is particular to Cholesky: failures that advise, and jitter that is never silent."""

import numpy as np
import pytest

from ntkit.errors import NotPositiveDefiniteError
from ntkit.kernels import RBF
from ntkit.solvers import Cholesky

random = np.random.default_rng(1)
POINTS = random.normal(size=(6, 2))


def test_failure_names_everything_needed_to_act():
    points = POINTS.copy()
    points[4] = points[1]
    with pytest.raises(NotPositiveDefiniteError) as failure:
        Cholesky().factor(RBF(1.5)(points.astype(np.float32)), name="RBF(length_scale=1.5)")
    text = str(failure.value)
    for part in (
        "RBF(length_scale=1.5)", "6 points", "float32", "noise 0", "pivot 4", "smallest eigenvalue",
        "Points 1 and 4 coincide",
    ):  # fmt: skip
        assert part in text
    remedies = [
        text.index(remedy) for remedy in ("larger noise", "remove duplicate points", "Eigh()", "jitter=")
    ]
    assert remedies == sorted(remedies)


def test_the_smallest_eigenvalue_in_the_message_is_that_of_the_matrix():
    with pytest.raises(NotPositiveDefiniteError, match=r"noise 0.25: .* smallest eigenvalue is -0.75\."):
        Cholesky().factor(np.array([[1.0, 2.0], [2.0, 1.0]]), noise=0.25)


def test_a_matrix_without_duplicates_is_not_accused_of_them():
    with pytest.raises(NotPositiveDefiniteError, match="Remedies") as failure:
        Cholesky().factor(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert "coincide" not in str(failure.value)


def test_a_pivot_that_is_only_rounding_is_a_failure():
    # Points so close that k = 1 - 1e-16 or so: LAPACK may find a pivot of either sign, and neither means anything.
    gram = np.array([[1.0, 1.0 - 2.3e-16], [1.0 - 2.3e-16, 1.0]])
    assert np.linalg.cholesky(gram)[1, 1] > 0
    with pytest.raises(NotPositiveDefiniteError, match="of its diagonal entry: rounding"):
        Cholesky().factor(gram)


def test_jitter_is_kept_on_the_factor_and_shows_in_the_residual():
    gram = np.ones((3, 3))
    factor = Cholesky(jitter=1e-6).factor(gram, noise=1e-3)
    assert factor.jitter == 1e-6
    right = np.array([1.0, 2.0, -3.0])  # orthogonal to the matrix's range: A v = noise v
    np.testing.assert_allclose(factor.solve(right), right / (1e-3 + 1e-6), rtol=1e-12)
    # The system asked for has no jitter: the relative residual is jitter / (noise + jitter), to 3 eps / 1e-3.
    assert factor.residual(right) == pytest.approx(1e-6 / (1e-3 + 1e-6), abs=1e-12)
    with pytest.raises(NotPositiveDefiniteError, match=r"with noise 0 and jitter 1e-20"):
        Cholesky(jitter=1e-20).factor(gram)


@pytest.mark.parametrize("jitter", [-1e-9, np.nan, np.inf])
def test_jitter_must_be_a_variance(jitter):
    with pytest.raises(ValueError, match="jitter of at least 0"):
        Cholesky(jitter=jitter)


def test_the_matrix_given_is_left_alone():
    gram = RBF()(POINTS)
    before = gram.copy()
    Cholesky().factor(gram, 0.1)
    np.testing.assert_array_equal(gram, before)
