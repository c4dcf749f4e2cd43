"""Order and chaos: fixed points and the edge against independent mathematics, limits against deep networks."""

import importlib

import mpmath
import numpy as np
import pytest
import scipy.integrate
from tests.table import CLOSED, EXPANDED, named

from ntkit import NNGP, NTK, nn
from ntkit.errors import KernelUndefinedError
from ntkit.theory import critical_line, critical_w_std, limiting_condition_number, phase, phase_diagram
from ntkit.theory.mean_field import MeanField

SOME = (nn.Gelu(), nn.Cos(0.9, 1.1, 0.2), nn.Exp(0.8, 0.4), nn.HardTanh(), nn.Selu())


def gaussian_mean(function, variance):
    """`E[f(√q z)]` by scipy's adaptive quadrature, relative accuracy 1e-12."""
    root = np.sqrt(variance)
    return scipy.integrate.quad(
        lambda z: function(root * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -12, 12, epsabs=0, epsrel=1e-12,
        limit=200, points=[-1.0, 0.0, 1.0],
    )[0]  # fmt: skip


@pytest.mark.parametrize("variance", [0.05, 0.5, 1.0, 3.0])
def test_the_critical_line_of_tanh_is_the_published_one(variance):
    # The line in terms of q*: σ_w² = 1 / E[φ'²], σ_b² = q* - σ_w² E[φ²] (Schoenholz et al. 2017, section 3).
    w = gaussian_mean(lambda u: np.cosh(u) ** -4, variance) ** -0.5
    b = (variance - w**2 * gaussian_mean(lambda u: np.tanh(u) ** 2, variance)) ** 0.5
    assert critical_w_std(nn.Tanh(), b) == pytest.approx(w, rel=1e-10)
    found = phase(nn.Tanh(), w, b)
    assert found.label == "critical"
    assert found.variance == pytest.approx(variance, rel=1e-9)
    assert found.correlation_depth == found.trainable_depth == found.gradient_depth == np.inf


def test_two_published_points_of_the_edge_of_tanh():
    assert critical_w_std(nn.Tanh()) == pytest.approx(1.0, abs=1e-12)
    # "σ_b² = 0.05 and σ_w² = 1.76" (Schoenholz et al. 2017, figure 5; Pennington et al. 2018)
    assert critical_w_std(nn.Tanh(), 0.05**0.5) ** 2 == pytest.approx(1.76, abs=0.005)


@pytest.mark.parametrize(("w_std", "b_std"), [(2.0, 0.3), (0.7, 0.5), (1.1, 0.0), (5.0, 0.1)])
def test_erf_has_its_closed_form_fixed_points(w_std, b_std):
    # C(q, q, c q) = (2/π) arcsin(2 c q / (1 + 2 q)), its derivative (4/π) / sqrt((1 + 2 q)² - 4 c² q²).
    with mpmath.workdps(30):
        w, b, pi = mpmath.mpf(w_std), mpmath.mpf(b_std), mpmath.pi

        def dual(q, c):
            return w**2 * 2 / pi * mpmath.asin(2 * c * q / (1 + 2 * q)) + b**2

        def derivative(q, c):
            return w**2 * 4 / pi / mpmath.sqrt((1 + 2 * q) ** 2 - 4 * (c * q) ** 2)

        found = phase(nn.Erf(), w_std, b_std)
        q = mpmath.findroot(lambda q: dual(q, 1) - q, mpmath.mpf(found.variance), tol=1e-25)
        assert found.variance == pytest.approx(float(q), rel=1e-12)
        assert found.slope == pytest.approx(float(derivative(q, 1)), rel=1e-12)
        assert found.variance_slope == pytest.approx(float(mpmath.diff(lambda q: dual(q, 1), q)), rel=1e-10)
        if found.slope < 1:
            assert found.correlation == 1.0 and found.label == "ordered"
            assert found.correlation_slope == found.slope
            c = mpmath.mpf(1)
        elif b_std == 0:
            assert found.correlation == 0.0 and found.label == "chaotic"
            c = mpmath.mpf(0)
        else:
            c = mpmath.findroot(lambda c: dual(q, c) / q - c, mpmath.mpf(found.correlation), tol=1e-25)
            assert found.correlation == pytest.approx(float(c), rel=1e-11)
            assert 0 < found.correlation < 0.999
        assert found.correlation_slope == pytest.approx(float(derivative(q, c)), rel=1e-10)
        assert found.correlation_depth == pytest.approx(float(-1 / mpmath.log(derivative(q, c))), rel=1e-9)


def test_tanh_near_the_edge_has_a_correlation_near_one():
    edge = critical_w_std(nn.Tanh(), 0.3)
    found = phase(nn.Tanh(), edge * 1.001, 0.3)
    assert found.label == "chaotic" and 0.99 < found.correlation < 1.0
    assert phase(nn.Tanh(), edge * 0.999, 0.3).label == "ordered"
    assert found.correlation_depth > 100
    assert found.trainable_depth == 6 * found.correlation_depth


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "w_std", "b_std"), [(nn.Erf(), 2.0, 0.4), (nn.Tanh(), 2.0, 0.4)], ids=["Erf", "Tanh"]
)
def test_deep_networks_arrive_at_the_fixed_point(activation, w_std, b_std):
    found = phase(activation, w_std, b_std)
    depth = int(40 * max(found.correlation_depth, found.variance_depth, 1.0))
    layers = [layer for _ in range(depth) for layer in (nn.Dense(1, w_std, b_std), activation)]
    gram = NNGP(nn.Serial(*layers, nn.Dense(1, w_std, b_std)))(np.array([[1.0, 0.0], [0.3, 1.5]]))
    np.testing.assert_allclose(np.diag(gram), found.variance, rtol=1e-8)
    assert gram[0, 1] / found.variance == pytest.approx(found.correlation, abs=1e-6)


