"""The main job on images, and on tables with a network that is named."""

from dataclasses import replace

import numpy as np
import pytest

from ntkit.analysis import Settings, fit_images, fit_table
from ntkit.analysis import kernel_time as module
from ntkit.analysis.given_network import scale_and_noise
from ntkit.analysis.kernel_time import kernel_time
from ntkit.analysis.prepare_images import prepare_images
from ntkit.errors import ImageError, TableError
from ntkit.images import ImageSet
from ntkit.inference.evidence import log_marginal_likelihood
from ntkit.kernels import NNGP, NTK, RBF
from ntkit.model import TableModel
from ntkit.report import render_report
from ntkit.zoo import mlp

QUICK = Settings(network="mlp1", networks=0, baselines=False, folds=2)


def pictures(count=40, seed=0):
    """Bars that stand or lie, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.array(["lies", "stands"])[rng.integers(2, size=count)]
    pixels = rng.integers(0, 90, (count, 4, 4, 1))
    for image, label, place in zip(pixels, labels, rng.integers(4, size=count), strict=True):
        image[(slice(None), place) if label == "stands" else (place, slice(None))] += 140
    names = tuple(f"{label}/{number}.png" for number, label in enumerate(labels))
    return ImageSet(pixels.astype(np.uint8), labels, names, "here")


@pytest.fixture(scope="module")
def analysis():
    return fit_images(pictures(), settings=QUICK)


def test_the_saved_network_has_the_kernels_that_were_used(analysis):
    model = analysis.model
    np.testing.assert_allclose(NNGP(model.network)(model.x), model.nngp_gram, rtol=1e-12)
    np.testing.assert_allclose(NTK(model.network)(model.x), model.ntk_gram, rtol=1e-12)
    assert (model.kernel, model.noise) == (analysis.selection.kernel, analysis.selection.noise)
    assert analysis.selection.points == len(model.x) == 30


def test_the_model_predicts_the_test_images_as_the_analysis_did(analysis):
    test = pictures().chosen(analysis.test_rows)
    for name in ("posterior", "converged"):
        again = analysis.model.predict(test, distribution=name)
        np.testing.assert_allclose(again.mean, analysis.predictions[name].mean, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(again.std, analysis.predictions[name].std, rtol=1e-7)
    frame = analysis.predictions_frame()
    assert frame["image"].to_list() == list(test.names)
    assert frame["target_label"].to_list() == test.labels.tolist()


def test_the_report_of_images_has_no_columns(analysis):
    html = render_report(analysis, "bars")
    assert "4 × 4 pixels, 1 channel" in html
    assert "Trained on 30 images, tested on 10 others" in html
    assert "The network is mlp1, as asked for" in html
    for absent in ("Input columns", "Networks tried", "test rows"):
        assert absent not in html


def test_images_twice_are_duplicates_in_the_certificate():
    once = pictures(20)
    twice = ImageSet(np.concatenate([once.pixels] * 2), np.concatenate([once.labels] * 2), (), "here")
    found = fit_images(twice, pictures(10, 1), settings=QUICK)
    groups = found.outlook.spectral.certificate.singular_points
    assert {group.reason for group in groups} == {"duplicates"}
    assert {group.points for group in groups} == {(number, number + 20) for number in range(20)}


@pytest.mark.slow
def test_convolutions_are_fitted_too():
    found = fit_images(pictures(), settings=replace(QUICK, network="vgg_like1", kernel="ntk"))
    assert found.model.kernel == "ntk"
    assert [name for name, _ in found.selection.values] == ["ntk"]
    assert found.scores[0].scores.accuracy >= 0.8
    assert found.outlook.depth.reason == "it is not a plain sequence of dense layers and activations"


def test_a_limit_draws_training_and_test_images_class_by_class():
    data = prepare_images(pictures(80), pictures(40, 1), QUICK, limit=20)
    assert (len(data.x), len(data.x_test), data.summary.rows) == (20, 20, 120)
    np.testing.assert_array_equal(data.x, data.encoder.points(pictures(80).chosen(data.rows)))
    assert data.test_truth.to_list() == pictures(40, 1).chosen(data.test_rows).labels.tolist()
    share = (pictures(80).labels == "stands").mean()
    assert abs(data.codes.mean() - share) <= 1.0 / 20
    assert data.summary.notes == (
        "Trained on 20 of 80 images, drawn at random class by class.",
        "Tested on 20 of 40 images, drawn at random class by class.",
    )


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (QUICK, {"limit": 9}, "limit .--limit. of at least 10, got 9"),
        (replace(QUICK, max_rows=20), {}, "at most max_rows=20 training images, got 30.*--limit"),
        (
            replace(QUICK, network="lenet"),
            {},
            "network lenet .--network. cannot be used on inputs of shape .4, 4, 1.",
        ),
        (replace(QUICK, network=None), {}, "name of a network .--network., got none"),
    ],
)
def test_settings_that_do_not_fit_the_images_are_refused(settings, options, message):
    with pytest.raises(ImageError, match=message):
        fit_images(pictures(), settings=settings, **options)


def test_an_unknown_network_is_refused_at_once():
    with pytest.raises(ValueError, match="got 'alexnet'"):
        Settings(network="alexnet")


@pytest.mark.slow
def test_a_table_takes_a_named_dense_network(regression_table):
    found = fit_table(regression_table, "y", settings=QUICK)
    assert isinstance(found.model, TableModel)
    assert found.model.network.layers[:-1] == mlp(1).layers[:-1]
    truth = regression_table[found.test_rows]
    np.testing.assert_allclose(
        found.model.predict(truth).mean, found.predictions["posterior"].mean, rtol=1e-8
    )
    assert found.model.noise == found.selection.noise
    assert "The network is mlp1, as asked for" in render_report(found, "table")
    with pytest.raises(TableError, match="network vgg_like1.*Tables take mlp and residual_mlp"):
        fit_table(regression_table, "y", settings=replace(QUICK, network="vgg_like1"))


def test_scale_and_noise_make_the_targets_most_probable():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(25, 2))
    gram = RBF()(x)
    y = 3.0 * np.linalg.cholesky(gram + 0.05 * np.eye(25)) @ rng.normal(size=(25, 2))
    scale, noise, value = scale_and_noise(gram, y)
    assert value == pytest.approx(log_marginal_likelihood(scale * gram, noise, y).value, rel=1e-10)
    for factor in (0.95, 1.05):
        # the noise is searched for to a hundredth of its logarithm
        assert log_marginal_likelihood(factor * scale * gram, noise, y).value < value
        assert log_marginal_likelihood(scale * gram, factor * noise, y).value < value


def test_the_time_of_the_kernels_is_said_beforehand(monkeypatch):
    x = np.random.default_rng(0).normal(size=(20, 2, 2, 1))
    assert "kernels between 20 training inputs, and 5 others with them (reference engine" in kernel_time(
        mlp(1), x, 5
    )

    class Plan:
        seconds = 30.0

    monkeypatch.setattr(module, "FEW_TILES", 0)
    monkeypatch.setattr(module.NTK, "plan", lambda self, points: Plan)
    # the square counts once, although a triangle of it is computed, and the rest therefore twice
    assert ": about 45 s (" in kernel_time(mlp(1), x, 5)
    Plan.seconds = 600.0
    assert ": about 15 min (" in kernel_time(mlp(1), x, 5)
