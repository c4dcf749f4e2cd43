"""`ntkit dynamics`: the numbers of the library, in the words of the loss that was asked for."""

import json

import numpy as np
import optax
import polars as pl
import pytest

from ntkit.analysis import Settings
from ntkit.analysis.prepare import prepare
from ntkit.dynamics import best_stopping_time, gradient_flow
from ntkit.kernels import NTK
from ntkit.nn import Dense, Erf, Relu, Serial

RELU = Serial(Dense(512), Relu(), Dense(1))


def load(folder):
    return pl.read_csv(folder / "dynamics.csv"), json.loads((folder / "ntkit.json").read_text())


@pytest.fixture(scope="session")
def squared(command, tables, tmp_path_factory):
    """The squared loss of the regression table, with a network and a rate of its own."""
    out = tmp_path_factory.mktemp("squared") / "out"
    output = command(
        *("dynamics", tables / "number.csv", "--target", "y", "--out", out, "--times", "9"),
        *(
            "--activation",
            "erf",
            "--depth",
            "2",
            "--w-std",
            "1.3",
            "--b-std",
            "0.2",
            "--learning-rate",
            "0.5",
        ),
    )
    return out, output


def test_the_squared_loss_is_that_of_gradient_flow(squared, tables):
    frame, _ = load(squared[0])
    data = prepare(pl.read_csv(tables / "number.csv"), "y", None, Settings())
    layer = (Dense(512, 1.3, 0.2), Erf())
    flow = gradient_flow(
        NTK(Serial(*layer, *layer, Dense(1, 1.3, 0.2))),
        data.x,
        data.y,
        learning_rate=0.5,
        reduction="mean_points",
    )
    times = frame["time"].to_numpy()
    assert len(times) == 10
    assert times[0] == 0.0
    # The same calls in the same order: only the text of the file lies between.
    np.testing.assert_allclose(frame["train_loss"], flow.loss(times), rtol=1e-12)
    np.testing.assert_allclose(
        frame["test_loss"], flow.test_loss(times, data.x_test, data.y_test), rtol=1e-12
    )
    np.testing.assert_allclose(frame["loss_rate"], flow.loss_rate(times), rtol=1e-12)
    # Standardised targets and outputs of zero: half of a mean square of one.
    assert frame["train_loss"][0] == pytest.approx(0.5, rel=1e-12)
    gram = NTK(flow.training.ntk.network)(data.x)
    smallest = np.linalg.eigvalsh(gram)[0]
    exponent = 2.0 * 0.5 * smallest / len(data.x) * times
    # The proved eigenvalue lies below the computed one by what entries may be off, 1e-12 of the trace, and less again.
    room = 2e-12 * np.trace(gram) / smallest
    assert (frame["certified_bound"] >= 0.5 * np.exp(-exponent) * (1.0 - 1e-12)).all()
    assert (frame["certified_bound"] <= 0.5 * np.exp(-exponent * (1.0 - room)) * (1.0 + 1e-9)).all()
    assert (frame["train_loss"] <= frame["certified_bound"] * (1 + 1e-12)).all()


