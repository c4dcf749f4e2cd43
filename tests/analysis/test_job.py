"""The main job: what it returns agrees with itself, with the library's parts, and with plain training."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.model_selection import KFold

from ntkit.analysis import Settings, fit_table
from ntkit.analysis.prepare import prepare
from ntkit.analysis.stopping import choose_stopping, training_times
from ntkit.errors import TableError
from ntkit.kernels import NNGP, NTK
from ntkit.model.table_model import training_flow
from ntkit.nn import Dense, Relu, Serial


def test_the_test_rows_were_held_out_and_scored(regression_analysis, regression_table):
    analysis = regression_analysis
    assert (analysis.data.train_rows, analysis.data.test_rows) == (45, 15)
    np.testing.assert_array_equal(analysis.test_truth, regression_table["y"][analysis.test_rows])
    np.testing.assert_allclose(analysis.test_targets[:, 0], analysis.test_truth, rtol=1e-13)
    posterior = analysis.predictions["posterior"]
    row = next(row for row in analysis.scores if row.name == "NNGP posterior")
    error = posterior.mean[:, 0] - analysis.test_truth.to_numpy()
    assert row.scores.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)


def test_scores_are_sorted_and_contain_every_method(regression_analysis, classification_analysis):
    errors = [row.scores.rmse for row in regression_analysis.scores]
    assert errors == sorted(errors)
    names = {row.name for row in regression_analysis.scores}
    assert {"NNGP posterior", "trained ensemble, t = ∞", "ridge regression", "random forest"} < names
    accuracies = [row.scores.accuracy for row in classification_analysis.scores]
    assert accuracies == sorted(accuracies, reverse=True)
    # Where the NTK was chosen, the NNGP posterior is scored too.
    assert {"NNGP posterior", "NTK posterior"} < {row.name for row in classification_analysis.scores}


def test_predictions_are_those_of_the_model(regression_analysis, regression_table):
    analysis = regression_analysis
    rows = regression_table[analysis.test_rows]
    for name, expected in analysis.predictions.items():
        found = analysis.model.predict(rows, distribution=name)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-11)
        np.testing.assert_allclose(found.std, expected.std, rtol=1e-9)


def test_class_predictions_are_probabilities(classification_analysis):
    frame = classification_analysis.predictions_frame()
    assert frame.columns[:6] == [
        *("row", "target_species", "prediction"),
        *("probability_of_large", "probability_of_middle", "probability_of_small"),
    ]
    np.testing.assert_allclose(
        frame.select(pl.col("^probability.*$")).to_numpy().sum(axis=1), 1.0, atol=1e-12
    )


def test_finite_networks_follow_the_prediction(regression_analysis):
    learning = regression_analysis.learning
    finite = learning.finite
    assert finite.train_loss.shape == (len(finite.times), 2)
    assert finite.train_loss[-1].mean() < 0.6 * finite.train_loss[0].mean()
    # Width 32 scatters about the limit by 1/sqrt(32) and more at the start; a wrong time axis or loss is off by far.
    flow = training_flow(
        regression_analysis.model.network, regression_analysis.model.x, regression_analysis.model.y
    )
    ratio = finite.train_loss[-1].mean() / flow.loss(float(finite.times[-1]))
    assert 0.5 < ratio < 2.0
    assert 0.3 < finite.deviation < 3.0


def test_losses_and_projections_are_consistent(regression_analysis):
    learning, spectrum = regression_analysis.learning, regression_analysis.spectrum
    assert (np.diff(learning.train_loss) <= 1e-12).all()
    assert (learning.test_loss >= learning.mean_test_loss).all()
    assert spectrum.projections.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(
        spectrum.timescales[: spectrum.rank] * spectrum.ntk[: spectrum.rank], 1.0, rtol=1e-10
    )


def test_cross_validation_agrees_with_leaving_folds_out_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 1))
    network = Serial(Dense(16, 1.4, 0.3), Relu(), Dense(1))
    times = training_times(training_flow(network, x, y))
    found = choose_stopping(NTK(network), NNGP(network), x, y, times, class_frequencies=None, folds=3, seed=0)
    losses = []
    for train, held_out in KFold(3, shuffle=True, random_state=0).split(x):
        # A fold of 20 of 30 rows keeps the rate of all 30: its own mean-loss clock runs at 20/30.
        state = training_flow(network, x[train], y[train]).at(float(times[10]) * 20.0 / 30.0)
        losses.append(0.5 * (state.mean(x[held_out]) - y[held_out]) ** 2)
    assert found.losses[10] == pytest.approx(np.mean(losses), rel=1e-9)
    # Targets without structure: training to the end cannot be best.
    assert found.losses[found.best] == found.losses.min() < found.losses[-1]


def test_a_test_table_is_used_as_it_is(regression_table, quick_settings):
    data = prepare(regression_table[:40], "y", regression_table[40:], quick_settings)
    assert (data.summary.train_rows, data.summary.test_rows) == (40, 20)
    with pytest.raises(TableError, match="test table needs the target 'y'"):
        prepare(regression_table, "y", regression_table.drop("y"), quick_settings)
    with pytest.raises(TableError, match="does not know: 'z'"):
        prepare(regression_table, "y", regression_table.with_columns(z=1), quick_settings)


def test_unseen_categories_of_a_test_table_follow_the_setting(regression_table, quick_settings):
    new = regression_table[40:].with_columns(colour=pl.lit("violet"))
    with pytest.raises(TableError, match="'violet'"):
        prepare(regression_table[:40], "y", new, quick_settings)
    data = prepare(regression_table[:40], "y", new, replace(quick_settings, unseen="ignore"))
    np.testing.assert_array_equal(data.x_test[:, 2:], 0.0)


def test_large_tables_are_refused_or_subsampled(regression_table, quick_settings):
    small = replace(quick_settings, max_rows=20)
    with pytest.raises(TableError, match=r"max_rows=20 training rows, got 45.*--subsample"):
        prepare(regression_table, "y", None, small)
    data = prepare(regression_table, "y", None, replace(small, subsample=True))
    assert data.x.shape[0] == 20
    assert any("random subsample of 20 of 45" in note for note in data.summary.notes)


def test_what_was_dropped_or_filled_is_noted(regression_table, quick_settings):
    holes = regression_table.with_columns(a=pl.when(pl.int_range(60) < 5).then(None).otherwise(pl.col("a")))
    dropped = prepare(holes, "y", None, replace(quick_settings, missing="drop"))
    assert any("5 of 60 rows with missing values were dropped" in note for note in dropped.summary.notes)
    filled = prepare(holes, "y", None, replace(quick_settings, missing="impute"))
    assert any("5 missing inputs were filled" in note for note in filled.summary.notes)
    assert filled.x.shape[0] + filled.x_test.shape[0] == 60


def test_an_interrupted_selection_interrupts_the_job(regression_table, quick_settings, monkeypatch):
    from ntkit.analysis import job

    choose = job.choose_network
    monkeypatch.setattr(
        job, "choose_network", lambda data, settings: replace(choose(data, settings), ending="interrupted")
    )
    with pytest.raises(KeyboardInterrupt):
        fit_table(regression_table, "y", settings=quick_settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 1.0}, "level.*between 0 and 1"),
        ({"test_fraction": 0.0}, "--test-fraction.*between 0 and 1"),
        ({"folds": 1}, "folds.*at least 2"),
        ({"time_limit": 0.0}, "--time-limit.*above 0"),
        ({"networks": -1}, "networks.*at least 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(TableError, match=message):
        Settings(**options)
