"""Feature maps: unbiased sketches, projections, exact diagonals, accuracy on digits, scikit-learn's contract."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import comb
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.rkhs.problems import OTHER, Given, Laplace, X

from ntkit.errors import NotPositiveDefiniteError
from ntkit.kernels import NNGP, NTK, Kernel
from ntkit.nn import Dense, Erf, Relu, Scale, Serial
from ntkit.rkhs import ComposedSketch, Nystrom
from ntkit.rkhs.angle_profile import AngleProfile
from ntkit.rkhs.composed_sketch import _shares
from ntkit.rkhs.landmarks import LANDMARKS
from ntkit.rkhs.tensor_sketch import TensorSketch

EPS = np.finfo(float).eps
LAPLACE = Laplace()
SHALLOW = NTK(Serial(Dense(1, w_std=1.4), Relu(), Dense(1)))
DEEP = NTK(Serial(*(layer for _ in range(3) for layer in (Dense(1, w_std=2**0.5), Relu())), Dense(1)))
UNIT = X / np.linalg.norm(X, axis=1, keepdims=True)
MANY = np.random.default_rng(7).normal(size=(60, 3))


class Polynomial(Kernel):
    """`Σ_j b_j ρ^j |x|² |x'|²` in plain NumPy: homogeneous, a function of the angle, evaluated in microseconds."""

    def __repr__(self):
        return "Polynomial()"  # names tests, which must be the same in every process

    coefficients = (0.5, 1.0, 0.7, 0.0, 0.3)

    def __call__(self, x1, x2=None):
        x2 = x1 if x2 is None else x2
        one, two = np.linalg.norm(x1, axis=1), np.linalg.norm(x2, axis=1)
        scale = one[:, None] * two[None, :]
        cosines = x1 @ x2.T / np.where(scale > 0, scale, 1.0)
        return np.polynomial.polynomial.polyval(cosines, self.coefficients) * scale**2

    def diag(self, x):
        return sum(self.coefficients) * np.linalg.norm(x, axis=1) ** 4


def relative_error(approximation, gram):
    return np.linalg.norm(approximation - gram) / np.linalg.norm(gram)


@pytest.mark.parametrize("landmarks", LANDMARKS)
def test_nystrom_projects_onto_the_span_of_the_landmarks(landmarks):
    """`K(·, Z) K(Z, Z)^{-1} K(Z, ·)`: exact at the landmarks, and below the kernel by a semi-definite matrix."""
    features = Nystrom(LAPLACE, 20, landmarks, random_state=1).fit(MANY)
    chosen = features.landmarks_
    assert chosen.shape == (20, 3) and len(np.unique(chosen, axis=0)) == 20
    cross = LAPLACE(MANY, chosen)
    expected = cross @ np.linalg.solve(LAPLACE(chosen), cross.T)
    condition = np.linalg.cond(LAPLACE(chosen))
    np.testing.assert_allclose(features(MANY), expected, rtol=0, atol=16 * condition * EPS)
    np.testing.assert_allclose(features(chosen), LAPLACE(chosen), rtol=0, atol=16 * condition * EPS)
    assert np.linalg.eigvalsh(LAPLACE(MANY) - features(MANY))[0] >= -1e-12
    assert (features.diag(MANY) <= 1.0 + 1e-12).all()


def test_nystrom_with_all_points_is_the_kernel_and_chosen_landmarks_beat_random_ones():
    everything = Nystrom(LAPLACE, 1000).fit(MANY)
    np.testing.assert_allclose(everything(MANY), LAPLACE(MANY), rtol=0, atol=1e-12)
    # A cluster and a few points far from it: a uniform choice misses most of these.
    clustered = np.concatenate([0.01 * MANY, 5.0 * MANY[:6]])

    def missed(name, seed):
        return np.mean(1.0 - Nystrom(LAPLACE, 12, name, seed).fit(clustered).diag(clustered[60:]))

    errors = {name: np.mean([missed(name, seed) for seed in range(8)]) for name in LANDMARKS}
    assert errors["uniform"] > 0.7
    assert max(errors[name] for name in ("pivoted_cholesky", "kmeans++")) < 0.1
    assert errors["leverage"] < 0.8 * errors["uniform"]


def test_nystrom_leaves_null_directions_out():
    line = np.array([[1.0, 2.0]]) * np.array([1.0, 2.0, -1.0, 3.0, -2.0, 0.7, -0.3, 2.3])[:, None]
    features = Nystrom(SHALLOW, 8).fit(line)
    assert features.transform(line).shape == (8, 2) == (8, features.n_features_out_)
    np.testing.assert_allclose(features(line), SHALLOW(line), rtol=0, atol=64 * EPS * 44.1)
    with pytest.raises(NotPositiveDefiniteError, match="eigenvalue"):
        Nystrom(Given([[1.0, 2.0], [2.0, 1.0]]), 2, "uniform").fit(np.array([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="not zero on the data"):
        Nystrom(SHALLOW, 2).fit(np.zeros((3, 2)))


def test_a_tensor_sketch_is_unbiased_for_any_factors():
    """The mean over 1500 draws of 3 products at 16 bins, within five standard errors."""
    a, b = np.random.default_rng(1).normal(size=(3, 4)), np.random.default_rng(2).normal(size=(3, 2))
    exact = (a @ a.T) * (b @ b.T) * (a @ a.T)
    random = np.random.RandomState(0)
    products = []
    for _ in range(1500):
        sketched = TensorSketch.drawn([4, 2, 4], 16, random)([a, b, a])
        products.append(sketched @ sketched.T)
    mean, error = np.mean(products, axis=0), np.std(products, axis=0) / np.sqrt(1500)
    assert (np.abs(mean - exact) <= 5 * error).all()
    assert (error < 0.3 * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))).all()


def test_a_tensor_sketch_is_the_count_sketch_of_the_product():
    """Bin of a pair is the sum of its bins modulo m, the sign the product: by brute force over all pairs."""
    a, b = np.random.default_rng(1).normal(size=(3, 4)), np.random.default_rng(2).normal(size=(3, 2))
    sketch = TensorSketch.drawn([4, 2], 5, np.random.RandomState(3))
    first, second = (hashed.toarray() for hashed in sketch.hashes)
    expected = np.zeros((3, 5))
    for i, j in itertools.product(range(4), range(2)):
        bins = np.flatnonzero(first[i])[0], np.flatnonzero(second[j])[0]
        expected[:, sum(bins) % 5] += first[i, bins[0]] * second[j, bins[1]] * a[:, i] * b[:, j]
    np.testing.assert_allclose(sketch([a, b]), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("kernel", "power"),
    [(SHALLOW, 1.0), (NNGP(Serial(Dense(1), Relu())), 1.0), (Polynomial(), 2.0)],
)
def test_a_homogeneous_kernel_is_its_profile(kernel, power):
    profile = AngleProfile.of("test", kernel, MANY)
    assert abs(profile.power - power) < 1e-12
    norms = np.linalg.norm(OTHER, axis=1)
    cosines = np.clip((OTHER / norms[:, None]) @ (OTHER / norms[:, None]).T, -1, 1)
    sizes = profile.size("test", norms)
    found = profile(cosines.ravel()).reshape(5, 5) * sizes[:, None] * sizes[None, :]
    # The angle of a point with itself, through arccos, keeps half the digits.
    np.testing.assert_allclose(found, kernel(OTHER), rtol=0, atol=1e-7 * np.abs(kernel(OTHER)).max())


def test_the_power_series_of_a_polynomial_is_that_polynomial():
    profile = AngleProfile.of("test", Polynomial(), UNIT)
    expected = np.array([*Polynomial.coefficients, 0.0, 0.0])
    np.testing.assert_allclose(profile.power_series(6), expected, rtol=0, atol=1e-10)
    assert (AngleProfile.of("test", SHALLOW, MANY).power_series(16) >= 0).all()


def test_the_power_series_approaches_the_arc_cosine_kernel():
    """Root mean square error under the arcsine law below 1% of κ(1), and falling with the degree."""
    profile = AngleProfile.of("test", SHALLOW, MANY)
    cosines = np.cos(np.linspace(0, np.pi, 501))
    exact, errors = profile(cosines), []
    for degree in (4, 8, 16):
        series = np.polynomial.polynomial.polyval(cosines, profile.power_series(degree))
        errors.append(np.sqrt(np.mean((series - exact) ** 2)) / exact[0])
    assert errors[2] < 0.01 and errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2]


@pytest.mark.parametrize("mean", [0.0, 3.0], ids=["no mean direction", "mean direction"])
def test_a_sketch_of_a_polynomial_kernel_is_its_own_expansion(mean):
    """Before rounding to random numbers: the exact parts of degrees 0 and 1 in `v·v'` by the binomial theorem."""
    x = MANY + np.array([[mean, 0.0, 0.0]])
    features = ComposedSketch(Polynomial(), count=400, degree=4).fit(x)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    direction = units.mean(axis=0) / np.linalg.norm(units.mean(axis=0))
    c = units @ direction if mean else np.zeros(60)
    v = units - np.outer(c, direction) if mean else units
    exact = np.zeros((60, 60))
    for i in (0, 1):
        for j in range(i, 5):
            exact += Polynomial.coefficients[j] * comb(j, i) * np.outer(c, c) ** (j - i) * (v @ v.T) ** i
    known = [degree(c, v) for degree in features._degrees if degree.sketch is None]
    assert [degree.power for degree in features._degrees][:2] == [0, 1]
    # Directions of the scalar factors below 1e-3 of the largest are left out: 1e-6 of the squares.
    found = sum(part @ part.T for part in known) / features.profile_.radius**4
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5)
    assert relative_error(features(x), Polynomial()(x)) < 0.1


def test_the_diagonal_of_a_sketch_is_exact_and_zero_stays_zero():
    x = np.concatenate([MANY, np.zeros((1, 3))])
    for count in (7, 40, 300):
        features = ComposedSketch(SHALLOW, count=count).fit(x)
        assert features.transform(x).shape == (61, count)
        np.testing.assert_allclose(features.diag(x), SHALLOW.diag(x), rtol=1e-12)
        assert features.transform(x)[-1].tolist() == [0.0] * count


def test_more_features_approximate_better_at_the_rate_of_random_features():
    """Degrees above 1 by sketches: error² ~ 1/count; mean over 8 seeds."""
    x = np.random.default_rng(1).normal(size=(80, 12))
    gram = Polynomial()(x)

    def error(count, seed):
        return relative_error(ComposedSketch(Polynomial(), count, 5, random_state=seed).fit(x)(x), gram)

    errors = [np.mean([error(count, seed) for seed in range(8)]) for count in (60, 240, 960)]
    # A rate of 1/√count halves the error at four times the features.
    assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2]
    assert errors[2] < 0.04


def test_inputs_of_one_norm_allow_any_dense_network():
    kernel = NNGP(Serial(Dense(1, b_std=0.5), Erf(), Dense(1, b_std=0.1)))
    features = ComposedSketch(kernel, count=300).fit(UNIT)
    assert features.profile_.power is None
    assert relative_error(features(UNIT), kernel(UNIT)) < 0.02
    with pytest.raises(
        ValueError, match="needs inputs of the norm 1 of those it was fitted on, got 2 in row 0"
    ):
        features.transform(2 * UNIT)
    with pytest.raises(ValueError, match=r"homogeneous kernel or inputs of one norm, got norms from"):
        ComposedSketch(kernel).fit(X)


def test_a_kernel_of_more_than_the_angle_is_refused():
    scaled = NTK(Serial(Scale([1.0, 2.0, 3.0]), Dense(1), Relu(), Dense(1)))
    with pytest.raises(ValueError, match="needs a kernel of the angle between the inputs"):
        ComposedSketch(scaled).fit(UNIT)


def test_inputs_of_one_feature_have_two_angles():
    x = np.array([[1.0], [-2.0], [3.0]])
    features = ComposedSketch(SHALLOW, count=5).fit(x)
    np.testing.assert_allclose(features(x), SHALLOW(x), rtol=0, atol=1e-12)


def test_shares_are_proportional_and_add_up():
    assert _shares(np.array([3.0, 1.0, 1.0]), 7).tolist() in ([4, 2, 1], [4, 1, 2])
    for count in range(12):
        assert _shares(np.array([0.7, 0.2, 0.1]), count).sum() == count
    assert _shares(np.array([]), 3).sum() == 0


def test_a_feature_map_is_a_kernel_of_numpy_and_jax_arrays():
    features = Nystrom(LAPLACE, 5).fit(X)
    gram = features(X, OTHER)
    np.testing.assert_allclose(gram, features.transform(X) @ features.transform(OTHER).T, rtol=0, atol=1e-14)
    single = features(jnp.asarray(X, jnp.float32), jnp.asarray(OTHER, jnp.float32))
    assert isinstance(single, jax.Array) and single.dtype == jnp.float32
    np.testing.assert_allclose(single, gram, rtol=0, atol=1e-5)
    np.testing.assert_allclose((features + LAPLACE).diag(X), features.diag(X) + 1.0, rtol=1e-14)
    with pytest.raises(ValueError, match="concrete arrays, got values traced by JAX"):
        jax.jit(features)(jnp.asarray(X, jnp.float32))
    with pytest.raises(NotFittedError):
        Nystrom(LAPLACE)(X)
    assert features == features and features != clone(features)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (Nystrom(LAPLACE, 0), "count of at least 1, got 0"),
        (Nystrom(LAPLACE, 3, "best"), "landmarks as one of 'uniform'.*got 'best'"),
        (ComposedSketch(SHALLOW, 0), "count and a degree of at least 1, got 0 and 16"),
        (ComposedSketch(SHALLOW, 9, 0), "count and a degree of at least 1, got 9 and 0"),
    ],
)
def test_settings_out_of_range_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        features.fit(X)
    with pytest.raises(ValueError, match="not all zero"):
        ComposedSketch(SHALLOW).fit(np.zeros((3, 2)))


@pytest.mark.slow
def test_digits_are_approximated_better_than_asked_for():
    """1,024 features of the depth-3 NTK on 1,797 digits: 0.11 by Nyström and 0.29 by a sketch were the aim."""
    raw = load_digits().data
    standardised = (raw - raw.mean(axis=0)) / (raw.std(axis=0) + 1e-9)
    for x, nystrom, sketch in ((raw / 16.0, 0.005, 0.02), (standardised, 0.015, 0.08)):
        gram = DEEP(x)
        assert relative_error(Nystrom(DEEP, 1024).fit(x)(x), gram) < nystrom
        assert relative_error(ComposedSketch(DEEP, 1024).fit(x)(x), gram) < sketch


ELSEWHERE = {
    "check_array_api_input": "needs SCIPY_ARRAY_API=1 in the environment before SciPy is imported",
    "check_do_not_raise_errors_in_init_or_set_params": "needs constructors whose types are not checked; see below",
}


def _run(estimator, check):
    name = check.func.__name__
    if name in ELSEWHERE:
        pytest.skip(ELSEWHERE[name])
    check(estimator)


@parametrize_with_checks([Nystrom(LAPLACE, 5), ComposedSketch(Polynomial(), 5)])
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    _run(estimator, check)


@pytest.mark.slow
@parametrize_with_checks([Nystrom(DEEP, 5, "leverage"), ComposedSketch(SHALLOW, 200)])
def test_scikit_learn_finds_nothing_wrong_with_other_settings(estimator, check):
    _run(estimator, check)


@pytest.mark.slow
def test_constructors_accept_anything_and_check_nothing():
    """In a process of its own, since the tests' import hook checks the types of every call."""
    program = (
        "from sklearn.utils.estimator_checks import check_do_not_raise_errors_in_init_or_set_params as check\n"
        "from ntkit.kernels import RBF\n"
        "from ntkit.rkhs import ComposedSketch, Nystrom\n"
        "for estimator in Nystrom(RBF()), ComposedSketch(RBF()):\n"
        "    check(type(estimator).__name__, estimator)\n"
        "print('checked')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stdout == "checked\n", result.stderr
