"""A saved model predicts the same numbers; a damaged, foreign or older one is refused."""

import json

import numpy as np
import polars as pl
import pytest

from ntkit.errors import ModelFileError, TableError
from ntkit.model import TableModel, load_model, save_model
from ntkit.model.archive import ARRAYS_FILE, DESCRIPTION_FILE
from ntkit.nn import Dense, Relu, Serial
from ntkit.tables import TableEncoder, infer_schema


def table(rows=24):
    rng = np.random.default_rng(0)
    a, colour = rng.normal(size=rows), rng.choice(["red", "green"], size=rows)
    y = np.sin(a) + (colour == "red") + 0.1 * rng.normal(size=rows)
    return pl.DataFrame({"a": a, "colour": colour, "y": y, "kind": np.where(y > 0.5, "high", "low")})


def model_of(frame, target, kernel="nngp"):
    encoder = TableEncoder.fit(infer_schema(frame, target, ignore=["kind" if target == "y" else "y"]), frame)
    y = encoder.targets(frame)
    return TableModel(
        encoder=encoder,
        network=Serial(Dense(8, 1.4, 0.1), Relu(), Dense(y.shape[1])),
        kernel=kernel,
        noise=0.1,
        score_noise=0.2,
        x=encoder.points(frame),
        y=y,
        stopping_time=3.0,
        times=np.array([1.0, 10.0, np.inf]),
        time_noises=np.array([0.4, 0.2, 0.1]),
    )


@pytest.mark.parametrize("target", ["y", "kind"])
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_a_loaded_model_predicts_the_same_numbers(tmp_path, target, kernel):
    frame = table()
    model = model_of(frame, target, kernel)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path)
    assert loaded.encoder.schema == model.encoder.schema
    assert loaded.network == model.network
    for options in ({}, {"distribution": "stopped"}, {"distribution": "converged"}, {"time": 0.0}):
        ours, theirs = model.predict(frame, **options), loaded.predict(frame, **options)
        assert ours.distribution == theirs.distribution
        np.testing.assert_array_equal(ours.mean, theirs.mean)
        np.testing.assert_array_equal(ours.std, theirs.std)
        if target == "kind":
            np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


def test_predictions_are_in_the_units_of_the_table():
    frame = table()
    model = model_of(frame, "y")
    predictions = model.predict(frame)
    direct = model.posterior().mean(model.x)[:, 0] * frame["y"].to_numpy().std() + frame["y"].mean()
    np.testing.assert_allclose(predictions.mean[:, 0], direct, rtol=1e-12)
    lower, upper = predictions.interval
    np.testing.assert_allclose((upper - lower) / predictions.std, 2 * 1.959963984540054, rtol=1e-9)
    # a new observation scatters more than the function: by score_noise, in encoded units
    extra = predictions.std**2 - predictions.function_std**2
    np.testing.assert_allclose(extra, 0.2 * model.encoder.target_scale**2, rtol=1e-9)


def test_training_starts_at_the_prior_and_ends_at_the_targets():
    frame = table()
    model = model_of(frame, "y")
    start, end = model.predict(frame, time=0.0), model.predict(frame, time=float("inf"))
    np.testing.assert_allclose(start.mean[:, 0], frame["y"].mean(), rtol=1e-12)
    np.testing.assert_allclose(end.mean[:, 0], frame["y"], atol=1e-6)
    assert end.distribution == "trained ensemble, t = ∞"
    np.testing.assert_array_equal(end.mean, model.predict(frame, distribution="converged").mean)


def test_observation_noise_is_interpolated_in_log_time():
    model = model_of(table(), "y")
    noises = [model.observation_noise(t) for t in (0.0, 0.5, 1.0, 10.0**0.5, 10.0, 1e9, float("inf"))]
    np.testing.assert_allclose(noises, [0.4, 0.4, 0.4, 0.3, 0.1, 0.1, 0.1], rtol=1e-12)


def test_a_negative_time_is_refused():
    with pytest.raises(TableError, match="time of at least 0, got -1"):
        model_of(table(), "y").predict(table(), time=-1.0)


def test_an_infinite_stopping_time_survives(tmp_path):
    from dataclasses import replace

    save_model(replace(model_of(table(), "y"), stopping_time=float("inf")), tmp_path)
    assert load_model(tmp_path).stopping_time == float("inf")


@pytest.fixture
def saved(tmp_path):
    save_model(model_of(table(), "y"), tmp_path / "model")
    return tmp_path / "model"


def change(folder, **entries):
    path = folder / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="needs the file 'model.json', which is not in"):
        load_model(tmp_path / "nowhere")


def test_a_missing_array_file_is_named(saved):
    (saved / ARRAYS_FILE).unlink()
    with pytest.raises(ModelFileError, match="needs the file 'arrays.npz'"):
        load_model(saved)


def test_a_flipped_bit_in_the_arrays_is_found(saved):
    content = bytearray((saved / ARRAYS_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / ARRAYS_FILE).write_bytes(bytes(content))
    with pytest.raises(ModelFileError, match="damaged: 'arrays.npz' does not match its checksum"):
        load_model(saved)


def test_a_cut_description_is_found(saved):
    path = saved / DESCRIPTION_FILE
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ModelFileError, match="damaged.*is not JSON"):
        load_model(saved)


def test_an_edited_description_is_found(saved):
    description = json.loads((saved / DESCRIPTION_FILE).read_text())["description"]
    change(saved, description=description | {"noise": 0.5})
    with pytest.raises(ModelFileError, match="description in 'model.json' was changed"):
        load_model(saved)


def test_another_version_and_another_format_are_named(saved):
    change(saved, version=99)
    with pytest.raises(ModelFileError, match="format version 99, this ntkit reads version 1"):
        load_model(saved)
    change(saved, format="something else")
    with pytest.raises(ModelFileError, match="not a saved model of ntkit"):
        load_model(saved)


def test_white_space_in_the_description_does_no_harm(saved):
    path = saved / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7, sort_keys=True))
    assert load_model(saved).noise == 0.1


def test_nothing_is_pickled(saved):
    with np.load(saved / ARRAYS_FILE, allow_pickle=False) as arrays:
        assert {arrays[name].dtype.kind for name in arrays.files} == {"f"}
