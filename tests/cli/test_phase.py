"""`ntkit phase`: the diagram, its edge, and one network in it."""

import importlib
import json

import numpy as np
import polars as pl
import pytest

from ntkit.nn import Erf
from ntkit.theory import critical_w_std, phase


def test_the_diagram_is_that_of_the_library(command, tmp_path):
    out = tmp_path / "out"
    output = command(
        *(
            "phase",
            "--activation",
            "erf",
            "--out",
            out,
            "--values",
            "3",
            "--max-w-std",
            "1.8",
            "--max-b-std",
            "0.4",
        ),
        *("--w-std", "1.1", "--b-std", "0.2"),
    )
    frame = pl.read_csv(out / "phase.csv")
    np.testing.assert_allclose(frame["w_std"], np.tile([0.6, 1.2, 1.8], 3))
    np.testing.assert_allclose(frame["b_std"], np.repeat([0.0, 0.2, 0.4], 3))
    for row in frame.rows(named=True)[3:6]:
        expected = phase(Erf(), row["w_std"], row["b_std"])
        assert row["label"] == expected.label
        found = [row["variance"], row["chi_1"], row["correlation_depth"]]
        # Moments are tabulated by another program than a single point's, hence not to the last digit.
        np.testing.assert_allclose(
            found, [expected.variance, expected.slope, expected.correlation_depth], rtol=1e-7
        )
    edge = pl.read_csv(out / "critical.csv").rows()
    np.testing.assert_allclose(edge, [(critical_w_std(Erf(), b), b) for b in (0.0, 0.2, 0.4)], rtol=1e-9)
    summary = json.loads((out / "ntkit.json").read_text())["summary"]
    # erf'(0)² = 4/π.
    assert summary["critical_w_std"] == pytest.approx(np.sqrt(np.pi / 4.0), rel=1e-12)
    point = phase(Erf(), 1.1, 0.2)
    assert summary["label"] == point.label
    assert summary["trainable_depth"] == pytest.approx(point.trainable_depth, rel=1e-7)
    assert "critical w_std at b_std = 0 0.8862" in output
    assert "critical w_std at b_std = 0.2" in output


def test_an_activation_without_an_edge_says_so(command, tmp_path):
    command("phase", "--activation", "gelu", "--out", tmp_path / "out", "--values", "2", "--w-std", "3")
    summary = json.loads((tmp_path / "out" / "ntkit.json").read_text())["summary"]
    assert summary["critical_w_std"] is None
    assert (summary["label"], summary["variance"], summary["chi_1"]) == ("divergent", "inf", None)
    assert pl.read_csv(tmp_path / "out" / "critical.csv").height == 0


def test_an_interrupted_diagram_keeps_its_finished_rows(command, tmp_path, monkeypatch):
    def interrupted(items, total, description):
        yield next(iter(items))
        raise KeyboardInterrupt

    # The package has a function of the module's name.
    monkeypatch.setattr(importlib.import_module("ntkit.theory.phase_diagram"), "tracked", interrupted)
    output = command("phase", "--activation", "erf", "--out", tmp_path / "out", "--values", "3", code=130)
    assert "The 1 of 3 finished rows of the grid were kept." in output
    assert pl.read_csv(tmp_path / "out" / "phase.csv")["b_std"].to_list() == [0.0] * 3
