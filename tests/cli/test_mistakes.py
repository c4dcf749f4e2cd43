"""What goes wrong in the commands of the theory: one message, a code, and the user's files untouched."""

import polars as pl
import pytest

NUMBER, CLASSES = ["number.csv", "--target", "y"], ["three.csv", "--target", "species"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dynamics", "number.csv", "--target", "Y"], "no column 'Y'. Did you mean 'y'?"),
        (["dynamics", *NUMBER, "--activation", "rulu"], "got 'rulu'"),
        (["dynamics", *NUMBER, "--activation", "sign"], "square-integrable derivative, got Sign"),
        (["dynamics", *NUMBER, "--learning-rate", "50"], "steps of that size diverge"),
        (["dynamics", *NUMBER, "--learning-rate", "0"], "positive, finite learning_rate, got 0"),
        (["dynamics", *NUMBER, "--loss", "cross-entropy"], "needs classes, got the number 'y'"),
        (["dynamics", *CLASSES, "--loss", "logistic"], "needs two classes, got 3 in 'species'"),
        (["dynamics", *NUMBER, "--times", "1"], "at least 2 times (--times), got 1"),
        (["dynamics", *NUMBER, "--last-time", "-1"], "--last-time), got -1"),
        (["dynamics", *NUMBER, "--friction", "0"], "needs a positive friction"),
        (["dynamics", *NUMBER, "--ridge", "-1"], "ridge as a finite number of at least 0, got -1"),
        (["dynamics", *NUMBER, "--w-std", "0"], "zero"),
        (["dynamics", *NUMBER, "--max-rows", "20"], "--subsample"),
        (["spectrum", *NUMBER, "--first", "5", "--last", "100"], "needs 1 <= first < last <= 60"),
        (["spectrum", *NUMBER, "--ridge", "nan"], "ridge (--ridge) of at least 0, got nan"),
        (["spectrum", *NUMBER, "--w-std", "-1"], "got -1"),
        (["learning-curve", *NUMBER, "--samples", "60"], "subsets (--samples) of 1 to 59 rows"),
        (["learning-curve", *NUMBER, "--ridge", "-1"], "got -1"),
        (["phase", "--activation", "sign"], "Sign"),
        (["phase", "--activation", "tan"], "got 'tan'"),
        (["phase", "--max-w-std", "0"], "--max-w-std above 0 and finite, got 0"),
        (["phase", "--values", "1"], "at least 2 --values"),
        (["phase", "--activation", "erf", "--w-std", "-1"], "w_std of at least 0, got -1"),
    ],
)
def test_a_mistake_ends_with_one_message_code_one_and_no_output(
    command, tables, tmp_path, arguments, message
):
    name, *options = arguments
    options = [tables / option if option.endswith(".csv") else option for option in options]
    output = command(name, *options, "--out", tmp_path / "out", code=1)
    assert message in output
    assert output.startswith("ntkit: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["learning-curve", *NUMBER, "--repeats", "1"],
        ["dynamics", *NUMBER, "--loss", "hinge"],
        ["spectrum", *NUMBER],
    ],
)
def test_a_wrong_command_line_ends_with_code_two(command, arguments):
    command(*arguments, code=2)


def test_an_earlier_output_is_replaced_on_request_and_nothing_else(command, tables, tmp_path):
    out = tmp_path / "out"
    arguments = ["spectrum", tables / "number.csv", "--target", "y", "--out", out]
    command(*arguments)
    before = (out / "spectrum.csv").read_text()
    assert "is not empty" in command(*arguments, code=1)
    # Another command's output is an output too.
    command("phase", "--activation", "erf", "--values", "2", "--out", out, "--overwrite")
    assert sorted(path.name for path in out.iterdir()) == [
        "critical.csv",
        "ntkit.json",
        "phase.csv",
        "phase.svg",
    ]
    (out / "notes.txt").write_text("mine")
    assert "holds 'notes.txt' beside an earlier output" in command(*arguments, "--overwrite", code=1)
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    command(*arguments, "--overwrite")
    assert (out / "spectrum.csv").read_text() == before
    (out / "ntkit.json").write_text('{"made_by": "another program"}')
    assert "holds no earlier output" in command(*arguments, "--overwrite", code=1)
    assert pl.read_csv(out / "spectrum.csv").height == 60


@pytest.mark.parametrize("name", ["dynamics", "spectrum", "learning-curve"])
def test_ctrl_c_leaves_nothing(command, tables, tmp_path, monkeypatch, name):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ntkit.analysis.prepare.infer_schema", interrupt)
    arguments = [name, tables / "number.csv", "--target", "y", "--out", tmp_path / "out"]
    assert "Interrupted. Nothing was written." in command(*arguments, code=130)
    assert list(tmp_path.iterdir()) == []