def test_relu_is_critical_at_one_point_where_every_variance_is_kept():
    assert critical_w_std(nn.Relu()) == pytest.approx(2**0.5, rel=1e-14)
    kept = phase(nn.Relu(), 2**0.5, initial_variance=3.7)
    assert (kept.outcome, kept.variance, kept.label) == ("kept", 3.7, "critical")
    assert phase(nn.Relu(), 1.0, 0.5).variance == pytest.approx(0.5, rel=1e-12)  # b² / (1 - w²/2)
    assert phase(nn.Relu(), 1.4).outcome == "collapsed"
    diverged = phase(nn.Relu(), 1.5)
    assert (diverged.outcome, diverged.label, diverged.variance) == ("diverged", "divergent", np.inf)
    assert (
        diverged.slope
        is diverged.correlation
        is diverged.correlation_depth
        is diverged.variance_depth
        is None
    )
    assert diverged.trainable_depth is diverged.gradient_depth is None
    with pytest.raises(ValueError, match="variance has no limit from about w_std = 1.4.* at b_std = 0.3"):
        critical_w_std(nn.Relu(), 0.3)
    np.testing.assert_allclose(critical_line(nn.Relu(), [0.0, 0.3]), [[2**0.5, 0.0]])


def test_without_biases_small_weights_let_signals_die_out():
    found = phase(nn.Tanh(), 0.9)
    assert (found.outcome, found.variance, found.correlation) == ("collapsed", 0.0, None)
    assert found.slope == pytest.approx(0.81, rel=1e-12)
    assert found.variance_depth == found.gradient_depth == pytest.approx(-1 / np.log(0.81))


def test_several_fixed_points_are_told_apart_by_the_first_variance():
    # GELU without biases at w = 1.6: variances below an unstable fixed point die out, others grow for ever.
    assert phase(nn.Gelu(), 1.6, initial_variance=0.01).outcome == "collapsed"
    assert phase(nn.Gelu(), 1.6, initial_variance=100.0).outcome == "diverged"


def test_a_tiny_bias_keeps_a_tiny_variance():
    # Far below 1 tanh is linear: q* = b² / (1 - w²), even below the table of variances.
    found = phase(nn.Tanh(), 0.5, 1e-9)
    assert found.outcome == "converged"
    assert found.variance == pytest.approx(1e-18 / 0.75, rel=1e-9)


