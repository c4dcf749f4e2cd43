"""A model of images predicts what its kernels say, from kernels that were kept, before and after it was saved."""

from dataclasses import replace

import numpy as np
import pytest

from ntkit.errors import ImageError, ModelFileError
from ntkit.images import ImageEncoder, ImageSet
from ntkit.kernels import NNGP, NTK
from ntkit.kernels.row_kernel import RowKernel
from ntkit.model import ImageModel, load_model, save_model
from ntkit.model import network_kernels as module
from ntkit.model.archive import DESCRIPTION_FILE
from ntkit.model.network_kernels import NetworkKernels
from ntkit.nn import Conv, Dense, Flatten, Relu, Serial

RNG = np.random.default_rng(0)
IMAGES = ImageSet(RNG.integers(0, 256, (6, 2, 3, 1)).astype(np.uint8), np.array(["a", "b"] * 3), (), "here")
NEW = ImageSet(RNG.integers(0, 256, (3, 2, 3, 1)).astype(np.uint8), None, (), "there")
DENSE = Serial(Flatten(), Dense(8, 1.4, 0.1), Relu(), Dense(2))
CONVOLUTION = Serial(Conv(8, (3, 3), w_std=1.4), Relu(), Flatten(), Dense(2))


def model_of(network=DENSE, kernel="nngp", kept=True):
    encoder = ImageEncoder.fit(IMAGES, ("a", "b"), resize=(2, 3))
    x, y = encoder.points(IMAGES), encoder.targets(IMAGES)
    return ImageModel(
        encoder=encoder,
        network=network,
        kernel=kernel,
        noise=0.1,
        score_noise=0.2,
        x=x,
        y=y,
        stopping_time=3.0,
        times=np.array([1.0, 10.0, np.inf]),
        time_noises=np.array([0.4, 0.2, 0.1]),
        nngp_gram=NNGP(network)(x) if kept else None,
        ntk_gram=NTK(network)(x) if kept else None,
    )


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_kept_kernels_give_the_numbers_of_kernels_on_demand(kernel):
    model = model_of(kernel=kernel)
    points = model.encoder.points(NEW)
    direct = NetworkKernels.on_demand(model.network, model.x, points)
    posterior = model.from_posterior(direct.posterior(kernel, 0.1, model.y), points)
    flow = model.from_flow(direct.flow(model.y), points, 3.0)
    for found, expected in (
        (model.predict(NEW), posterior),
        (model.predict(NEW, distribution="stopped"), flow),
    ):
        assert found.distribution == expected.distribution
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-11)
        np.testing.assert_allclose(found.std, expected.std, rtol=1e-11)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-9)


def test_predictions_evaluate_kernels_with_new_images_only(monkeypatch):
    model, calls = model_of(), []
    real = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda kernels, *x: calls.append(len(x)) or real(kernels, *x))
    kept = model.predict(NEW)
    assert calls == [2]
    afresh = replace(model, nngp_gram=None, ntk_gram=None).predict(NEW)
    assert calls == [2, 1, 2]
    np.testing.assert_allclose(kept.mean, afresh.mean, rtol=1e-12)


@pytest.mark.parametrize("kept", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_loaded_model_predicts_the_same_numbers(tmp_path, kept):
    model = model_of(DENSE if kept else CONVOLUTION, kept=kept)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path)
    assert isinstance(loaded, ImageModel)
    assert loaded.network == model.network
    assert (loaded.encoder.target, loaded.encoder.shape) == (model.encoder.target, model.encoder.shape)
    assert loaded.encoder.resize == (2, 3)
    for options in ({}, {"distribution": "converged"}, {"time": 0.5}):
        ours, theirs = model.predict(NEW, **options), loaded.predict(NEW, **options)
        np.testing.assert_array_equal(ours.mean, theirs.mean)
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


def test_what_a_prediction_cannot_be_asked_is_refused(tmp_path):
    with pytest.raises(ImageError, match="at least 0, got -1"):
        model_of().predict(NEW, time=-1.0)
    with pytest.raises(ImageError, match="2 x 3 pixels and 1 channel, got 3 x 2"):
        model_of().predict(ImageSet(NEW.pixels.transpose(0, 2, 1, 3), None, (), "there"))
    save_model(model_of(), tmp_path)
    text = (tmp_path / DESCRIPTION_FILE).read_text()
    (tmp_path / DESCRIPTION_FILE).write_text(text.replace('"resize"', '"size"'))
    with pytest.raises(ModelFileError, match="changed"):
        load_model(tmp_path)


def test_a_stored_kernel_knows_pairs_with_training_points():
    gram = RNG.normal(size=(5, 3))
    own = np.arange(5.0) + 1.0
    kernel, rows = RowKernel(gram, "kept", own), np.arange(5.0)[:, None]
    np.testing.assert_array_equal(kernel(rows[3:], rows[:2]), gram[3:, :2])
    np.testing.assert_array_equal(kernel(rows[:2], rows[3:]), gram[3:, :2].T)
    np.testing.assert_array_equal(kernel.diag(rows[3:]), own[3:])
    with pytest.raises(ValueError, match="kept is stored between all points and the first 3"):
        kernel(rows[3:])


def test_a_readout_with_wider_weights_scales_both_kernels():
    stored = NetworkKernels.stored(DENSE, model_of().x, model_of().encoder.points(NEW))
    wider = Serial(*DENSE.layers[:-1], Dense(2, 3.0))
    expected = NetworkKernels.stored(wider, model_of().x, model_of().encoder.points(NEW))
    found = stored.scaled(9.0)
    for ours, theirs in ((found.nngp, expected.nngp), (found.ntk, expected.ntk)):
        np.testing.assert_allclose(ours.gram, theirs.gram, rtol=1e-12)
        np.testing.assert_allclose(ours.own, theirs.own, rtol=1e-12)
