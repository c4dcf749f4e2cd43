"""Estimators on images: the network says what shape it takes, and pixels are standardised by channel."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from ntkit import NNGP, NTK, GaussianProcess, gradient_flow, zoo
from ntkit.dynamics.stopping import best_stopping_time
from ntkit.estimators import ImageScaler, NNGPRegressor, NTKClassifier, NTKRegressor
from ntkit.nn import Conv, Dense, Flatten, GlobalAvgPool, Relu, Serial

NETWORK = Serial(Conv(8, (3, 3), w_std=1.4), Relu(), GlobalAvgPool(), Dense(1))
IMAGES = np.random.default_rng(0).standard_normal((6, 3, 3, 2))
NEW = np.random.default_rng(1).standard_normal((6, 3, 3, 2))
Y = np.array([0.0, 1.0, 0.5, -1.0, 2.0, 0.3])


def test_a_regressor_on_images_is_the_gaussian_process_on_them():
    regressor = NNGPRegressor(NETWORK, noise=0.1, normalize_y=False).fit(IMAGES, Y)
    posterior = GaussianProcess(NNGP(NETWORK), 0.1).condition(IMAGES, Y[:, None])
    mean, std = regressor.predict(NEW, return_std=True)
    np.testing.assert_allclose(mean, posterior.mean(NEW)[:, 0], rtol=1e-12)
    np.testing.assert_allclose(std, posterior.std(NEW), rtol=1e-12)
    assert regressor.input_shape_ == (3, 3, 2)


@pytest.mark.slow
def test_the_stopping_time_is_cross_validated_on_images_too():
    regressor = NTKRegressor(NETWORK, time="best", normalize_y=False).fit(IMAGES, Y)
    found = best_stopping_time(NTK(NETWORK), IMAGES, Y[:, None], seed=_regressor_seed())
    assert regressor.time_ == found.time
    flow = gradient_flow(NTK(NETWORK), IMAGES, Y[:, None]).at(found.time)
    np.testing.assert_allclose(regressor.predict(NEW), flow.mean(NEW)[:, 0], rtol=1e-10)


def _regressor_seed():
    return int(np.random.RandomState(0).randint(2**31 - 1))


@pytest.mark.parametrize(
    ("network", "grey"),
    [(NETWORK, True), (Serial(Flatten(), Dense(1)), True), (Serial(Conv(8, (3,)), GlobalAvgPool()), False)],
    ids=["2-D convolution", "flatten", "1-D convolution over columns"],
)
def test_images_without_channels_get_one_where_the_network_needs_it(network, grey):
    images = IMAGES[..., 0]
    given = NNGPRegressor(network).fit(images, Y).predict(NEW[..., 0])
    explicit = NNGPRegressor(network).fit(*((images[..., None], Y) if grey else (images, Y)))
    expected = explicit.predict(NEW[..., :1] if grey else NEW[..., 0])
    np.testing.assert_allclose(given, expected, rtol=1e-12)  # the axes are summed in another order


def test_classes_of_uint8_images_in_a_pipeline():
    rng = np.random.default_rng(2)
    dark, light = rng.integers(0, 60, (6, 3, 3)), rng.integers(200, 256, (6, 3, 3))
    images = np.concatenate([dark, light]).astype(np.uint8)
    model = make_pipeline(ImageScaler(), NTKClassifier(zoo.mlp(1)))
    model.fit(images[::2], ["dark"] * 3 + ["light"] * 3)
    assert model.predict(images[1::2]).tolist() == ["dark"] * 3 + ["light"] * 3
    np.testing.assert_allclose(model.predict_proba(images).sum(axis=1), 1.0, atol=1e-9)


@pytest.mark.parametrize(
    ("estimator", "x", "message"),
    [
        (NTKRegressor(), IMAGES, r"needs a network for X of images.*X.reshape\(len\(X\), -1\)"),
        (NTKRegressor(select=True), IMAGES, r"select=True chooses among dense networks only"),
        (
            NTKRegressor(NETWORK),
            IMAGES[:, 0, 0],
            r"Conv needs inputs of 2 spatial axes.*for a table use dense",
        ),
        (
            NTKRegressor(Dense(1)),
            IMAGES,
            r"its outputs have shape \(6, 3, 3, 1\).*put ntkit.nn.Flatten\(\) before",
        ),
        (
            NTKRegressor(zoo.lenet()),
            IMAGES,
            r"NTKRegressor needs X and network to fit.*at least \(5, 5\) pixels",
        ),
    ],
    ids=["no network", "select", "convolution on a table", "dense on images", "too small"],
)
def test_inputs_that_do_not_fit_the_network_are_refused_with_the_remedy(estimator, x, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(x, Y)


@pytest.mark.parametrize("shape", [(2, 4, 3, 2), (2, 3, 4, 2), (2, 3, 3, 1), (2, 3, 3), (2, 18)])
def test_images_of_another_shape_at_prediction_are_refused(shape):
    with pytest.raises(ValueError, match=r"of shape \(3, 3, 2\), as at fit"):
        NNGPRegressor(NETWORK).fit(IMAGES, Y).predict(np.zeros(shape))


def test_channels_are_standardised_over_all_images_and_pixels():
    shifted = IMAGES * np.array([2.0, 30.0]) + np.array([5.0, -7.0])
    scaler = ImageScaler().fit(shifted)
    scaled = scaler.transform(shifted)
    np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2)), 0.0, atol=1e-14)
    np.testing.assert_allclose(scaled.std(axis=(0, 1, 2)), 1.0, rtol=1e-14)
    # one factor for a channel: differences between pixels keep their proportions
    step = (scaled[0, 0, 0] - scaled[3, 2, 1]) * scaler.scale_
    np.testing.assert_allclose(step, shifted[0, 0, 0] - shifted[3, 2, 1], rtol=1e-12)
    for one_channel in (IMAGES[..., 0], IMAGES[..., 0].reshape(6, -1)):
        scaler = ImageScaler().fit(one_channel)
        np.testing.assert_allclose(
            (scaler.mean_, scaler.scale_), ([IMAGES[..., 0].mean()], [IMAGES[..., 0].std()])
        )
    np.testing.assert_array_equal(ImageScaler().fit_transform(np.full((2, 3, 3), 7.0)), 0.0)


@parametrize_with_checks([ImageScaler()])
def test_scikit_learn_finds_nothing_wrong_with_the_scaler(estimator, check):
    if check.func.__name__ == "check_array_api_input":
        pytest.skip("needs SCIPY_ARRAY_API=1 in the environment before SciPy is imported")
    check(estimator)
