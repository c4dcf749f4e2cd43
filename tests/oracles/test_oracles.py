"""The references themselves: closed forms against quadrature that knows only φ, and against known values."""

import mpmath
import numpy as np
import pytest
from tests.oracles import duals, networks, piecewise, quadrature, strategies
from tests.oracles.arithmetic import exact, mp
from tests.oracles.table import ROWS

PAIRS = [(0.3, 1.0, 2.0), (1 - 1e-8, 2.0, 1.9), (-0.7, 0.5, 1.5)]
HARD_PAIRS = [
    (1.0, 4.0, 4.0),
    (-1.0, 1.0, 1.0),
    (0.5, 1e-4, 3.0),
    (-1 + 1e-10, 1e-6, 1e-6),
    (0.9, 50.0, 40.0),
]
QUICK = [row for row in ROWS if row.oracle.digits > duals.NUMERICAL_DIGITS]
LABELS = [row.label for row in QUICK]


def as_pair(correlation, var1, var2):
    return exact(correlation) * mp.sqrt(exact(var1) * exact(var2)), exact(var1), exact(var2)


def discrepancy(row, pair, which):
    formula, function = {
        "dual": (row.oracle.dual, row.oracle.function),
        "derivative": (row.oracle.dual_derivative, row.oracle.slope),
    }[which]
    # The quadrature itself is good for 1e-17; SciPy's erf and ndtr, where φ needs them, for 1e-15.
    numeric = quadrature.checked_expectation(
        lambda x: function(x) + 0 * x, *pair, row.oracle.kinks, 0.7, tolerance=1e-14
    )
    _, var1, var2 = pair
    return abs(formula(*pair) - numeric) / (
        mp.sqrt(formula(var1, var1, var1) * formula(var2, var2, var2)) or 1
    )


@pytest.mark.parametrize(
    "row",
    [
        # The slow test of all pairs below sees every row.
        pytest.param(row, marks=() if row.label.endswith("()") and not row.slow else pytest.mark.slow)
        for row in QUICK
    ],
    ids=LABELS,
)
def test_a_closed_form_is_the_expectation_it_claims_to_be(row):
    pair = as_pair(*PAIRS[1])
    assert discrepancy(row, pair, "dual") < 2e-15
    if row.has_ntk:
        assert discrepancy(row, pair, "derivative") < 2e-15


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS + HARD_PAIRS)
@pytest.mark.parametrize("row", QUICK, ids=LABELS)
def test_a_closed_form_is_the_expectation_it_claims_to_be_everywhere(row, pair):
    if row.growth * max(pair[1:]) > 4:
        pytest.skip("exp(x) moves the mass out of the range of the quadrature")
    assert discrepancy(row, as_pair(*pair), "dual") < 2e-15
    if row.has_ntk:
        assert discrepancy(row, as_pair(*pair), "derivative") < 2e-15


@pytest.mark.parametrize(
    "row", [row for row in QUICK if row.has_ntk and row.oracle.digits == 50], ids=lambda row: row.label
)
def test_the_second_dual_is_the_derivative_of_the_first(row):
    cov, var1, var2 = as_pair(0.3, 1.0, 2.0)
    step = mp.mpf(10) ** -25
    slope = (row.oracle.dual(cov + step, var1, var2) - row.oracle.dual(cov - step, var1, var2)) / (2 * step)
    assert abs(slope - row.oracle.dual_derivative(cov, var1, var2)) < 1e-45 * max(1, abs(slope))


@pytest.mark.parametrize("correlation", [0.3, -0.9999, 1.0])
def test_piecewise_integration_reproduces_the_arc_cosine_kernel_to_25_digits(correlation):
    pair = as_pair(correlation, 1.5, 0.7)
    assert abs(piecewise.dual(piecewise.linear(0, 1), *pair) - duals.relu().dual(*pair)) < mp.mpf(10) ** -25
    assert (
        abs(piecewise.dual(piecewise.constants(0, 1), *pair) - duals.step().dual(*pair)) < mp.mpf(10) ** -25
    )


@pytest.mark.parametrize(
    "name", ["Selu", *(pytest.param(name, marks=pytest.mark.slow) for name in ("Elu", "HardTanh"))]
)
def test_piecewise_integration_has_converged_to_25_digits(name):
    row = next(row for row in ROWS if row.name == name)
    pair = as_pair(0.999, 2.0, 1.5)
    for formula in (row.oracle.covariance, row.oracle.derivative):
        coarse, fine = formula(*pair, order=20), formula(*pair, order=28)
        assert abs(coarse - fine) < mp.mpf(10) ** -25


def test_rectified_moments_are_the_known_arc_cosine_kernels_of_degree_two():
    cov, var1, var2 = as_pair(0.3, 1.0, 2.0)
    theta = mp.acos(exact(0.3))
    # Cho and Saul (2009), equation 6: J_2.
    j2 = 3 * mp.sin(theta) * mp.cos(theta) + (mp.pi - theta) * (1 + 2 * mp.cos(theta) ** 2)
    known = var1 * var2 * j2 / (2 * mp.pi)
    assert abs(duals.rectified_monomial(2).dual(cov, var1, var2) - known) < mp.mpf(10) ** -50


