"""Spectra on spheres: closed forms, 40-digit quadrature, random points, and the published decays."""

import mpmath
import numpy as np
import pytest
from tests.theory.harmonics import degree_average, random_on_sphere

from ntkit import NNGP, NTK, RBF, nn
from ntkit.errors import AccuracyWarning
from ntkit.theory import sphere_spectrum
from ntkit.theory.sphere import multiplicity

RELU = nn.Serial(nn.Dense(8), nn.Relu(), nn.Dense(1, w_std=2**0.5))
"""On the sphere of radius sqrt(d): NNGP the arc-cosine kernel of degree 1, NTK that plus cos θ times degree 0."""

BIASED = nn.Serial(nn.Dense(8, w_std=1.2, b_std=0.3), nn.Relu(), nn.Dense(1, w_std=2**0.5))


def assert_near(found, degree, exact):
    """Within the error that the result states; what is less than 100 times it counts as 0."""
    value = found.eigenvalues[degree]
    if value == 0.0:
        assert abs(exact) <= 101 * found.errors[degree]
    else:
        assert abs(value - float(exact)) <= found.errors[degree]


def arccosine_1(theta):
    return (mpmath.sin(theta) + (mpmath.pi - theta) * mpmath.cos(theta)) / mpmath.pi


def arccosine_0(theta):
    return 1 - theta / mpmath.pi


def relu_ntk(theta):
    return arccosine_1(theta) + mpmath.cos(theta) * arccosine_0(theta)


@pytest.mark.parametrize("dimension", [2, 8])
@pytest.mark.parametrize(
    ("kernel", "function"), [(NNGP(RELU), arccosine_1), (NTK(RELU), relu_ntk)], ids=["NNGP", "NTK"]
)
def test_kernels_of_a_relu_network_have_the_eigenvalues_of_slow_quadrature(kernel, function, dimension):
    found = sphere_spectrum(kernel, dimension, 8, radius=dimension**0.5)
    for degree in (0, 1, 2, 3, 8):
        exact = degree_average(function, dimension, degree)
        assert_near(found, degree, exact)
    assert found.errors.max() < 1e-13
    assert found.variance == pytest.approx(float(function(mpmath.mpf(0))), rel=1e-14)


def test_the_step_network_has_the_arccosine_kernel_of_degree_0():
    found = sphere_spectrum(NNGP(nn.Serial(nn.Dense(8), nn.Step())), 5, 7)
    for degree in (0, 1, 2, 5, 7):
        exact = degree_average(arccosine_0, 5, degree) / 2  # C = (π - θ) / (2 π)
        assert_near(found, degree, exact)
    assert (found.eigenvalues[2::2] == 0).all()  # an odd function plus a constant


def test_the_exponential_kernel_has_bessel_functions_for_eigenvalues():
    # E[e^u e^v] = e^q e^(q cos θ) with q = r²/d; its integral against P_l is Γ(d/2) (2/q)^(d/2-1) I_(l+d/2-1)(q).
    dimension, radius = 6, 3.0
    q = mpmath.mpf(radius) ** 2 / dimension
    found = sphere_spectrum(NNGP(nn.Serial(nn.Dense(8), nn.Exp())), dimension, 12, radius)
    for degree in range(13):
        order = mpmath.mpf(dimension) / 2 - 1
        exact = mpmath.exp(q) * mpmath.gamma(order + 1) * (2 / q) ** order * mpmath.besseli(degree + order, q)
        assert_near(found, degree, exact)
    assert found.tail == pytest.approx(0.0, abs=1e-9 * found.variance)


def test_a_quadratic_kernel_has_degrees_0_and_2_alone():
    # cos² θ on S^(d-1): 1/d for the constant and 2 / (d (d + 2)) for each harmonic of degree 2.
    d = 7
    found = sphere_spectrum(NNGP(nn.Serial(nn.Dense(8), nn.Hermite(2))), d, 5, radius=d**0.5)
    np.testing.assert_allclose(
        found.eigenvalues, [1 / d, 0, 2 / (d * (d + 2)), 0, 0, 0], atol=1e-16, rtol=1e-13
    )
    np.testing.assert_allclose(found.shares.sum(), 1.0, rtol=1e-13)
    assert found.tail < 1e-13


def test_on_the_circle_eigenvalues_are_fourier_coefficients():
    # The trapezoidal rule, which is exact for periodic functions up to what lies beyond its 4096 points.
    kernel, angles = RBF(0.6), np.arange(4096) * 2.0 * np.pi / 4096
    values = kernel(np.array([[1.0, 0.0]]), np.stack([np.cos(angles), np.sin(angles)], axis=1))[0]
    expected = np.fft.rfft(values).real[:11] / 4096
    found = sphere_spectrum(kernel, 2, 10)
    for degree in range(11):
        assert_near(found, degree, expected[degree])
    assert found.resolved[:6].all()
    np.testing.assert_array_equal(found.multiplicities, [1.0] + 10 * [2.0])


