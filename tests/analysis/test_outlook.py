"""What the spectrum predicts of a table: sizes, ranges and layers that the analyses choose by themselves."""

from dataclasses import replace

import numpy as np
import pytest

from ntkit.analysis import compare_learning_curves, depth_limit, spectral_analysis
from ntkit.analysis import outlook as outlook_module
from ntkit.analysis.outlook import look_ahead
from ntkit.analysis.prediction_curve import default_samples
from ntkit.analysis.prepare import prepare, prepare_pool
from ntkit.analysis.spectral import fitted_decay, spectra
from ntkit.errors import TableError
from ntkit.kernels import RBF
from ntkit.model.network_kernels import NetworkKernels
from ntkit.nn import Dense, Erf, Relu, Scale, Serial, Step
from ntkit.theory import eigensystem, phase

POINTS = np.random.default_rng(0).normal(size=(40, 3))


def test_the_outlook_is_of_the_fitted_model(regression_analysis):
    analysis = regression_analysis
    outlook, model = analysis.outlook, analysis.model
    assert outlook.rows == len(model.x)
    assert outlook.spectral.ridge == outlook.curve.ridge == model.noise
    np.testing.assert_allclose(
        outlook.spectral.ntk, analysis.spectrum.ntk, atol=1e-12 * outlook.spectral.ntk[0]
    )
    assert outlook.depth.depth == 1
    assert analysis.seconds["predicting from the spectrum"] > 0.0


def test_the_outlook_of_a_large_table_is_of_a_part(
    regression_analysis, regression_table, monkeypatch, quick_settings
):
    def analysed(ntk, nngp, x, y, rows, *, inputs, ridge):
        np.testing.assert_array_equal(data.encoder.points(regression_table[rows]), x)
        return spectra(ntk, nngp, x, y, rows, inputs=inputs, ridge=ridge)

    monkeypatch.setattr(outlook_module, "MOST_ROWS", 20)
    monkeypatch.setattr(outlook_module, "spectra", analysed)
    data = prepare(regression_table, "y", None, quick_settings)
    model = regression_analysis.model
    kernels = NetworkKernels.on_demand(model.network, model.x, model.x[:0])
    found = look_ahead(model, kernels, data.rows, 0)
    assert found.rows == len(found.spectral.ntk) == 20
    assert found.curve.samples.max() == 5


def test_training_rows_know_their_place_in_the_table(regression_table, quick_settings):
    settings = replace(quick_settings, max_rows=20, subsample=True)
    data = prepare(regression_table, "y", None, settings)
    np.testing.assert_array_equal(data.encoder.points(regression_table[data.rows]), data.x)
    assert not set(data.rows) & set(data.test_rows)
    pool = prepare_pool(regression_table, "y", settings)
    np.testing.assert_array_equal(pool.encoder.targets(regression_table[pool.rows]), pool.y)
    assert pool.y.mean() == pytest.approx(0.0, abs=1e-14)
    with pytest.raises(TableError, match="at least 10 complete rows, got 9"):
        prepare_pool(regression_table[:9], "y", settings)


def test_subsets_are_small_beside_the_rows():
    assert default_samples(442).tolist() == [5, 8, 14, 23, 39, 66, 110]
    assert default_samples(10).tolist() == [2]
    with pytest.raises(TableError, match="of 1 to 39 rows.*got 0"):
        compare_learning_curves(RBF(), POINTS, POINTS[:, :1], ridge=0.1, repeats=2, seed=0, samples=[0, 5])


def test_deviations_are_relative_to_what_was_measured():
    found = compare_learning_curves(
        RBF(), POINTS, POINTS[:, :1], ridge=0.1, repeats=3, seed=0, samples=[9, 3]
    )
    assert found.samples.tolist() == [3, 9]
    np.testing.assert_allclose((1.0 + found.deviations) * found.measured, found.predicted)
    assert abs(found.deviations[found.worst]) == np.abs(found.deviations).max()


def test_the_decay_is_fitted_to_the_middle_where_there_is_one():
    system = eigensystem(RBF(0.5), POINTS)
    assert fitted_decay(system)[1] == (10, 20)
    assert fitted_decay(eigensystem(RBF(0.5), POINTS[:20]))[1] == (1, 10)
    linear = spectral_analysis(Dense(1), POINTS, POINTS[:, :1], np.arange(40), ridge=0.1)
    assert (linear.rank, linear.decay) == (3, None)
    assert np.isinf(linear.learning_times[3:]).all()
    assert linear.effective_dimension("nngp") == pytest.approx(linear.effective_dimension("ntk"), rel=1e-12)
    with pytest.raises(ValueError, match="1 <= first < last <= 3"):
        spectral_analysis(Dense(1), POINTS, POINTS[:, :1], np.arange(40), ridge=0.1, last=7)


def test_the_phase_is_that_of_the_repeated_layer_at_the_variance_of_the_data():
    first, hidden = Dense(8, 0.7, 0.5), Dense(8, 1.9, 0.1)
    network = Serial(Scale(np.array([1.0, 2.0, 3.0])), first, Erf(), hidden, Erf(), hidden, Erf(), Dense(1))
    found = depth_limit(network, POINTS)
    variance = 0.7**2 * np.mean((POINTS * np.array([1.0, 2.0, 3.0])) ** 2) + 0.5**2
    assert found.depth == 3
    assert found.phase == phase(Erf(), 1.9, 0.1, variance)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ((Dense(8), Erf(), Dense(8), Relu(), Dense(1)), "layers differ"),
        ((Dense(8), Erf(), Dense(8, 2.0), Erf(), Dense(8, 3.0), Erf(), Dense(1)), "layers differ"),
        ((Dense(1), Dense(1), Dense(1)), "not a plain sequence"),
        ((Dense(8, 0.0), Relu(), Dense(1)), "makes all signals zero"),
        ((Dense(8), Step(), Dense(1)), "jumps"),
        ((Dense(1),), "no hidden layer"),
    ],
)
def test_networks_without_a_repeated_layer_have_no_phase(layers, reason):
    found = depth_limit(Serial(*layers), POINTS)
    assert found.phase is None
    assert reason in found.reason