@pytest.mark.parametrize("activation", SOME, ids=named(SOME))
def test_the_slope_of_the_variance_map_is_its_derivative(activation):
    # Central differences of step 1e-4 are off by 1e-8 relative; an expansion's kink splitting by 1e-7.
    field, q, step = MeanField.of(activation), 0.8, 1e-4
    numerical = (field.second_moment(q + step) - field.second_moment(q - step)) / (2 * step)
    assert field.slopes(q)[0] == pytest.approx(numerical, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("activation", SOME[:-1], ids=named(SOME[:-1]))
def test_every_outcome_has_a_name_and_no_nan(activation):
    for w_std, b_std in ((0.0, 0.0), (0.3, 0.0), (1.0, 0.7), (30.0, 0.1)):
        found = phase(activation, w_std, b_std)
        numbers = [value for value in vars(found).values() if isinstance(value, float)]
        assert not np.isnan(numbers).any()
        assert (found.slope is None) == (found.outcome == "diverged") == (found.variance == np.inf)
        assert found.ntk_at_depth
        if found.outcome == "converged":
            again = w_std**2 * MeanField.of(activation).second_moment(found.variance) + b_std**2
            assert again == pytest.approx(found.variance, rel=1e-11)
            assert found.variance_slope <= 1.0 + 1e-9
            assert found.correlation_slope <= 1.0 + 1e-8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ntkit.errors.AccuracyWarning")  # of c*, at variances in the hundreds
@pytest.mark.parametrize("activation", CLOSED + EXPANDED, ids=named(CLOSED + EXPANDED))
def test_so_it_is_for_every_activation(activation):
    test_the_slope_of_the_variance_map_is_its_derivative(activation)
    test_every_outcome_has_a_name_and_no_nan(activation)


def test_a_diagram_is_made_of_phases():
    w_stds, b_stds = np.array([0.5, 1.1, 1.9]), np.array([0.0, 0.2])
    diagram = phase_diagram(nn.Erf(), w_stds, b_stds)
    for i, b in enumerate(b_stds):
        for j, w in enumerate(w_stds):
            found = phase(nn.Erf(), w, b)
            assert diagram.labels[i, j] == found.label
            assert diagram.variances[i, j] == found.variance
            assert diagram.slopes[i, j] == found.slope
            assert diagram.correlation_depths[i, j] == found.correlation_depth
    np.testing.assert_allclose(
        diagram.critical, [[critical_w_std(nn.Erf(), b), b] for b in b_stds], rtol=1e-13
    )
    assert not diagram.interrupted


def test_a_diagram_names_what_diverges():
    diagram = phase_diagram(nn.Relu(), np.array([1.0, 2.0]), np.array([0.0, 0.5]))
    assert diagram.labels.tolist() == [["ordered", "divergent"], ["ordered", "divergent"]]
    assert diagram.slopes[0, 1] == np.inf and diagram.correlation_depths[0, 1] == 0.0
    np.testing.assert_allclose(diagram.critical, [[2**0.5, 0.0]])


def test_an_interrupt_keeps_the_finished_rows(monkeypatch):
    def tracked(items, total, description):
        yield items[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("ntkit.theory.phase_diagram"), "tracked", tracked)
    part = phase_diagram(nn.Erf(), np.array([0.5, 1.9]), np.array([0.1, 0.2]))
    assert part.interrupted
    assert part.labels.shape == (1, 2) and part.b_stds.tolist() == [0.1] and len(part.critical) == 1


def erf_layer(c, q):
    """`E[φφ]` and `E[φ'φ']` of erf at variance q and correlation c."""
    return 2 / np.pi * np.arcsin(2 * c * q / (1 + 2 * q)), 4 / np.pi / np.sqrt(
        (1 + 2 * q) ** 2 - 4 * (c * q) ** 2
    )


def relu_layer(c, q):
    """The same of the rectifier."""
    angle = np.arccos(c)
    return q * (np.sin(angle) + (np.pi - angle) * c) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


@pytest.mark.parametrize(
    ("activation", "layer", "b_std"),
    [(nn.Erf(), erf_layer, 0.4), (nn.Relu(), relu_layer, 0.0)],
    ids=["Erf", "Relu"],
)
def test_the_condition_number_of_a_deep_tangent_kernel_at_the_edge_tends_to_its_limit(
    activation, layer, b_std
):
    # Σ and Θ of inputs that start uncorrelated, by their scalar recursions at the fixed variance: Θ' = Σ' + σ_w² Θ C'.
    # What is left after l layers is of order log(l) / l; the other kind of activation's limit is 13 % away.
    w_std, points = critical_w_std(activation, b_std), 6
    q, c, diagonal, outside = phase(activation, w_std, b_std).variance, 0.0, 0.0, 0.0
    for _ in range(20_000):
        product, slope = layer(c, q)
        c = (w_std**2 * product + b_std**2) / q
        diagonal, outside = q + diagonal, c * q + w_std**2 * slope * outside
    found = (diagonal + (points - 1) * outside) / (diagonal - outside)
    assert limiting_condition_number(activation, w_std, b_std, points) == pytest.approx(found, rel=0.005)


@pytest.mark.slow
def test_the_tangent_kernel_of_512_layers_is_conditioned_so():
    points, layers = 6, [layer for _ in range(512) for layer in (nn.Dense(1, 2**0.5), nn.Relu())]
    gram = NTK(nn.Serial(*layers, nn.Dense(1, 2**0.5)))(points**0.5 * np.eye(points))
    assert np.linalg.cond(gram) == pytest.approx(3.0, rel=0.08)


def test_condition_numbers_off_the_edge():
    assert limiting_condition_number(nn.Tanh(), 0.9, 0.3, 5) == np.inf
    assert limiting_condition_number(nn.Tanh(), 3.0, 0.3, 5) == 1.0
    with pytest.raises(ValueError, match="got one that diverged"):
        limiting_condition_number(nn.Relu(), 2.0, 0.3, 5)
    with pytest.raises(ValueError, match="keep all correlations"):
        limiting_condition_number(nn.Identity(), 1.0, 0.0, 5)
    with pytest.raises(ValueError, match="at least 2 points"):
        limiting_condition_number(nn.Tanh(), 1.0, 0.0, 1)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="phase needs a finite w_std of at least 0, got -1"):
        phase(nn.Tanh(), -1.0)
    with pytest.raises(ValueError, match="finite b_std of at least 0, got nan"):
        critical_w_std(nn.Tanh(), float("nan"))
    with pytest.raises(ValueError, match="positive, finite initial_variance, got 0"):
        phase(nn.Tanh(), 1.0, initial_variance=0)
    with pytest.raises(ValueError, match="at least one value in b_stds"):
        phase_diagram(nn.Tanh(), np.array([1.0]), np.array([]))
    with pytest.raises(KernelUndefinedError, match="Step"):
        phase(nn.Step(), 1.0)
    with pytest.raises(ValueError, match="Polynomial at b_std = 0, which stays on one side"):
        critical_w_std(nn.Polynomial((1.0, 0.0)))
