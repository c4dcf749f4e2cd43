"""The certificate of convergence: bounds that hold in exact arithmetic, and the points that make a kernel singular."""

from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkit.dynamics import gradient_flow
from ntkit.errors import NotPositiveDefiniteError
from ntkit.kernels import NTK, RBF, Kernel
from ntkit.nn import Dense, Relu, Scale, Serial
from ntkit.theory import convergence_certificate
from ntkit.theory.certificate import DependentPoints

NETWORK = Serial(Dense(64, w_std=1.4), Relu(), Dense(1, w_std=1.4))


@dataclass(frozen=True, eq=False)
class Fixed(Kernel):
    """The kernel of points numbered 0, 1, ... with a given matrix."""

    matrix: object

    def __call__(self, x1, x2=None):
        rows = x1[:, 0].astype(int)
        return self.matrix[np.ix_(rows, rows if x2 is None else x2[:, 0].astype(int))]

    def diag(self, x):
        return np.diag(self(x))


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 7), st.floats(-15, 0))
def test_the_true_eigenvalues_lie_within_the_bounds(seed, size, log_smallest):
    rng = np.random.default_rng(seed)
    vectors = np.linalg.qr(rng.normal(size=(size, size)))[0]
    values = np.append(10.0**log_smallest, rng.uniform(0.5, 2.0, size - 1))
    matrix = (vectors * values[None, :]) @ vectors.T
    matrix = (matrix + matrix.T) / 2
    points = np.arange(float(size))[:, None]
    certificate = convergence_certificate(Fixed(matrix), points, entry_accuracy=0.0)
    with mpmath.workdps(40):
        exact = sorted(mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True))
    assert certificate.lower <= exact[0] <= certificate.upper
    assert exact[-1] <= certificate.largest_eigenvalue
    # Not only true but useful: within the rounding of the factorisation, n² eps tr, several times over.
    assert certificate.upper - certificate.lower <= 100 * size**2 * np.finfo(float).eps * values.sum()
    assert certificate.is_positive_definite == (certificate.lower > 0)


def test_inaccurate_entries_widen_the_bounds():
    x = np.random.default_rng(0).normal(size=(6, 3))
    kernel = NTK(NETWORK)
    exact = convergence_certificate(kernel, x, entry_accuracy=0.0)
    rough = convergence_certificate(kernel, x, entry_accuracy=1e-3)
    trace = np.trace(kernel(x))
    assert exact.lower - rough.lower == pytest.approx(1e-3 * trace, rel=1e-6)
    assert rough.upper - exact.upper == pytest.approx(1e-3 * trace, rel=1e-6)
    assert rough.largest_eigenvalue - exact.largest_eigenvalue == pytest.approx(1e-3 * trace, rel=1e-6)
    # Entries moved by as much as was allowed for.
    noise = np.random.default_rng(1).uniform(-1, 1, (6, 6))
    scale = np.sqrt(np.diag(kernel(x)))
    moved = kernel(x) + 1e-3 * (noise + noise.T) / 2 * scale[:, None] * scale[None, :]
    values = np.linalg.eigvalsh(moved)
    assert rough.lower <= values[0] <= rough.upper and values[-1] <= rough.largest_eigenvalue
    single = convergence_certificate(kernel, x.astype(np.float32))
    assert single.entry_accuracy == 1e-5 and single.lower <= exact.lower <= single.upper


@pytest.mark.parametrize(
    ("extra", "reason", "points"),
    [
        (lambda x: x[2], "duplicates", (2, 8)),
        (lambda x: 3.0 * x[5], "collinear", (5, 8)),
    ],
)
def test_the_points_that_make_a_kernel_singular_are_named(extra, reason, points):
    x = np.random.default_rng(0).normal(size=(8, 3))
    certificate = convergence_certificate(NTK(NETWORK), np.vstack([x, extra(x)]))
    assert certificate.verdict == "singular" and not certificate.is_positive_definite
    assert certificate.singular_points == (DependentPoints(points, reason),)
    assert certificate.rate == 0.0 and certificate.loss_bound(2.0, np.inf) == 2.0
    assert f"{reason}: points {list(points)}" in str(certificate)


def test_points_that_differ_in_what_the_kernel_ignores_are_indistinguishable():
    x = np.random.default_rng(0).normal(size=(8, 3))
    blind = NTK(Serial(Scale([1.0, 1.0, 0.0]), *NETWORK.layers))
    certificate = convergence_certificate(blind, np.vstack([x, x[3] + np.array([0.0, 0.0, 1.0])]))
    assert certificate.singular_points == (DependentPoints((3, 8), "indistinguishable"),)


def test_opposite_points_are_no_obstacle_to_relu_but_are_to_a_linear_network():
    x = np.random.default_rng(0).normal(size=(4, 5))
    x = np.vstack([x, -x[1]])
    assert convergence_certificate(NTK(NETWORK), x).is_positive_definite
    linear = convergence_certificate(NTK(Serial(Dense(8), Dense(1))), x)
    assert linear.singular_points == (DependentPoints((1, 4), "collinear"),)


def test_more_points_than_features_make_a_linear_network_singular():
    x = np.random.default_rng(0).normal(size=(6, 4))
    certificate = convergence_certificate(NTK(Serial(Dense(8), Dense(1))), x)
    assert certificate.rank == 4
    assert certificate.singular_points == (DependentPoints(tuple(range(6)), "dependent"),)


def test_the_bound_holds_along_training_and_is_met_by_the_slowest_direction():
    x = np.random.default_rng(0).normal(size=(6, 3))
    y = np.linalg.eigh(NTK(NETWORK)(x))[1][:, :1]  # the slowest direction itself
    for reduction in ("sum", "mean", "mean_points"):
        certificate = convergence_certificate(NTK(NETWORK), x, learning_rate=0.3, reduction=reduction)
        flow = gradient_flow(NTK(NETWORK), x, y, learning_rate=0.3, reduction=reduction)
        times = np.array([0.0, 1.0, 10.0, 300.0])
        bound = certificate.loss_bound(flow.loss(0.0), times)
        assert (flow.loss(times) <= bound * (1 + 1e-12)).all()
        np.testing.assert_allclose(flow.loss(times), bound, rtol=1e-6)
        assert certificate.max_learning_rate() <= flow.max_learning_rate
        assert certificate.max_learning_rate() == pytest.approx(flow.max_learning_rate, rel=1e-9)
        assert certificate.max_learning_rate(0.9) == pytest.approx(1.9 * flow.max_learning_rate, rel=1e-9)


def test_smooth_kernels_on_close_points_are_undecided():
    x = np.linspace(0, 1, 14)[:, None]
    certificate = convergence_certificate(RBF(), x)
    assert certificate.verdict in ("undecided", "singular") and certificate.lower < 0 < certificate.upper


def test_what_is_no_kernel_is_refused():
    points = np.arange(2.0)[:, None]
    with pytest.raises(NotPositiveDefiniteError, match="convergence_certificate"):
        convergence_certificate(Fixed(np.array([[1.0, 2.0], [2.0, 1.0]])), points)
    with pytest.raises(ValueError, match="symmetric Gram matrix"):
        convergence_certificate(Fixed(np.array([[1.0, 0.5], [0.2, 1.0]])), points)
