"""The regressors against the functions they wrap, on real data, and inside scikit-learn's tools."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ntkit.dynamics import gradient_flow
from ntkit.estimators import NNGPRegressor, NTKRegressor
from ntkit.inference import GaussianProcess
from ntkit.kernels import NNGP, NTK
from ntkit.nn import Dense, Relu, Scale, Serial

NETWORK = Serial(Dense(8, 1.4, 0.3), Relu(), Dense(1, 1.0, 0.1))


def _small(points=30, outputs=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points, 3))
    y = (
        5.0
        + 3.0 * np.stack([np.sin(x[:, i % 3]) for i in range(outputs)], axis=1)
        + 0.3 * rng.normal(size=(points, 1))
    )
    return x, y


@pytest.fixture(scope="module")
def diabetes():
    """A fixed split; standardised inputs."""
    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    scaler = StandardScaler().fit(x_train)
    return scaler.transform(x_train), scaler.transform(x_test), y_train, y_test


def _rmse(estimator, x, y):
    return float(np.sqrt(np.mean((estimator.predict(x) - y) ** 2)))


def test_the_trained_ensemble_is_that_of_gradient_flow_in_the_targets_units():
    x, y = _small()
    standardised = (y - y.mean()) / y.std()
    trained = gradient_flow(NTK(NETWORK), x, standardised, prior=NNGP(NETWORK), learning_rate=0.5).at(3.0)
    mean, std = NTKRegressor(NETWORK, time=3.0, learning_rate=0.5).fit(x, y[:, 0]).predict(x, return_std=True)
    np.testing.assert_allclose(mean, trained.mean(x)[:, 0] * y.std() + y.mean(), rtol=1e-12)
    np.testing.assert_allclose(std, trained.std(x) * y.std(), rtol=1e-12)


def test_the_posterior_is_that_of_the_gaussian_process_in_the_targets_units():
    x, y = _small()
    posterior = GaussianProcess(NNGP(NETWORK), 0.2).condition(x, (y - y.mean()) / y.std())
    regressor = NNGPRegressor(NETWORK, noise=0.2).fit(x, y[:, 0])
    mean, std = regressor.predict(x, return_std=True)
    np.testing.assert_allclose(mean, posterior.mean(x)[:, 0] * y.std() + y.mean(), rtol=1e-12)
    np.testing.assert_allclose(std, posterior.std(x) * y.std(), rtol=1e-12)
    assert regressor.noise_ == pytest.approx(0.2 * y.var(), rel=1e-12)


@pytest.mark.parametrize("estimator", [NTKRegressor(NETWORK, time=2.0), NNGPRegressor(NETWORK)])
def test_outputs_are_learnt_independently_and_keep_their_shape(estimator):
    x, y = _small(outputs=2)
    mean, std = clone(estimator).fit(x, y).predict(x, return_std=True)
    assert mean.shape == std.shape == y.shape
    for output in range(2):
        alone, alone_std = clone(estimator).fit(x, y[:, output]).predict(x, return_std=True)
        assert alone.shape == alone_std.shape == (len(x),)
        np.testing.assert_allclose(mean[:, output], alone, rtol=1e-10)
        np.testing.assert_allclose(std[:, output], alone_std, rtol=1e-10)


def test_without_normalisation_the_targets_are_used_as_given():
    x, y = _small()
    posterior = GaussianProcess(NNGP(NETWORK), 0.2).condition(x, y)
    mean = NNGPRegressor(NETWORK, noise=0.2, normalize_y=False).fit(x, y).predict(x)
    np.testing.assert_allclose(mean, posterior.mean(x), rtol=1e-12)


@pytest.mark.parametrize("estimator", [NTKRegressor(NETWORK), NNGPRegressor(NETWORK)])
def test_constant_targets_are_predicted(estimator):
    x, _ = _small()
    y = np.full(len(x), 0.1)  # the mean of 0.1s is not exactly 0.1
    np.testing.assert_allclose(estimator.fit(x, y).predict(x + 1.0), 0.1, rtol=1e-14)


def test_training_to_convergence_interpolates_with_certainty():
    x, y = _small()
    mean, std = NTKRegressor(depth=1).fit(x, y[:, 0]).predict(x, return_std=True)
    # Condition number of a few thousand: errors of 1e4 eps relative to the targets' scale of 5.
    np.testing.assert_allclose(mean, y[:, 0], atol=1e-9)
    # A variance near 0 is a difference of numbers near 1, so its root is good to sqrt(1e4 eps) = 1e-6.
    assert std.max() < 1e-5


def test_the_default_network_has_unit_prior_variance():
    x = np.random.default_rng(0).normal(size=(20, 4))
    network = NNGPRegressor(depth=3, b_std=0.0).fit(x, x[:, 0]).network_
    np.testing.assert_allclose(NNGP(network).diag(x), np.mean(x**2, axis=1), rtol=1e-12)


def test_the_best_time_is_chosen_by_cross_validation():
    x, y = _small()
    regressor = NTKRegressor(NETWORK, time="best").fit(x, y)
    assert regressor.time_ == regressor.stopping_.time
    assert regressor.stopping_.losses.min() < regressor.stopping_.losses[-1]
    fixed = NTKRegressor(NETWORK, time=4.0).fit(x, y)
    assert (fixed.time_, fixed.stopping_) == (4.0, None)


@pytest.mark.parametrize("estimator", [NNGPRegressor(depth=1, noise=0.5), NTKRegressor(depth=1, time="best")])
def test_diabetes_is_predicted_better_than_by_the_mean(diabetes, estimator):
    x, x_test, y, y_test = diabetes
    baseline = _rmse(DummyRegressor().fit(x, y), x_test, y_test)
    # Published errors on this table are about 0.75 of the mean's.
    assert _rmse(estimator.fit(x, y), x_test, y_test) < 0.85 * baseline


@pytest.mark.slow
def test_selection_chooses_the_network_and_the_noise():
    x, y = _small(points=40)
    regressor = NNGPRegressor(depth=(0, 1), select=True, ard=True, time_limit=np.inf).fit(x, y[:, 0])
    selection = regressor.selection_
    assert regressor.network_ == selection.network
    assert isinstance(regressor.network_.layers[0], Scale)
    assert {trial.candidate.depth for trial in selection.history} == {0, 1}
    assert regressor.noise_ == pytest.approx(selection.noise * y.var(), rel=1e-12)
    # Noise of standard deviation 0.3 was added; its estimate from 40 points errs by a third at most.
    assert 0.5 < regressor.noise_ / 0.09 < 2.0


def test_pipelines_grids_and_cross_validation_take_the_estimators(diabetes):
    x, _, y, _ = diabetes
    x, y = x[:120], y[:120]
    pipeline = make_pipeline(StandardScaler(), NTKRegressor(depth=1))
    grid = GridSearchCV(pipeline, {"ntkregressor__time": [1e-4, np.inf]}, cv=2).fit(x, y)
    assert grid.best_params_["ntkregressor__time"] in (1e-4, np.inf)
    assert cross_val_score(NNGPRegressor(depth=1), x, y, cv=2).shape == (2,)


def test_frames_give_their_names_and_are_held_to_them():
    x, y = _small()
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    regressor = NNGPRegressor(NETWORK).fit(frame, pd.Series(y[:, 0]))
    assert list(regressor.feature_names_in_) == ["a", "b", "c"]
    plain = NNGPRegressor(NETWORK).fit(x, y[:, 0])
    # A frame's memory order differs, and with it the rounding of products.
    np.testing.assert_allclose(regressor.predict(frame), plain.predict(x), rtol=1e-12)
    with pytest.raises(ValueError, match="feature names should match"):
        regressor.predict(frame.rename(columns={"a": "z"}))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (NTKRegressor(time="later"), "time as a number of at least 0 or \"best\", got 'later'"),
        (NTKRegressor(time=-1.0), "got -1.0"),
        (NTKRegressor(depth=(1, 2)), r"one depth and one activation, got \(1, 2\).*select=True"),
        (NNGPRegressor(NETWORK, select=True), "either a network or select=True, got both"),
        (NNGPRegressor(activation="rellu"), "got 'rellu'"),
    ],
)
def test_bad_settings_are_named_at_fit(estimator, message):
    x, y = _small()
    with pytest.raises(ValueError, match=message):
        estimator.fit(x, y)
