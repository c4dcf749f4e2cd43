"""The tangent kernel as an operator, against the matrix of explicit Jacobians and LAPACK, in float64."""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
import scipy.sparse.linalg
from tests.empirical.gated import (
    K,
    count_parameters,
    draw,
    draw_parameters,
    explicit_jacobian,
    looped,
    network,
)

from ntkit.empirical import EmpiricalNTK, NTKOperator, operator
from ntkit.errors import AccuracyWarning, ConvergenceError

N, M, WIDTH = 12, 5, 8
SIZE, PARAMETERS, PARAMS = N * K, count_parameters(WIDTH), draw_parameters(WIDTH)
X1, X2 = draw(4, N, 3), draw(5, M, 3)
J1, J2 = (np.concatenate(explicit_jacobian(PARAMS, x)) for x in (X1, X2))
GRAM, CROSS = J1 @ J1.T, J1 @ J2.T
EIGENVALUES = np.linalg.eigvalsh(GRAM)
OPERATOR = NTKOperator(network, PARAMS, X1)
RECTANGULAR = NTKOperator(network, PARAMS, X1, X2)


@pytest.mark.parametrize("memory_limit", [2**30, 1])
def test_a_product_is_that_of_the_matrix_in_any_form_of_vectors_and_any_memory(memory_limit):
    """One byte is less than a Jacobian: one point and one vector at a time."""
    operator = NTKOperator(network, PARAMS, X1, X2, memory_limit=memory_limit)
    assert operator.shape == CROSS.shape == (N * K, M * K)
    v = draw(6, M * K, 3)
    expected = CROSS @ v
    forms = {(M * K,): (N * K,), (M, K): (N, K), (M * K, 3): (N * K, 3), (M, K, 3): (N, K, 3)}
    for form, result in forms.items():
        several = 3 in form[1:]
        product = operator @ (v if several else v[:, 0]).reshape(form)
        assert isinstance(product, np.ndarray) and product.dtype == np.float64
        np.testing.assert_allclose(
            product, (expected if several else expected[:, 0]).reshape(result), rtol=1e-10, atol=1e-10
        )


def test_the_transpose_is_that_of_the_matrix():
    assert RECTANGULAR.T.shape == (M * K, N * K)
    np.testing.assert_allclose(RECTANGULAR.T @ np.eye(N * K), CROSS.T, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(OPERATOR.T @ X1[:, :K], (GRAM @ X1[:, :K].ravel()).reshape(N, K), rtol=1e-10)


def test_the_diagonal_is_taken_layer_by_layer_where_memory_allows(monkeypatch):
    small, taken = NTKOperator(network, PARAMS, X1, memory_limit=1), []
    by_gradients = operator._norms
    monkeypatch.setattr(operator, "_norms", lambda *a, **k: taken.append(k) or by_gradients(*a, **k))
    np.testing.assert_allclose(OPERATOR.diagonal(), np.diag(GRAM).reshape(N, K), rtol=1e-10)
    assert not taken
    np.testing.assert_allclose(small.diagonal(), np.diag(GRAM).reshape(N, K), rtol=1e-10)
    assert taken == [{"memory_limit": 1}]


def test_diagonal_and_trace_are_exact():
    np.testing.assert_allclose(OPERATOR.diagonal(), np.diag(GRAM).reshape(N, K), rtol=1e-10)
    assert OPERATOR.trace() == pytest.approx(np.trace(GRAM), rel=1e-10)


def test_the_estimated_trace_is_unbiased_and_its_standard_error_is_the_spread():
    estimates = [OPERATOR.estimate_trace(jax.random.key(seed), products=8) for seed in range(40)]
    values = np.array([estimate.value for estimate in estimates])
    stated = np.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates]))
    assert {estimate.products for estimate in estimates} == {8}
    spread = values.std(ddof=1)
    assert abs(values.mean() - np.trace(GRAM)) < 4 * spread / np.sqrt(40)
    # the spread of 40 numbers is known to 11 %; the stated error is too small by a third at most
    assert 0.5 * spread < stated < 1.5 * spread
    assert spread < 0.2 * np.trace(GRAM)


def test_with_as_many_products_as_columns_the_trace_is_exact():
    estimate = OPERATOR.estimate_trace(jax.random.key(0), products=SIZE)
    assert (estimate.standard_error, estimate.products) == (0.0, 0)
    assert estimate.value == pytest.approx(np.trace(GRAM), rel=1e-10)


