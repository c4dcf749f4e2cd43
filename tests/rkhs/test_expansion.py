"""Expansions are vectors of a Hilbert space: its laws, brute-force sums, merged centres, compression."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rkhs.problems import DEEP, KERNELS, OTHER, TEST, Gaussian, Given, Laplace, X, drawn, scale

from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference import blocks
from ntkit.kernels import NTK, RBF, Kernel
from ntkit.nn import Dense, Relu, Serial
from ntkit.rkhs import Expansion, representer

EPS = np.finfo(float).eps
TOLERANCE = 256 * EPS
"""Times the scale of a sum: two orders of summation of at most 14 terms, each kernel value off by a few ε."""

every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
seeds = st.integers(0, 10_000)


@every_kernel
def test_values_and_inner_products_are_the_double_sums(kernel):
    f, g = drawn(kernel, 1), drawn(kernel, 2, OTHER)
    values, product = np.zeros((6, 2)), 0.0
    everything = kernel(np.concatenate([X, OTHER, TEST]))
    for i in range(9):
        for m in range(6):
            values[m] += f.coefficients[i] * everything[i, 14 + m]
        for j in range(5):
            product += f.coefficients[i] @ g.coefficients[j] * everything[i, 9 + j]
    bound = TOLERANCE * np.sqrt(scale(f) * scale(g))
    np.testing.assert_allclose(f(TEST), values, rtol=0, atol=TOLERANCE * np.sqrt(scale(f)) * 5)
    np.testing.assert_array_equal(f.evaluate(TEST), f(TEST))
    assert abs(f @ g - product) <= bound
    assert isinstance(f @ g, float) and isinstance(f.norm(), float)


@pytest.mark.parametrize("kernel", [KERNELS["ntk relu"], KERNELS["laplace"]], ids=["ntk relu", "laplace"])
@settings(max_examples=10)
@given(seeds, st.floats(-5, 5), st.floats(-5, 5))
def test_the_inner_product_is_bilinear_symmetric_and_obeys_cauchy_schwarz(kernel, seed, a, b):
    f, g, h = drawn(kernel, seed), drawn(kernel, seed + 1, OTHER), drawn(kernel, seed + 2, OTHER)
    bound = 50 * TOLERANCE * np.sqrt(scale(f) * (scale(g) + scale(h)))
    assert abs(f @ (a * g + b * h) - (a * (f @ g) + b * (f @ h))) <= bound
    assert abs(f @ g - g @ f) <= bound
    assert abs(f @ g) <= f.norm() * g.norm() * (1 + 1e-12)
    assert abs(f.norm() ** 2 - f @ f) <= TOLERANCE * scale(f)
    np.testing.assert_allclose((a * g - b * h)(TEST), a * g(TEST) - b * h(TEST), rtol=0, atol=bound + 1e-300)


@every_kernel
@pytest.mark.parametrize("output", [0, 1])
def test_the_representer_reproduces_values(kernel, output):
    f = drawn(kernel, 3)
    for point in TEST:
        expected = f(point[None, :])[0, output]
        assert abs(f @ representer(kernel, point, output, 2) - expected) <= TOLERANCE * scale(f)
    np.testing.assert_array_equal(representer(kernel, TEST[:1])(X), kernel(X, TEST[:1]))


def test_arithmetic_reads_like_a_vector_space():
    kernel = KERNELS["laplace"]
    f, g = drawn(kernel, 1), drawn(kernel, 2)
    np.testing.assert_array_equal((f + g).coefficients, f.coefficients + g.coefficients)
    np.testing.assert_array_equal((f - g).coefficients, f.coefficients - g.coefficients)
    np.testing.assert_array_equal((-f).coefficients, -f.coefficients)
    for product in (2 * f, f * 2.0, np.float64(2.0) * f, f / 0.5):
        np.testing.assert_array_equal(product.coefficients, 2 * f.coefficients)
    with pytest.raises(TypeError):
        f + 1.0  # type: ignore[operator]
    with pytest.raises(ValueError, match="divisor other than 0"):
        f / 0
    with pytest.raises(ValueError, match="needs a number, got shape"):
        f * np.ones(2)


def test_sums_count_coinciding_centres_once():
    kernel = KERNELS["ntk relu"]
    f = drawn(kernel, 1)
    shuffled = Expansion(kernel, X[::-1].copy(), f.coefficients[::-1].copy())
    assert len((f + f).centers) == len((f + shuffled).centers) == len(X)
    np.testing.assert_array_equal((f + shuffled).coefficients, 2 * f.coefficients)
    np.testing.assert_array_equal((f + shuffled).centers, X)
    partly = f + drawn(kernel, 2, np.concatenate([X[2:4], OTHER, -0.0 * OTHER[:1], 0.0 * OTHER[:1]]))
    assert len(partly.centers) == len(X) + len(OTHER) + 1
    again = Expansion(kernel, np.concatenate([X, X]), np.concatenate([f.coefficients, f.coefficients]))
    assert (f + again).distance(3 * f) <= 1e-12


@every_kernel
def test_a_distance_does_not_cancel(kernel):
    """The difference of two large, nearly equal functions: to 12 digits, where ‖f‖² − 2⟨f,g⟩ + ‖g‖² has none."""
    f, small = drawn(kernel, 1), 1e-9 * drawn(kernel, 2)
    g = Expansion(kernel, X[::-1].copy(), (f + small).coefficients[::-1].copy())
    # Forming f + small rounds its coefficients by ε |α| once, 1e-7 of what `small` holds.
    assert abs(f.distance(g) - small.norm()) <= 4 * EPS * np.sqrt(scale(f))
    assert f.distance(f) == 0.0


def test_large_sets_of_points_go_in_blocks(monkeypatch):
    laplace = KERNELS["laplace"]
    f = drawn(laplace, 1)
    whole, norm = f(TEST), f.norm()
    monkeypatch.setattr(blocks, "LARGEST_BLOCK", 20)
    monkeypatch.setattr("ntkit.rkhs.expansion.LARGEST_BLOCK", 20)
    asked = []

    class Watched(Kernel):
        def __call__(self, x1, x2=None):
            asked.append((len(x1), len(x1 if x2 is None else x2)))
            return laplace(x1, x2)

        def diag(self, x):
            return laplace.diag(x)

    watched = Expansion(Watched(), X, f.coefficients)
    np.testing.assert_allclose(watched(TEST), whole, rtol=1e-13, atol=1e-13)
    assert abs(watched.norm() - norm) <= 1e-13
    assert max(rows * columns for rows, columns in asked) <= 20


def test_jax_arrays_give_jax_arrays_and_gradients():
    kernel = KERNELS["nngp erf"]
    numpy = drawn(kernel, 1)
    f = Expansion(kernel, jnp.asarray(X, jnp.float32), jnp.asarray(numpy.coefficients, jnp.float32))
    points = jnp.asarray(TEST, jnp.float32)
    values = f(points)
    assert isinstance(values, jax.Array) and isinstance(f @ f, jax.Array) and isinstance(f.norm(), jax.Array)
    tolerance = 64 * np.finfo(np.float32).eps * np.sqrt(scale(numpy)) * 3
    np.testing.assert_allclose(values, numpy(TEST), rtol=0, atol=tolerance)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(f, points), values, rtol=0, atol=tolerance)
    # The derivative in the coefficients is the kernel.
    slope = jax.jacobian(lambda a: Expansion(kernel, f.centers, a)(points[:1])[0, 0])(f.coefficients)
    np.testing.assert_allclose(slope[:, 0], kernel(X, TEST[:1])[:, 0], rtol=1e-5)
    norm = jax.grad(lambda a: Expansion(kernel, f.centers, a).squared_norm())(f.coefficients)
    np.testing.assert_allclose(norm, 2 * numpy(X), rtol=0, atol=4 * tolerance)


@every_kernel
@pytest.mark.parametrize("count", [1, 4, 8])
def test_compression_projects_orthogonally_and_states_its_error(kernel, count):
    f = drawn(kernel, 5)
    compressed = f.compress(count=count)
    g, residual = compressed.function, f - compressed.function
    assert len(g.centers) == count
    # Brute force: the best coefficients on the kept centres solve the normal equations.
    best = Expansion(kernel, g.centers, np.linalg.solve(kernel(g.centers), f(g.centers)))
    condition = np.linalg.cond(kernel(X))
    assert abs(compressed.error - f.distance(best)) <= 64 * condition * EPS * f.norm()
    for center in g.centers:
        assert abs(residual @ representer(kernel, center, 0, 2)) <= 64 * condition * EPS * f.norm()
    assert abs(compressed.norm - f.norm()) <= TOLERANCE * scale(f) / f.norm()
    assert compressed.relative_error == compressed.error / compressed.norm
    sizes = np.linalg.norm(residual.coefficients, axis=1) @ np.sqrt(kernel.diag(residual.centers))
    np.testing.assert_allclose(compressed.rounding, 2 * np.sqrt(EPS) * sizes, rtol=1e-12)
    difference = np.linalg.norm(f(TEST) - g(TEST), axis=1)
    assert (difference <= compressed.bound(TEST)).all()
    # And not by much: half of it is reached close to the worst of the dropped centres.
    assert (np.linalg.norm(residual(X), axis=1) / compressed.bound(X)).max() > 0.2


def test_compression_reaches_a_tolerance_with_the_fewest_centres_of_its_order():
    x = np.random.default_rng(3).normal(size=(120, 2))
    f = Expansion(Gaussian(), x, np.random.default_rng(4).normal(size=(120, 1)))
    compressed = f.compress(tolerance=1e-3)
    count = len(compressed.function.centers)
    assert compressed.relative_error <= 1e-3 and count < 60
    # An upper bound, because 120 points of this kernel have a numerical rank below 120; a close one.
    assert 0.9 * compressed.error <= f.distance(compressed.function) <= compressed.error
    assert compressed.rounding < 1e-6 * f.norm()
    assert f.compress(count=count - 1).relative_error > 1e-3


def test_compression_of_singular_sets_of_centres_stays_within_its_bound():
    """Collinear points of a homogeneous network: rank 2 among 6; duplicates are merged first."""
    kernel = NTK(Serial(Dense(1), Relu(), Dense(1)))
    line = np.array([[1.0, 2.0]]) * np.array([1.0, 2.0, -1.0, 3.0, -2.0, 1.0])[:, None]
    f = Expansion(kernel, line, np.arange(1.0, 7.0)[:, None])
    compressed = f.compress(tolerance=1e-5)
    assert len(compressed.function.centers) == 2
    assert f.distance(compressed.function) <= compressed.error + compressed.rounding
    nothing = Expansion.zero(kernel, line).compress(count=1)
    assert (nothing.error, nothing.relative_error, nothing.function.norm()) == (0.0, 0.0, 0.0)


def test_compression_in_single_precision_stays_within_its_bound():
    """Entries of rounding 1e-7 tell fewer directions apart: the rest counts towards the error."""
    x = np.random.default_rng(3).normal(size=(60, 2))
    coefficients = np.random.default_rng(4).normal(size=(60, 1))
    kernel = Gaussian()
    double = Expansion(kernel, x, coefficients)
    single = Expansion(kernel, x.astype(np.float32), coefficients.astype(np.float32))
    compressed = single.compress(tolerance=0.0)
    kept = Expansion(kernel, compressed.function.centers.astype(float), compressed.function.coefficients)
    assert len(kept.centers) < 40 < len(double.compress(tolerance=0.0).function.centers)
    assert double.distance(kept) <= compressed.error + compressed.rounding < 0.1 * double.norm()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either count or tolerance"),
        ({"count": 2, "tolerance": 0.1}, "either count or tolerance"),
        ({"count": 0}, "at least 1"),
        ({"tolerance": 1.5}, "from 0 to below 1"),
    ],
)
def test_compression_refuses_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        drawn(KERNELS["laplace"], 1).compress(**arguments)


def test_functions_of_different_spaces_do_not_mix():
    f = drawn(RBF(1.0), 1)
    assert (f + drawn(RBF(1.0), 2)).kernel is f.kernel
    for other in (drawn(RBF(2.0), 1), drawn(NTK(DEEP), 1), drawn(Given(np.eye(9)), 1)):
        with pytest.raises(ValueError, match="needs functions of one kernel"):
            f + other
        with pytest.raises(ValueError, match="needs functions of one kernel"):
            f @ other

    class Compared(Laplace):
        def __eq__(self, other):
            return isinstance(other, Compared)

        __hash__ = None

    assert drawn(Compared(), 1).distance(drawn(Compared(), 1)) == 0.0
    with pytest.raises(ValueError, match="needs functions of one kernel"):
        drawn(Laplace(), 1) + drawn(Laplace(), 2)
    with pytest.raises(ValueError, match="equally many outputs, got 2 and 1"):
        f + drawn(RBF(1.0), 1, outputs=1)
    with pytest.raises(ValueError, match="equally many features, got 3 and 2"):
        f + drawn(RBF(1.0), 1, X[:, :2])
    with pytest.raises(ValueError, match="one dtype, got float64 and float32"):
        f + drawn(RBF(1.0), 1, X.astype(np.float32))


@pytest.mark.parametrize(
    ("centers", "coefficients", "message"),
    [
        (X, np.zeros((8, 1)), "one row of coefficients per centre"),
        (X, np.zeros(9), r"shape \(centres, outputs\), got \(9,\)"),
        (X[:, 0], np.zeros((9, 1)), r"shape \(points, features\)"),
        (X, np.full((9, 1), np.nan), r"finite values, got nan at coefficients"),
        (np.where(X > 1, np.inf, X), np.zeros((9, 1)), r"finite values, got inf at centers"),
        ([[1.0]], np.zeros((1, 1)), "centers as an array, got list"),
    ],
)
def test_centres_and_coefficients_must_match(centers, coefficients, message):
    # The type checker of the tests would refuse some of these first, so it is passed by.
    expansion = object.__new__(Expansion)
    for name, value in {"kernel": RBF(), "centers": centers, "coefficients": coefficients}.items():
        object.__setattr__(expansion, name, value)
    with pytest.raises(ValueError, match=message):
        expansion.__post_init__()


def test_an_indefinite_kernel_is_refused_and_rounding_is_not():
    indefinite = Given([[1.0, 2.0], [2.0, 1.0]])
    points = np.array([[0.0], [1.0]])
    f = Expansion(indefinite, points, np.array([[1.0], [-1.0]]))
    with pytest.raises(NotPositiveDefiniteError, match=r"‖f‖² = -2"):
        f.norm()
    rounding = Given([[1.0, 1.0 + EPS], [1.0 + EPS, 1.0]])
    assert Expansion(rounding, points, np.array([[1.0], [-1.0]])).norm() == 0.0


def test_one_point_and_one_output_are_asked_for():
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="one point x of shape"):
        representer(RBF(), X)
    with pytest.raises(ValueError, match="output between 0 and 1 for 2 outputs, got 2"):
        representer(RBF(), X[0], 2, 2)


def test_the_repr_names_sizes_and_kernel():
    f = drawn(RBF(1.0), 1)
    assert repr(f) == "Expansion(9 centres of 3 features, 2 outputs, RBF(length_scale=1.0, variance=1.0))"