def test_the_summary_is_that_of_the_library(squared, tables):
    out, output = squared
    summary = load(out)[1]["summary"]
    data = prepare(pl.read_csv(tables / "number.csv"), "y", None, Settings())
    layer = (Dense(512, 1.3, 0.2), Erf())
    ntk = NTK(Serial(*layer, *layer, Dense(1, 1.3, 0.2)))
    flow = gradient_flow(ntk, data.x, data.y, learning_rate=0.5, reduction="mean_points")
    stopping = best_stopping_time(
        ntk, data.x, data.y, folds="leave-one-out", learning_rate=0.5, reduction="mean_points"
    )
    assert summary["verdict"] == "positive definite"
    assert summary["rank"] == flow.rank == 45
    assert summary["stopping_time"] == pytest.approx(stopping.time, rel=1e-12)
    assert flow.loss(summary["half_time"]) == pytest.approx(0.25, rel=1e-9)
    # The certificate's bound of the largest eigenvalue lies above it, by rounding.
    assert summary["max_learning_rate"] == pytest.approx(flow.max_learning_rate, rel=1e-8)
    for text in ("45 rows, testing on 15", "positive definite", "45 of 45", "by leave-one-out", str(out)):
        assert text in output
    assert (out / "dynamics.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("table", "loss", "initial"),
    [
        pytest.param("three.csv", "cross-entropy", np.log(3.0), marks=pytest.mark.slow),
        ("two.csv", "logistic", np.log(2.0)),
    ],
)
def test_losses_of_classes_get_indicators(command, tables, tmp_path, table, loss, initial):
    out = tmp_path / "out"
    command(
        *("dynamics", tables / table, "--target", "species", "--loss", loss, "--out", out),
        *("--times", "2", "--last-time", "30", "--tolerance", "1e-5"),
    )
    frame, listed = load(out)
    assert frame.columns == ["time", "train_loss", "test_loss", "loss_rate"]
    assert frame["train_loss"][0] == pytest.approx(initial, rel=1e-12)
    data = prepare(pl.read_csv(tables / table), "species", None, Settings())
    species = pl.read_csv(tables / table)["species"].gather(data.rows).to_list()
    classes = sorted(set(species))
    targets = np.array([[float(name == other) for other in classes] for name in species])
    function = optax.softmax_cross_entropy
    if loss == "logistic":
        targets, function = targets[:, 1:], optax.sigmoid_binary_cross_entropy
    flow = gradient_flow(NTK(RELU), data.x, targets, reduction="mean_points", loss=function, tolerance=1e-5)
    # Both integrate to a relative error of 1e-5 a step, over a few dozen steps.
    times = frame["time"].to_numpy()
    np.testing.assert_allclose(frame["train_loss"], flow.loss(times), rtol=1e-3)
    held_out = pl.read_csv(tables / table)["species"].gather(data.test_rows).to_list()
    one_hot = np.array([[float(name == other) for other in classes] for name in held_out])
    test_targets = one_hot[:, 1:] if loss == "logistic" else one_hot
    np.testing.assert_allclose(
        frame["test_loss"], flow.test_loss(times, data.x_test, test_targets), rtol=1e-3
    )
    assert frame["train_loss"][2] < 0.9 * initial
    # Steps are stable up to 2 / (curvature times the largest eigenvalue): 1/2 for a softmax, 1/4 for one output.
    curvature = 0.5 if loss == "cross-entropy" else 0.25
    largest = np.linalg.eigvalsh(NTK(RELU)(data.x))[-1] / len(data.x)
    assert listed["summary"]["max_learning_rate"] == pytest.approx(2.0 / (curvature * largest), rel=1e-8)


def test_the_huber_loss_and_its_options_reach_the_flow(command, tables, tmp_path, monkeypatch):
    seen = {}

    def flow(ntk, x, y, **given):
        seen.update(given)
        raise ValueError("stop here")

    monkeypatch.setattr("ntkit.analysis.course.gradient_flow", flow)
    options = ["--loss", "huber", "--ridge", "0.25", "--friction", "2", "--reduction", "mean"]
    arguments = ["dynamics", tables / "number.csv", "--target", "y", "--out", tmp_path / "out", *options]
    assert "stop here" in command(*arguments, code=1)
    assert seen == {
        "loss": optax.huber_loss,
        "ridge": 0.25,
        "friction": 2.0,
        "reduction": "mean",
        "learning_rate": 1.0,
        "tolerance": 1e-6,
    }


def test_nothing_is_proved_of_a_loss_under_friction_or_ridge(command, tables, tmp_path):
    halves = []
    for name, options in (("friction", ["--friction", "0.5"]), ("ridge", ["--ridge", "0.1"])):
        command("dynamics", tables / "number.csv", "--target", "y", "--out", tmp_path / name, *options)
        frame, listed = load(tmp_path / name)
        assert "certified_bound" not in frame.columns
        assert not {"stopping_time", "proved_rate"} & set(listed["summary"])
        halves.append(listed["summary"]["half_time"])
        if name == "friction":  # the first listed time
            assert halves[0] == frame.filter(pl.col("train_loss") <= 0.25)["time"][0]
    assert halves[1] is None  # so strong a ridge keeps the loss above half


def test_rows_that_make_the_kernel_singular_are_named_by_their_place_in_the_table(command, tables, tmp_path):
    options = ["--test-fraction", "0.01", "--seed", "3"]
    output = command("dynamics", tables / "twice.csv", "--target", "y", "--out", tmp_path / "out", *options)
    # Row 60 repeats row 0; one other row is held out.
    assert "singular" in output
    assert "duplicates 0, 60 counted from 0" in output
    assert "59 of 60" in output
    assert "proved rate" not in output