def test_scipy_solves_and_finds_eigenvalues_with_it():
    operator = OPERATOR.as_scipy()
    assert (operator.shape, operator.dtype) == (GRAM.shape, np.float64)
    v = draw(7, SIZE)
    shifted = operator + scipy.sparse.linalg.aslinearoperator(np.eye(SIZE))
    solution, failure = scipy.sparse.linalg.cg(shifted, v, rtol=1e-10)
    assert failure == 0
    np.testing.assert_allclose(solution, np.linalg.solve(GRAM + np.eye(SIZE), v), rtol=1e-6, atol=1e-8)
    largest = scipy.sparse.linalg.eigsh(operator, k=3, v0=v, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(largest), EIGENVALUES[-3:], rtol=1e-10)
    rectangular = RECTANGULAR.as_scipy()
    np.testing.assert_allclose(rectangular.rmatvec(v), CROSS.T @ v, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(rectangular @ np.eye(M * K), CROSS, rtol=1e-10, atol=1e-10)


def test_lineax_takes_it_as_a_positive_semidefinite_operator():
    with jax.enable_x64(True):
        operator = OPERATOR.as_lineax()
        assert lineax.is_positive_semidefinite(operator)
        assert not lineax.is_positive_semidefinite(RECTANGULAR.as_lineax())
        v = jnp.asarray(draw(8, SIZE))
        np.testing.assert_allclose(
            np.array(jax.jit(lambda v: operator.mv(v))(v)), GRAM @ np.array(v), rtol=1e-10
        )


class TestSolve:
    def test_the_solution_is_that_of_the_dense_system(self):
        b = draw(9, N, K, 3)
        b[:, :, 1] = 0
        b[0, 0, 2] = 1e6  # each right-hand side has its own scale
        solution = OPERATOR.solve(b, noise=0.5, rtol=1e-10)
        matrix = GRAM + 0.5 * np.eye(SIZE)
        dense = np.linalg.solve(matrix, b.reshape(SIZE, 3))
        # a relative residual of ρ leaves a relative error of at most ρ times the condition number
        bound = 2e-10 * np.linalg.cond(matrix) * np.linalg.norm(dense, axis=0)
        value = solution.value.reshape(SIZE, 3)
        assert np.all(np.linalg.norm(value - dense, axis=0) <= bound)
        np.testing.assert_array_equal(value[:, 1], 0)
        residual = np.linalg.norm(matrix @ value - b.reshape(SIZE, 3), axis=0)[[0, 2]]
        residual /= np.linalg.norm(b.reshape(SIZE, 3), axis=0)[[0, 2]]
        np.testing.assert_allclose(solution.residual[np.array([0, 2])], residual, rtol=1e-3, atol=1e-12)
        assert solution.iterations[1] == 0 < solution.iterations[0] <= 4 * SIZE

    def test_what_does_not_converge_is_an_error_that_names_the_noise(self):
        with pytest.raises(
            ConvergenceError, match=r"residual of 1e-08, got .*stopped at max_steps=2\. Raise noise \(now 0\)"
        ):
            OPERATOR.solve(draw(9, SIZE), max_steps=2)

    def test_it_works_under_jit_in_float32(self):
        """Condition 1e4 or less: float32 reaches the default residual of 1e-4."""
        operator = NTKOperator(network, PARAMS, jnp.asarray(X1, jnp.float32))
        b = jnp.asarray(draw(9, SIZE), jnp.float32)
        solution = jax.jit(lambda operator, b: operator.solve(b, noise=5.0))(operator, b)
        assert solution.value.dtype == jnp.float32
        dense = np.linalg.solve(GRAM + 5 * np.eye(SIZE), np.array(b, np.float64))
        assert np.linalg.norm(np.array(solution.value) - dense) <= 2e-4 * EIGENVALUES[
            -1
        ] / 5 * np.linalg.norm(dense)
        assert float(solution.residual[0]) <= 2e-4


class TestEigenvalues:
    @pytest.mark.parametrize("which", ["largest", "smallest"])
    def test_they_are_those_of_the_matrix(self, which):
        pairs = OPERATOR.eigenvalues(3, which)
        expected = EIGENVALUES[::-1][:3] if which == "largest" else EIGENVALUES[:3]
        np.testing.assert_allclose(pairs.values, expected, atol=1e-12 * EIGENVALUES[-1])
        np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(3), atol=1e-12)
        errors = np.linalg.norm(GRAM @ pairs.vectors - pairs.vectors * pairs.values, axis=0)
        np.testing.assert_allclose(pairs.bounds, errors, atol=1e-12 * EIGENVALUES[-1])

    def test_eigenvalues_that_occur_several_times_are_all_found(self):
        """A linear model of three inputs has Θ = (X Xᵀ) ⊗ I: each of three eigenvalues twice, then zeros."""
        linear = NTKOperator(lambda w, x: x @ w, np.ones((3, K)), X1)
        pairs = linear.eigenvalues(7)
        single = np.linalg.eigvalsh(X1.T @ X1)[::-1]
        np.testing.assert_allclose(pairs.values, [*np.repeat(single, K), 0], atol=1e-12 * single[0])
        assert pairs.bounds.max() < 1e-12 * single[0]

    def test_copies_are_found_by_further_runs_where_one_run_finds_others(self):
        """Twelve eigenvalues, each twice; ten steps of one run find ten different ones."""
        features = draw(10, 3, N)
        model = NTKOperator(lambda w, x: jnp.sin(x @ features) @ w, np.ones((N, K)), X1)
        single = np.linalg.eigvalsh(np.sin(X1 @ features) @ np.sin(X1 @ features).T)[::-1]
        pairs = model.eigenvalues(3, steps=10)
        np.testing.assert_allclose(pairs.values, single[[0, 0, 1]], rtol=1e-6)

    def test_bounds_hold_and_are_warned_of_when_steps_are_few(self):
        with pytest.warns(AccuracyWarning, match=r"is known to .* only, above rtol=1e-06 .*Raise steps"):
            pairs = OPERATOR.eigenvalues(2, steps=4)
        distance = np.abs(EIGENVALUES[:, None] - pairs.values[None, :]).min(axis=0)
        assert np.all(distance <= pairs.bounds)
        assert pairs.bounds.max() > 1e-6 * EIGENVALUES[-1]


