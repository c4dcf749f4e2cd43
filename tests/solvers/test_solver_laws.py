"""Laws that every solver obeys on every kernel's Gram matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkit.kernels import NNGP, NTK, RBF
from ntkit.nn import Dense, Erf, Relu, Serial
from ntkit.solvers import Cholesky, Eigh

DEEP = Serial(Dense(1, w_std=1.5, b_std=0.1), Relu(), Dense(1, w_std=1.5, b_std=0.1), Relu(), Dense(1))
SMOOTH = Serial(Dense(1, w_std=1.2, b_std=0.3), Erf(), Dense(1, w_std=1.3))
KERNELS = {
    "rbf": RBF(0.7, 2.0),
    "nngp-relu": NNGP(DEEP),
    "ntk-relu": NTK(DEEP),
    "nngp-erf": NNGP(SMOOTH),
    "ntk-erf": NTK(SMOOTH),
    "sum": RBF(2.0) + 0.5 * NTK(DEEP),
}
SOLVERS = {"cholesky": Cholesky(), "eigh": Eigh()}
SIZE, NOISE = 12, 0.05

random = np.random.default_rng(0)
POINTS, RIGHT = random.normal(size=(SIZE, 3)), random.normal(size=(SIZE, 2))

EPS = np.finfo(float).eps

every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def matrix_of(kernel, noise=NOISE):
    return kernel(POINTS) + noise * np.eye(SIZE)


def rounding(matrix):
    """What a backward stable solver may lose, relative: n eps times the condition number (Higham 2002, 10.1)."""
    return 10 * len(matrix) * EPS * np.linalg.cond(matrix)


@every_kernel
@every_solver
def test_solving_inverts_the_matrix(kernel, solver):
    matrix, factor = matrix_of(kernel), solver.factor(kernel(POINTS), NOISE)
    for right in (RIGHT, RIGHT[:, 0]):
        solution = factor.solve(right)
        assert solution.shape == right.shape
        np.testing.assert_allclose(
            matrix @ solution, right, atol=rounding(matrix) * np.abs(right).max(), rtol=0
        )


@every_kernel
@every_solver
def test_whitening_squares_to_the_inverse(kernel, solver):
    matrix, factor = matrix_of(kernel), solver.factor(kernel(POINTS), NOISE)
    whitened = factor.whiten(RIGHT)
    expected = RIGHT.T @ np.linalg.solve(matrix, RIGHT)
    np.testing.assert_allclose(
        whitened.T @ whitened, expected, atol=rounding(matrix) * np.abs(expected).max(), rtol=0
    )


@every_kernel
@every_solver
def test_log_determinant_and_inverse_diagonal_are_those_of_the_matrix(kernel, solver):
    matrix, factor = matrix_of(kernel), solver.factor(kernel(POINTS), NOISE)
    # The logarithm of each of n eigenvalues moves by the relative change of that eigenvalue.
    assert factor.log_det() == pytest.approx(np.linalg.slogdet(matrix)[1], abs=SIZE * rounding(matrix))
    inverse = np.linalg.inv(matrix)
    np.testing.assert_allclose(factor.inverse_diagonal(), np.diag(inverse), rtol=rounding(matrix))


@every_kernel
@every_solver
def test_the_reported_residual_is_the_true_one(kernel, solver):
    matrix, factor = matrix_of(kernel), solver.factor(kernel(POINTS), NOISE)
    true = np.linalg.norm(matrix @ factor.solve(RIGHT) - RIGHT) / np.linalg.norm(RIGHT)
    # Both are rounding of the same products, summed in another order.
    assert abs(factor.residual(RIGHT) - true) <= rounding(matrix)
    assert factor.residual(RIGHT) <= rounding(matrix)
    assert factor.residual(np.zeros(SIZE)) == 0.0
    assert factor.rank == SIZE
    assert factor.jitter == 0.0


@every_solver
def test_the_right_hand_side_decides_library_and_dtype(solver):
    gram = KERNELS["rbf"](POINTS)
    for matrix in (gram, gram.astype(np.float32), jnp.asarray(gram)):
        factor = solver.factor(matrix, NOISE)
        assert type(factor.solve(RIGHT)) is np.ndarray
        assert factor.solve(RIGHT).dtype == np.float64
        assert factor.whiten(RIGHT.astype(np.float32)).dtype == np.float32
        assert isinstance(factor.solve(jnp.asarray(RIGHT)), jax.Array)


@every_solver
def test_a_float32_matrix_is_factored_in_float64(solver):
    gram = KERNELS["ntk-relu"](POINTS.astype(np.float32))
    exact = np.linalg.solve(gram.astype(np.float64) + NOISE * np.eye(SIZE), RIGHT)
    solution = solver.factor(gram, NOISE).solve(RIGHT)
    np.testing.assert_allclose(
        solution, exact, atol=rounding(matrix_of(KERNELS["ntk-relu"])) * np.abs(exact).max()
    )


@every_kernel
@every_solver
def test_traced_and_concrete_factorisations_agree(kernel, solver):
    def everything(gram, noise, right):
        factor = solver.factor(gram, noise)
        return (
            factor.solve(right), factor.whiten(right), factor.log_det(), factor.inverse_diagonal(),
            factor.residual(right),
        )  # fmt: skip

    concrete = everything(kernel(POINTS), NOISE, RIGHT)
    with jax.enable_x64(True):
        traced = jax.jit(everything)(jnp.asarray(kernel(POINTS)), NOISE, jnp.asarray(RIGHT))
        traced = [np.asarray(value) for value in traced]
    tolerance = SIZE * rounding(matrix_of(kernel))
    for name, ours, theirs in zip(
        ["solve", "whiten", "log_det", "diagonal", "residual"], concrete, traced, strict=True
    ):
        if name == "whiten":  # eigenvectors have no sign of their own: compare what is defined
            ours, theirs = ours.T @ ours, theirs.T @ theirs
        np.testing.assert_allclose(
            theirs, ours, atol=tolerance * max(1.0, np.abs(ours).max()), rtol=0, err_msg=name
        )


@every_solver
def test_a_traced_right_hand_side_meets_a_concrete_factor(solver):
    with jax.enable_x64(True):
        factor = solver.factor(KERNELS["rbf"](POINTS), NOISE)
        solved = jax.jit(factor.solve)(jnp.asarray(RIGHT))
        np.testing.assert_allclose(solved, factor.solve(RIGHT), rtol=rounding(matrix_of(KERNELS["rbf"])))
        slope = jax.grad(lambda right: 0.5 * jnp.sum(factor.whiten(right) ** 2))(jnp.asarray(RIGHT))
    np.testing.assert_allclose(slope, factor.solve(RIGHT), rtol=rounding(matrix_of(KERNELS["rbf"])))


@every_solver
def test_the_gradient_of_the_log_determinant_is_the_inverse(solver):
    gram = KERNELS["ntk-erf"](POINTS)
    with jax.enable_x64(True):
        slope = jax.grad(lambda matrix: solver.factor(matrix, NOISE).log_det())(jnp.asarray(gram))
        slope = np.asarray(slope)
    inverse = np.linalg.inv(gram + NOISE * np.eye(SIZE))
    # Eigenvectors' derivatives divide by eigenvalue gaps, of which this matrix has some as small as its noise.
    tolerance = 100 * rounding(gram + NOISE * np.eye(SIZE))
    np.testing.assert_allclose((slope + slope.T) / 2, inverse, atol=tolerance * np.abs(inverse).max(), rtol=0)


@every_solver
@given(
    rows=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=8),
    noise=st.sampled_from([1e-8, 1e-3, 1.0, 1e6]),
)
def test_noise_makes_any_points_solvable(solver, rows, noise):
    points = np.array(rows, dtype=float)
    gram = np.exp(-0.5 * ((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=2))
    factor = solver.factor(gram, noise)
    right = np.ones((len(points), 1))
    # The smallest eigenvalue is at least the noise.
    condition = (len(points) + noise) / noise
    assert factor.residual(right) <= 10 * len(points) * EPS * condition
    assert factor.log_det() >= len(points) * np.log(noise) - 10 * len(points) ** 2 * EPS * condition


BAD = {
    "rectangle": (np.ones((2, 3)), 0.1, "square Gram matrix, got shape"),
    "empty": (np.ones((0, 0)), 0.1, "square Gram matrix"),
    "nan": (
        np.array([[1.0, np.nan], [np.nan, 1.0]]),
        0.1,
        r"got nan at \[0, 1\] of the Gram matrix of my kernel",
    ),
    "infinity": (np.array([[1.0, 0.0], [0.0, np.inf]]), 0.1, r"got inf at \[1, 1\]"),
    "asymmetric": (np.array([[1.0, 0.5], [0.4, 1.0]]), 0.1, "differ from their mirror image by up to 0.1"),
    "negative noise": (np.eye(2), -0.1, "noise variance of at least 0, got -0.1"),
    "nan noise": (np.eye(2), np.nan, "noise variance of at least 0, got nan"),
}


@every_solver
@pytest.mark.parametrize(("gram", "noise", "message"), BAD.values(), ids=BAD)
def test_a_matrix_that_is_no_gram_matrix_is_refused(solver, gram, noise, message):
    # A static shape check of the annotations may speak first, which is a refusal too.
    with pytest.raises(Exception, match=message + "|shape|type"):
        solver.factor(gram, noise, name="my kernel")


@every_solver
def test_asymmetry_anywhere_in_a_large_matrix_is_found(solver):
    gram = np.eye(1500)
    gram[1400, 1300] = 0.5  # beyond the first block of rows and of columns
    with pytest.raises(ValueError, match="mirror image"):
        solver.factor(gram, 0.1)
