"""The command line from outside: what it writes, what it says, how it ends."""

import json
import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ntkit.cli import app
from ntkit.kernels import NNGP, NTK
from ntkit.nn import Dense, Erf, Serial
from ntkit.tables.encode import encode_points

QUICK = [
    *("--depth", "1", "--activation", "relu", "--kernel", "nngp", "--starts", "1", "--folds", "3"),
    *("--no-baselines", "--networks", "1", "--width", "16", "--network-steps", "20"),
]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return re.sub(r"\s+", " ", result.output)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, regression_table, classification_table):
    """Both kinds of tables fitted, in a folder with the tables."""
    folder = tmp_path_factory.mktemp("fitted")
    regression_table.write_csv(folder / "regression.csv")
    classification_table.write_parquet(folder / "classification.parquet")
    for name, target in (("regression.csv", "y"), ("classification.parquet", "species")):
        run("fit", folder / name, "--target", target, "--out", folder / target, *QUICK)
    return folder


@pytest.mark.parametrize("target", ["y", "species"])
def test_fit_writes_model_predictions_and_report(fitted, target):
    out = fitted / target
    assert sorted(path.name for path in out.iterdir()) == ["model", "predictions.csv", "report.html"]
    assert sorted(path.name for path in (out / "model").iterdir()) == ["arrays.npz", "model.json"]
    assert pl.read_csv(out / "predictions.csv").height == 15
    assert not [path for path in fitted.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("target", "table"), [("y", "regression.csv"), ("species", "classification.parquet")]
)
def test_predict_gives_the_numbers_of_fit(fitted, tmp_path, target, table):
    run("predict", fitted / target, fitted / table, "--out", tmp_path / "p.parquet")
    at_fit = pl.read_csv(fitted / target / "predictions.csv")
    later = pl.read_parquet(tmp_path / "p.parquet")[at_fit["row"]]
    assert later.columns == at_fit.columns
    for name in at_fit.columns:
        if at_fit[name].dtype.is_float():
            # The same network, points and noise; blocks of another size may round the kernel differently.
            scale = at_fit[name].abs().max()
            np.testing.assert_allclose(later[name], at_fit[name], rtol=1e-9, atol=1e-9 * scale)
        else:
            assert later[name].to_list() == at_fit[name].to_list()


def test_predict_writes_to_the_standard_output_by_default(fitted, tmp_path):
    row = pl.DataFrame({"a": [0.5], "b": [0.5], "colour": ["red"]})
    row.write_csv(tmp_path / "new.csv")
    output = run("predict", fitted / "y", tmp_path / "new.csv")
    assert output.startswith("row,mean,std,lower,upper,function_std 0,")


def test_predict_knows_every_training_time(fitted, tmp_path):
    means = []
    for time in ("0", "1", "inf"):
        run(
            "predict",
            fitted / "y",
            fitted / "regression.csv",
            "--time",
            time,
            "--out",
            tmp_path / f"{time}.csv",
        )
        means.append(pl.read_csv(tmp_path / f"{time}.csv")["mean"].to_numpy())
    assert np.ptp(means[0]) < 1e-9 * abs(means[0][0])
    assert np.std(means[0]) < np.std(means[1]) < np.std(means[2])
    run(
        "predict",
        fitted / "y",
        fitted / "regression.csv",
        "--distribution",
        "converged",
        "--out",
        tmp_path / "c.csv",
    )
    np.testing.assert_allclose(pl.read_csv(tmp_path / "c.csv")["mean"], means[2], rtol=1e-12)
    message = run(
        "predict", fitted / "y", fitted / "regression.csv", "--distribution", "stopped", "--time", "1", code=1
    )
    assert "--distribution or --time, got both" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("b"), "lacks 1 column(s) that the model needs: 'b'"),
        (lambda t: t.rename({"colour": "color"}), "'color' looks like 'colour' renamed"),
        (lambda t: t.with_columns(extra=1), "does not know: 'extra'"),
        (lambda t: t.with_columns(colour=pl.lit("violet")), "'violet'; it knows 'blue', 'green', 'red'"),
        (lambda t: t.with_columns(a=pl.lit("text")), "'a' needs numbers, got values such as 'text'"),
        (lambda t: t.with_columns(a=pl.lit(None, pl.Float64)), "'a' (60 of 60)"),
    ],
)
def test_predict_explains_tables_that_do_not_fit(fitted, tmp_path, regression_table, change, message):
    change(regression_table).write_csv(tmp_path / "t.csv")
    assert message in run("predict", fitted / "y", tmp_path / "t.csv", "--out", tmp_path / "p.csv", code=1)
    assert not (tmp_path / "p.csv").exists()