def test_jax_arrays_in_give_jax_arrays_out_and_the_product_is_a_pure_function():
    operator = NTKOperator(network, PARAMS, jnp.asarray(X1, jnp.float32), jnp.asarray(X2, jnp.float32))
    v = jnp.asarray(draw(6, M * K), jnp.float32)
    product = operator @ v
    assert isinstance(product, jax.Array) and product.dtype == jnp.float32
    scale = (
        np.abs(CROSS).sum(axis=1).max()
    )  # rounding errors of 58 terms: within 1e-5 of the sum of magnitudes
    np.testing.assert_allclose(np.array(product), CROSS @ np.array(v), atol=1e-5 * scale)
    under_jit = jax.jit(lambda operator, v: operator @ v)(operator, v)
    np.testing.assert_allclose(np.array(under_jit), np.array(product), atol=1e-5 * scale)


class TestErrorsSayWhatToDo:
    def test_vectors_of_another_length(self):
        with pytest.raises(
            ValueError, match=r"vectors of shape \(10,\), \(5, 2\), .* for 5 points and 2 outputs"
        ):
            RECTANGULAR @ np.ones(9)

    @pytest.mark.parametrize("method", ["diagonal", "trace", "eigenvalues", "solve", "estimate_trace"])
    def test_what_needs_one_set_of_points(self, method):
        arguments = {"eigenvalues": [1], "solve": [np.ones(N * K)], "estimate_trace": [jax.random.key(0)]}
        with pytest.raises(
            ValueError, match=r"needs an operator of one set of points.*NTKOperator\(f, params, x\)"
        ):
            getattr(RECTANGULAR, method)(*arguments.get(method, []))

    def test_numbers_out_of_range(self):
        with pytest.raises(ValueError, match="noise >= 0, got -1"):
            OPERATOR.solve(np.ones(SIZE), noise=-1)
        with pytest.raises(ValueError, match="count between 1 and 24, got 25"):
            OPERATOR.eigenvalues(25)
        with pytest.raises(ValueError, match="'largest' or 'smallest', got 'middle'"):
            OPERATOR.eigenvalues(1, "middle")
        with pytest.raises(ValueError, match="products >= 4, got 3"):
            OPERATOR.estimate_trace(jax.random.key(0), products=3)


def test_a_loop_of_unknown_length_is_refused_with_the_remedy():
    operator = NTKOperator(looped, np.eye(3), X1)
    single = NTKOperator(looped, np.eye(3, dtype=np.float32), X1.astype(np.float32))
    calls = (
        lambda: operator @ np.ones(3 * N),
        lambda: single.as_lineax().mv(jnp.ones(3 * N)),
        lambda: operator.eigenvalues(1),
        lambda: operator.estimate_trace(jax.random.key(0), 4),
        lambda: operator.solve(np.ones(3 * N)),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"NTKOperator needs f .* lax.scan or .* or EmpiricalNTK"):
            call()
    blocks = EmpiricalNTK(looped, np.eye(3)).per_output(X1)
    np.testing.assert_allclose(operator.diagonal(), np.einsum("nno->no", blocks), rtol=1e-12)


def test_products_of_numbers_are_numbers_inside_a_traced_function():
    seen = []
    jax.jit(lambda s: (seen.extend([OPERATOR @ X1[:, :K], OPERATOR.diagonal()]), s)[1])(1.0)
    np.testing.assert_allclose(seen[0].ravel(), GRAM @ X1[:, :K].ravel(), rtol=1e-10)
    np.testing.assert_allclose(seen[1].ravel(), np.diag(GRAM), rtol=1e-10)