@pytest.mark.parametrize("name", ["tanh", "softplus"])
def test_numerical_duals_agree_with_adaptive_multiple_precision_quadrature(name):
    function, pair = {
        "tanh": (mpmath.tanh, as_pair(0.3, 0.5, 0.8)),
        "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), as_pair(0.9, 1.0, 0.5)),
    }[name]
    with mpmath.workdps(22):
        cov, var1, var2 = (mpmath.mpf(str(value)) for value in pair)
        slope, residual = cov / var1, mpmath.sqrt(var2 - cov**2 / var1)
        step = mpmath.mpf(1) / 8
        nodes = [step * i for i in range(-80, 81)]
        # The trapezoidal rule is exponentially accurate for analytic decaying integrands.
        weights = [step * mpmath.npdf(z) for z in nodes]
        total = mpmath.fsum(
            p
            * function(mpmath.sqrt(var1) * z)
            * mpmath.fsum(
                r * function(slope * mpmath.sqrt(var1) * z + residual * w)
                for w, r in zip(nodes, weights, strict=True)
            )
            for z, p in zip(nodes, weights, strict=True)
        )
        assert abs(mpmath.mpf(str(getattr(duals, name)().dual(*pair))) - total) < 1e-16


def test_orthonormal_hermite_polynomials_have_powers_of_the_correlation_as_duals():
    cov, var1, var2 = as_pair(0.3, 1.0, 1.0)
    for degree in range(6):
        assert abs(duals.hermite(degree).dual(cov, var1, var2) - cov**degree) < mp.mpf(10) ** -80


def test_a_relu_network_scaled_to_preserve_variance_keeps_its_diagonal_for_fifty_layers():
    layers = [networks.Dense(8, 1.0), *[duals.relu(), networks.Dense(8, 2.0)] * 50]
    x = [0.5, -1.25, 2.0]
    state = networks.pair(layers, x, x)
    power = exact(2) ** 50
    assert abs(state.nngp - power * networks.inner_product(x, x, [1.0] * 3)) < mp.mpf(10) ** -40
    # With Σ' = 2 Σ and Ċ = 1/2, Θ' = Σ' + 2 Θ: fifty-one equal contributions.
    assert abs(state.ntk - 51 * state.nngp) < mp.mpf(10) ** -40


def test_one_and_two_layer_kernels_are_those_worked_out_by_hand():
    a, b = [1.0, 0.0], [1.0, 1.0]
    state = networks.pair([networks.Dense(4, 1.5, 0.5), duals.relu(), networks.Dense(1, 2.0, 0.25)], a, b)
    q1, q2, k = 1.5**2 / 2 + 0.25, 1.5**2 + 0.25, 1.5**2 / 2 + 0.25
    theta = mp.acos(mp.mpf(k) / mp.sqrt(mp.mpf(q1) * q2))
    dual = mp.sqrt(mp.mpf(q1) * q2) * (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
    nngp = 4 * dual + 0.0625
    assert abs(state.nngp - nngp) < mp.mpf(10) ** -50
    assert abs(state.ntk - (nngp + 4 * k * (mp.pi - theta) / (2 * mp.pi))) < mp.mpf(10) ** -50


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_the_standard_parametrisation_is_the_expected_sum_of_squared_gradients(bias):
    # One hidden layer, h = W x + b, f = V φ(h) + c, W ~ N(0, w²/d), V ~ N(0, w²/n):
    # Σ ∂f∂f' = n E[φφ'] + [c] + n · (w²/n) E[φ'φ'] (x·x' + [b]).
    x, y, w, n = [0.5, -1.0, 2.0], [1.5, 0.25, 1.0], 1.25, 512
    layers = [networks.Dense(n, w, bias, "standard"), duals.erf(), networks.Dense(1, w, bias, "standard")]
    pair = [w * w * networks.inner_product(a, b, [1.0] * 3) + bias**2 for a, b in ((x, y), (x, x), (y, y))]
    gradients_v = n * duals.erf().dual(*pair) + (bias > 0)
    dot = 3 * networks.inner_product(x, y, [1.0] * 3) + (bias > 0)
    gradients_w = exact(w) ** 2 * duals.erf().dual_derivative(*pair) * dot
    assert abs(networks.pair(layers, x, y).ntk - gradients_v - gradients_w) < mp.mpf(10) ** -50


def test_the_standard_parametrisation_matches_a_sampled_finite_network():
    random = np.random.default_rng(0)
    x, y, w, n, draws = np.array([0.5, -1.0]), np.array([1.5, 0.25]), 1.5, 256, 400
    values = np.empty(draws)
    for i in range(draws):
        first = random.normal(size=(n, 2)) * w / np.sqrt(2)
        bias = random.normal(size=n) * 0.5
        second = random.normal(size=n) * w / np.sqrt(n)
        hx, hy = first @ x + bias, first @ y + bias
        hidden = np.maximum(hx, 0) @ np.maximum(hy, 0) + 1
        values[i] = hidden + (second**2 * (hx > 0) * (hy > 0)).sum() * (x @ y + 1)
    layers = [networks.Dense(n, w, 0.5, "standard"), duals.relu(), networks.Dense(1, w, 0.5, "standard")]
    error = abs(values.mean() - float(networks.pair(layers, x, y).ntk))
    assert error < 4 * values.std() / np.sqrt(draws)  # four standard errors of the mean


def test_every_band_of_angles_holds_what_its_name_says():
    for band, (low, high) in strategies.BANDS.items():
        for pair in strategies.sample_covariances(band, 5, seed=1):
            root = mp.sqrt(exact(pair.var1) * exact(pair.var2))
            theta = float(mp.acos(max(min(pair.cov / root, mp.one), -mp.one)))
            expected = np.pi - theta if band.startswith("pi") or band == "opposite" else theta
            assert low * (1 - 1e-6) <= expected <= high * (1 + 1e-6) + 1e-40