def test_predict_does_what_its_remedies_say(fitted, tmp_path, regression_table):
    odd = regression_table.with_columns(
        colour=pl.lit("violet"), extra=1, a=pl.when(pl.int_range(60) == 7).then(None).otherwise(pl.col("a"))
    )
    odd.write_csv(tmp_path / "t.csv")
    options = ["--unseen", "ignore", "--ignore-extra"]
    run(
        "predict",
        fitted / "y",
        tmp_path / "t.csv",
        *options,
        "--missing",
        "drop",
        "--out",
        tmp_path / "d.csv",
    )
    assert pl.read_csv(tmp_path / "d.csv")["row"].to_list() == [row for row in range(60) if row != 7]
    run(
        "predict",
        fitted / "y",
        tmp_path / "t.csv",
        *options,
        "--missing",
        "impute",
        "--out",
        tmp_path / "i.csv",
    )
    assert pl.read_csv(tmp_path / "i.csv").height == 60


def test_predict_explains_models_that_cannot_be_read(fitted, tmp_path):
    table = fitted / "regression.csv"
    assert "needs the file 'model.json'" in run("predict", tmp_path / "nowhere", table, code=1)
    (tmp_path / "model").mkdir()
    for path in (fitted / "y" / "model").iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    header = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(header | {"version": 0}))
    assert "format version 0" in run("predict", tmp_path, table, code=1)
    (tmp_path / "model" / "arrays.npz").write_bytes(b"")
    (tmp_path / "model" / "model.json").write_text(json.dumps(header))
    assert "does not match its checksum" in run("predict", tmp_path, table, code=1)


def test_existing_outputs_are_kept_unless_told_otherwise(fitted, tmp_path):
    table = fitted / "regression.csv"
    assert "is not empty" in run("fit", table, "--target", "y", "--out", fitted / "y", code=1)
    (tmp_path / "p.csv").write_text("mine")
    assert "exists" in run("predict", fitted / "y", table, "--out", tmp_path / "p.csv", code=1)
    assert (tmp_path / "p.csv").read_text() == "mine"
    run("predict", fitted / "y", table, "--out", tmp_path / "p.csv", "--overwrite")
    assert pl.read_csv(tmp_path / "p.csv").height == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv", "--target", "y"], "no such file"),
        (["regression.csv", "--target", "Y"], "no column 'Y'. Did you mean 'y'?"),
        (["regression.csv", "--target", "colour", "--task", "regression"], "numeric target"),
        (["regression.csv", "--target", "y", "--level", "2"], "--level"),
        (["regression.csv", "--target", "y", "--max-rows", "20"], "--subsample"),
        (["regression.csv", "--target", "y", "--activation", "rulu"], "rulu"),
    ],
)
def test_mistakes_end_with_one_message_code_one_and_no_output(fitted, tmp_path, arguments, message):
    table, *options = arguments
    output = run("fit", fitted / table, *options, "--out", tmp_path / "out", code=1)
    assert message in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["fit"], ["fit", "t.csv"], ["fit", "t.csv", "--target", "y", "--out", "o", "--task", "no"], ["nothing"]],
)
def test_a_wrong_command_line_ends_with_code_two(arguments):
    run(*arguments, code=2)


@pytest.mark.parametrize(
    "command", ["fit", "predict", "kernel", "dynamics", "spectrum", "learning-curve", "phase", "demo"]
)
def test_help_of_every_command_explains_every_option(command):
    import typer

    group = typer.main.get_command(app)
    options = group.commands[command].params
    assert all(option.help for option in options if option.name != "help")
    assert "Usage" in run(command, "--help")


def test_version_and_bare_command():
    assert re.match(r"ntkit \d+\.\d+", run("--version"))


