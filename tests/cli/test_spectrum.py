"""`ntkit spectrum` and `ntkit learning-curve`: the numbers of the library, of all rows of a table."""

import json

import numpy as np
import polars as pl
import pytest

from ntkit.kernels import NNGP, NTK
from ntkit.nn import Dense, Relu, Serial
from ntkit.tables.encode import encode_points

NETWORK = ["--w-std", "1.4", "--b-std", "0.3"]
RELU = Serial(Dense(512, 1.4, 0.3), Relu(), Dense(1, 1.4, 0.3))


@pytest.fixture(scope="module")
def problem(tables):
    """All rows, encoded by hand."""
    frame = pl.read_csv(tables / "number.csv")
    y = frame["y"].to_numpy()
    return encode_points(frame, ignore=["y"]), ((y - y.mean()) / y.std())[:, None]


def test_the_spectrum_is_that_of_the_gram_matrices(command, tables, tmp_path, problem):
    x, y = problem
    out = tmp_path / "out"
    output = command(
        *("spectrum", tables / "number.csv", "--target", "y", "--out", out, *NETWORK, "--ridge", "0.5"),
        *("--first", "2", "--last", "20"),
    )
    frame = pl.read_csv(out / "spectrum.csv")
    summary = json.loads((out / "ntkit.json").read_text())["summary"]
    eigenvalues, vectors = np.linalg.eigh(NTK(RELU)(x))
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    assert frame["number"].to_list() == list(range(1, 61))
    # Eigenvalues are found to rounding of the largest.
    np.testing.assert_allclose(frame["ntk_eigenvalue"] * 60, eigenvalues, atol=1e-12 * eigenvalues[0])
    covariance = np.linalg.eigvalsh(NNGP(RELU)(x))[::-1]
    np.testing.assert_allclose(frame["nngp_eigenvalue"] * 60, covariance, atol=1e-12 * covariance[0])
    np.testing.assert_allclose(frame["learning_time"] * frame["ntk_eigenvalue"], 1.0, rtol=1e-12)
    shares = (vectors.T @ y)[:, 0] ** 2 / (y**2).sum()
    # A gap of 1e-4 of the largest eigenvalue moves eigenvectors by 1e-12 of their length.
    np.testing.assert_allclose(frame["target_share"], shares, atol=1e-9)
    np.testing.assert_allclose(frame["cumulative_share"], np.cumsum(shares), atol=1e-9)
    slope = np.polyfit(np.log(np.arange(2, 21)), np.log(eigenvalues[1:20]), 1)[0]
    assert summary["decay_exponent"] == pytest.approx(slope, rel=1e-9)
    assert summary["effective_dimension"] == pytest.approx(
        np.sum(eigenvalues / (eigenvalues + 0.5)), rel=1e-9
    )
    centre = np.eye(60) - 1.0 / 60
    ntk, nngp = (centre @ kernel(RELU)(x) @ centre for kernel in (NTK, NNGP))
    cosine = np.sum(ntk * nngp) / np.linalg.norm(ntk) / np.linalg.norm(nngp)
    assert summary["kernel_alignment"] == pytest.approx(cosine, rel=1e-10)
    cosine = np.sum(ntk * (y @ y.T)) / np.linalg.norm(ntk) / np.sum(y**2)
    assert summary["target_alignment"] == pytest.approx(cosine, rel=1e-10)
    assert summary["verdict"] == "positive definite"
    assert "eigenvalues 2 to 20" in output
    assert sorted(path.suffix for path in out.iterdir()) == [".csv", ".json", ".svg", ".svg"]


def test_a_singular_spectrum_names_its_rows_and_learns_nothing_along_them(command, tables, tmp_path):
    output = command("spectrum", tables / "twice.csv", "--target", "y", "--out", tmp_path / "out")
    assert "duplicates 0, 60 counted from 0" in output
    assert pl.read_csv(tmp_path / "out" / "spectrum.csv")["learning_time"].to_list()[-1] == float("inf")


def test_the_learning_curve_is_that_of_subsets(command, tables, tmp_path, problem):
    from ntkit.theory import learning_curve_on, measured_learning_curve

    x, y = problem
    out = tmp_path / "out"
    command(
        *(
            "learning-curve",
            tables / "number.csv",
            "--target",
            "y",
            "--out",
            out,
            *NETWORK,
            "--kernel",
            "nngp",
        ),
        *("--samples", "20", "--samples", "5", "--ridge", "0.2", "--repeats", "6", "--seed", "3"),
    )
    frame = pl.read_csv(out / "learning-curve.csv")
    summary = json.loads((out / "ntkit.json").read_text())["summary"]
    assert frame["samples"].to_list() == [5, 20]
    predicted = learning_curve_on(NNGP(RELU), x, y, [5, 20], 0.2).held_out_error
    measured = measured_learning_curve(NNGP(RELU), x, y, [5, 20], ridge=0.2, repeats=6, seed=3)
    np.testing.assert_allclose(frame["predicted_error"], predicted, rtol=1e-9)
    np.testing.assert_allclose(frame["measured_error"], measured.mean, rtol=1e-9)
    np.testing.assert_allclose(frame["standard_error"], measured.standard_error, rtol=1e-7)
    worst = max(predicted / measured.mean - 1.0, key=abs)
    assert summary["largest_relative_deviation"] == pytest.approx(worst, rel=1e-7)


def test_a_learning_curve_of_classes_chooses_sizes_and_ridge_itself(command, tables, tmp_path):
    command(
        "learning-curve",
        tables / "three.csv",
        "--target",
        "species",
        "--out",
        tmp_path / "out",
        "--repeats",
        "3",
    )
    frame = pl.read_csv(tmp_path / "out" / "learning-curve.csv")
    assert frame["samples"][0] == 5
    assert frame["samples"].to_list()[-1] == 15
    summary = json.loads((tmp_path / "out" / "ntkit.json").read_text())["summary"]
    assert summary["ridge"] > 0.0


def test_an_interrupted_learning_curve_keeps_what_was_measured(command, tables, tmp_path, monkeypatch):
    def interrupted(items, total, description):
        for number, item in enumerate(items):
            if number == 4:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr("ntkit.theory.measured.tracked", interrupted)
    out = tmp_path / "out"
    output = command("learning-curve", tables / "number.csv", "--target", "y", "--out", out, code=130)
    assert "The 4 of 20 finished subsets were kept." in output
    assert json.loads((out / "ntkit.json").read_text())["summary"]["repeats"] == 4
    assert pl.read_csv(out / "learning-curve.csv").height == 7
