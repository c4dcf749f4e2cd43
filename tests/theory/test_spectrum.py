"""Spectra on data: Mercer's theorem holds on the points, and tends to the known spectrum of the distribution."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jaxtyping import Float

from ntkit import NNGP, NTK, RBF, nn
from ntkit.errors import NotPositiveDefiniteError
from ntkit.kernels import Kernel
from ntkit.numerics.dtypes import Array
from ntkit.theory import eigensystem

X = np.random.default_rng(0).normal(size=(40, 3))
NETWORK = nn.Serial(nn.Dense(8, w_std=1.4, b_std=0.2), nn.Erf(), nn.Dense(1))
COUNT = 12


class Cosines(Kernel):
    """`k(x, x') = Σ_{i<=12} i^-3 2 cos(π i x) cos(π i x')`: on midpoints of a grid its spectrum is `i^-3`."""

    def __call__(self, x1: Float[Array, "n d"], x2: Float[Array, "m d"] | None = None) -> Float[Array, "n m"]:
        left, right = (self.features(x) for x in (x1, x1 if x2 is None else x2))
        return left @ right.T

    def diag(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        return (self.features(x) ** 2).sum(axis=1)

    def features(self, x):
        numbers = np.arange(1, COUNT + 1)
        return np.sqrt(2.0) * np.cos(np.pi * numbers[None, :] * np.asarray(x)) * numbers[None, :] ** -1.5


class Indefinite(Cosines):
    def features(self, x):
        return np.asarray(x)

    def __call__(self, x1: Float[Array, "n d"], x2: Float[Array, "m d"] | None = None) -> Float[Array, "n m"]:
        return -super().__call__(x1, x2)


GRID = ((np.arange(64) + 0.5) / 64)[:, None]


def test_mercers_theorem_holds_on_the_data():
    kernel = NTK(NETWORK)
    system = eigensystem(kernel, X)
    gram, phi = kernel(X), system.eigenvectors
    tolerance = 1e-12 * np.abs(gram).max()  # 40 eps for the eigensolver, with room
    np.testing.assert_allclose(phi * system.eigenvalues @ phi.T, gram, atol=tolerance)
    np.testing.assert_allclose(phi.T @ phi / len(X), np.eye(len(X)), atol=1e-12)
    assert system.eigenvalues.sum() == pytest.approx(kernel.diag(X).mean(), rel=1e-12)
    assert (np.diff(system.eigenvalues) <= 0).all()


def test_the_extension_of_an_eigenfunction_passes_through_the_data():
    system = eigensystem(NTK(NETWORK), X, count=10)
    assert system.eigenvectors.shape == (40, 10)
    np.testing.assert_allclose(system.eigenfunctions(X), system.eigenvectors, atol=1e-9)


def test_eigenfunctions_far_from_the_data_are_those_of_the_distribution():
    # The grid integrates cosines exactly, so the extension is the cosine everywhere, up to its sign.
    between = np.linspace(0.0, 1.0, 23)[:, None]
    found = eigensystem(Cosines(), GRID).eigenfunctions(between)
    expected = Cosines().features(between) * np.arange(1, COUNT + 1)[None, :] ** 1.5
    assert found.shape == (23, COUNT)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)


def test_a_known_decay_is_found():
    system = eigensystem(Cosines(), GRID)
    np.testing.assert_allclose(system.eigenvalues[:COUNT], np.arange(1.0, COUNT + 1) ** -3, rtol=1e-10)
    assert system.rank == COUNT
    fit = system.decay_exponent(2, 10)
    assert fit.exponent == pytest.approx(-3.0, abs=1e-9)
    assert system.decay_exponent().exponent == pytest.approx(-3.0, abs=1e-9)


def test_the_gaussian_kernel_on_gaussian_inputs_has_its_known_spectrum():
    # Rasmussen & Williams (2006), section 4.3.1. Midpoints of quantiles integrate smooth functions with errors that
    # fall faster than 1/n; the tails cut off there carry less than 1 / n = 1/600 of the mass.
    x = scipy.stats.norm.ppf((np.arange(600) + 0.5) / 600)[:, None]
    a, b = 0.25, 0.5
    total = a + b + np.sqrt(a**2 + 2.0 * a * b)
    expected = np.sqrt(2.0 * a / total) * (b / total) ** np.arange(4)
    np.testing.assert_allclose(eigensystem(RBF(), x).eigenvalues[:4], expected, rtol=0.01)


def test_coefficients_take_a_target_apart_and_power_adds_up():
    system = eigensystem(NTK(NETWORK), X)
    y = np.random.default_rng(1).normal(size=(40, 2))
    coefficients = system.coefficients(y)
    np.testing.assert_allclose(system.eigenvectors @ coefficients, y, atol=1e-11)
    power = system.power(y)
    np.testing.assert_allclose(
        np.diff(power), (coefficients[1:] ** 2).sum(axis=1) / (y**2).mean(axis=0).sum()
    )
    assert power[-1] == pytest.approx(1.0, abs=1e-12)
    third = system.power(system.eigenvectors[:, 2:3])
    np.testing.assert_allclose(third[:5], [0.0, 0.0, 1.0, 1.0, 1.0], atol=1e-12)


def test_the_effective_dimension_is_the_trace_of_the_smoother():
    system, ridge = eigensystem(NTK(NETWORK), X), 0.01
    gram = NTK(NETWORK)(X)
    smoother = np.linalg.solve(gram + len(X) * ridge * np.eye(len(X)), gram)
    assert system.effective_dimension(ridge) == pytest.approx(np.trace(smoother), rel=1e-10)
    assert system.effective_dimension(0) == len(X)


def test_a_singular_kernel_has_no_eigenfunctions_beyond_its_rank():
    system = eigensystem(NNGP(nn.Dense(1)), X)
    assert system.rank == 3
    assert system.eigenfunctions(X).shape == (40, 3)
    assert system.eigenvectors.shape == (40, 40)
    assert (system.eigenvalues >= 0).all()


def test_jax_points_give_jax_eigenfunctions():
    x = X.astype(np.float32)
    ours = eigensystem(NTK(NETWORK), x, count=3)
    found = ours.eigenfunctions(jnp.asarray(x[:5]))
    assert isinstance(found, type(jnp.zeros(1)))
    np.testing.assert_allclose(np.asarray(found), ours.eigenvectors[:5], atol=1e-4)


def test_what_cannot_be_is_refused():
    system = eigensystem(RBF(), X)
    with pytest.raises(ValueError, match="count between 1 and 40"):
        eigensystem(RBF(), X, count=41)
    with pytest.raises(NotPositiveDefiniteError, match="Indefinite on 40 points"):
        eigensystem(Indefinite(), X)
    with pytest.raises(ValueError, match=r"1 <= first < last <= 40 .*got first=0"):
        system.decay_exponent(0, 5)
    with pytest.raises(ValueError, match="ridge of at least 0, got -1"):
        system.effective_dimension(-1)
    with pytest.raises(ValueError, match="not all zero"):
        system.power(np.zeros((40, 1)))
    with pytest.raises(ValueError, match="one row of y per point"):
        system.coefficients(np.zeros((39, 1)))