def test_harmonics_are_counted_as_polynomials_are():
    # Harmonics of degrees l, l-2, ... together are all homogeneous polynomials of degree l on the sphere.
    for dimension in (2, 3, 20):
        counts = [multiplicity(dimension, degree) for degree in range(7)]
        for degree in (5, 6):
            monomials = int(mpmath.binomial(degree + dimension - 1, degree))
            assert sum(counts[degree % 2 : degree + 1 : 2]) == monomials


@pytest.mark.parametrize("dimension", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_published_decays_of_relu_kernels_are_found(dimension):
    # Bietti & Bach (2021): l^-d for the NTK, l^-(d+2) for the NNGP. Corrections are of relative order (d/l)².
    for kernel, exponent in ((NTK(BIASED), -dimension), (NNGP(BIASED), -dimension - 2)):
        fit = sphere_spectrum(kernel, dimension, 80, dimension**0.5).decay_exponent(40, 80)
        assert fit.exponent == pytest.approx(exponent, abs=0.05)
        assert fit.standard_error < 0.01


def test_degrees_without_eigenvalue_are_passed_over_in_a_fit():
    found = sphere_spectrum(NNGP(RELU), 3, 60, 3**0.5)
    assert (found.eigenvalues[3::2] == 0.0).all()
    assert not found.resolved[3::2].any()
    assert found.decay_exponent(20).exponent == pytest.approx(-5.0, abs=0.1)


def test_random_points_have_this_spectrum_on_average():
    # E|K|²_F / n² = (1 - 1/n) Σ N_l λ_l² + k(1)²/n for n independent uniform points. Twenty sets of points give the
    # mean and its standard error; 4 of them are exceeded once in 1,000 runs (19 degrees of freedom); the seed is fixed.
    dimension, points, kernel = 4, 60, NTK(BIASED)
    found = sphere_spectrum(kernel, dimension, 60, 2.0)
    generator = np.random.default_rng(0)
    squares = [
        np.square(kernel(2.0 * random_on_sphere(generator, points, dimension))).sum() / points**2
        for _ in range(20)
    ]
    expected = (1 - 1 / points) * (
        found.multiplicities * found.eigenvalues**2
    ).sum() + found.variance**2 / points
    assert abs(np.mean(squares) - expected) < 4 * np.std(squares, ddof=1) / 20**0.5


def test_the_variance_is_shared_out_among_degrees():
    found = sphere_spectrum(NTK(BIASED), 5, 40)
    np.testing.assert_allclose(found.shares.sum() * found.variance + found.tail, found.variance, rtol=1e-13)
    longer = sphere_spectrum(NTK(BIASED), 5, 80)
    assert 0 < longer.tail < found.tail
    assert longer.shares.sum() < 1.0
    np.testing.assert_array_equal(found.frequencies[:3], [1.5, 2.5, 3.5])  # l + d/2 - 1


def test_the_effective_dimension_counts_modes_and_warns_of_a_long_tail():
    found = sphere_spectrum(NNGP(BIASED), 3, 40)
    by_hand = sum(n * v / (v + 1e-3) for n, v in zip(found.multiplicities, found.eigenvalues, strict=True))
    assert found.effective_dimension(1e-3) == pytest.approx(by_hand, rel=1e-12)
    with pytest.warns(AccuracyWarning, match="degrees above 40 may add up to"):
        found.effective_dimension(1e-9)


def test_high_dimensions_neither_overflow_nor_invent_eigenvalues():
    found = sphere_spectrum(NTK(RELU), 784, 12, 28.0)
    # The linear part: λ_1 = E[k cos θ], nearly k'(0) / d = (1/2 + 1/2) / d for cosines that are nearly 0.
    assert found.eigenvalues[1] * 784 == pytest.approx(1.0, rel=0.01)
    assert found.shares.sum() <= 1.0 + 1e-9
    assert found.resolved[:3].all() and not found.resolved[12]
    assert found.tail > 0.0


def test_kernels_that_see_directions_are_refused():
    with pytest.raises(ValueError, match="RBF whose values at one angle differ by"):
        sphere_spectrum(RBF(np.array([1.0, 2.0, 1.0])), 3, 4)
    scaled = nn.Serial(nn.Scale(np.array([1.0, 1.0, 1.001])), nn.Dense(8), nn.Relu(), nn.Dense(1))
    with pytest.raises(ValueError, match="NTK whose values at one angle"):
        sphere_spectrum(NTK(scaled), 3, 4)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="dimension of at least 2 .*got 1 and 3"):
        sphere_spectrum(RBF(), 1, 3)
    with pytest.raises(ValueError, match="positive, finite radius, got 0"):
        sphere_spectrum(RBF(), 3, 3, radius=0)
    with pytest.raises(ValueError, match=r"k\(x, x\) > 0, got 0"):
        sphere_spectrum(0.0 * RBF(), 3, 3)
    found = sphere_spectrum(RBF(), 3, 30)
    with pytest.raises(ValueError, match="1 <= first < last <= 30"):
        found.decay_exponent(5, 31)
    with pytest.raises(ValueError, match="3 eigenvalues above their errors between degrees 28 and 30"):
        found.decay_exponent(28, 30)
    with pytest.raises(ValueError, match="positive ridge, got 0"):
        found.effective_dimension(0)