@pytest.mark.parametrize("where", ["ntkit.analysis.fit_table", "ntkit.cli.output.render_report"])
def test_ctrl_c_ends_with_130_and_leaves_nothing(fitted, tmp_path, monkeypatch, where):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    output = run(
        "fit",
        fitted / "regression.csv",
        "--target",
        "y",
        "--out",
        tmp_path / "deep" / "out",
        *QUICK,
        code=130,
    )
    assert "Interrupted. Nothing was written." in output
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "deep" / "out").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv", "parquet"])
def test_kernel_writes_the_gram_matrix(fitted, tmp_path, regression_table, suffix):
    out = tmp_path / f"k.{suffix}"
    options = ["--depth", "2", "--activation", "erf", "--w-std", "1.3", "--b-std", "0.2", "--ignore", "y"]
    run("kernel", fitted / "regression.csv", "--out", out, "--kernel", "ntk", *options)
    layer = (Dense(512, 1.3, 0.2), Erf())
    expected = NTK(Serial(*layer, *layer, Dense(1, 1.3, 0.2)))(encode_points(regression_table, ignore=["y"]))
    if suffix == "npy":
        found = np.load(out)
    elif suffix == "npz":
        found = np.load(out)["ntk"]
    else:
        found = (pl.read_csv(out) if suffix == "csv" else pl.read_parquet(out)).to_numpy()
    # Through a CSV file the inputs themselves were written and read, exactly.
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_kernel_writes_both_kernels_into_one_file(fitted, tmp_path, regression_table):
    run(
        *("kernel", fitted / "regression.csv", "--out", tmp_path / "k.npz", "--kernel", "both"),
        *("--dtype", "float32", "--ignore", "y", "--no-standardise"),
    )
    points = encode_points(regression_table, ignore=["y"], standardise=False).astype(np.float32)
    from ntkit.nn import Relu

    network = Serial(Dense(512), Relu(), Dense(1))
    with np.load(tmp_path / "k.npz") as grams:
        assert sorted(grams.files) == ["nngp", "ntk"]
        assert grams["ntk"].dtype == np.float32
        np.testing.assert_array_equal(grams["nngp"], NNGP(network)(points))


def test_kernel_explains_what_it_cannot_write(fitted, tmp_path):
    table = fitted / "regression.csv"
    assert "ends in one of" in run("kernel", table, "--out", tmp_path / "k.txt", code=1)
    assert "name ending in .npz" in run(
        "kernel", table, "--out", tmp_path / "k.npy", "--kernel", "both", code=1
    )
    options = ["--kernel", "ntk", "--activation", "sign"]
    assert "square-integrable derivative, got Sign" in run(
        "kernel", table, "--out", tmp_path / "k.npy", *options, code=1
    )
    assert list(tmp_path.iterdir()) == []


def test_the_program_runs_as_its_own_process(fitted, tmp_path):
    code = "from ntkit.cli import main; main()"
    arguments = ["predict", str(fitted / "y"), str(tmp_path / "absent.csv")]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("ntkit: read_table needs an existing file")
    assert "Traceback" not in result.stderr


def test_the_demo_runs_the_main_job_on_every_bundled_table_and_can_be_repeated(
    tmp_path, monkeypatch, regression_table, quick_settings
):
    from dataclasses import replace

    import ntkit.analysis
    import ntkit.cli.bundled

    fit_table, seen = ntkit.analysis.fit_table, []

    def quick(frame, target, *, settings, progress):
        seen.append(settings.time_limit)
        return fit_table(frame, target, settings=replace(quick_settings, baselines=False, networks=0))

    monkeypatch.setattr("ntkit.analysis.fit_table", quick)
    monkeypatch.setattr(
        "ntkit.cli.bundled.bundled_tables", lambda rows, seed: {"small": (regression_table, "y")}
    )
    for _ in range(2):
        output = run("demo", "--out", tmp_path, "--time-limit", "7")
        assert f"Report: {tmp_path}/small/report.html" in output
    assert seen == [7.0, 7.0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small", "small.csv"]


def test_the_demo_does_not_touch_a_file_of_the_user(tmp_path):
    (tmp_path / "digits.csv").write_text("mine")
    assert "exists" in run("demo", "--out", tmp_path, code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["digits.csv"]
    assert (tmp_path / "digits.csv").read_text() == "mine"


def test_bundled_tables_are_what_a_user_would_have():
    from ntkit.cli.bundled import bundled_tables
    from ntkit.tables.schema import infer_schema

    tables = bundled_tables(100, 0)
    tasks = {name: infer_schema(frame, target).target.task for name, (frame, target) in tables.items()}
    assert tasks == {"diabetes": "regression", "digits": "classification"}
    assert tables["digits"][0].height == 100
    assert tables["diabetes"][0]["age"].max() > 50
