"""The command line run in this process."""

import re

import polars as pl
import pytest
from typer.testing import CliRunner


def run(*arguments, code=0):
    from ntkit.cli import app

    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return re.sub(r"\s+", " ", result.output)


@pytest.fixture(scope="session")
def command():
    """Run a command, expect an exit code, return what it says with single spaces."""
    return run


@pytest.fixture(scope="session")
def tables(tmp_path_factory, regression_table, classification_table):
    """A folder with tables of a number, of three classes, of two, and with a row that is there twice."""
    folder = tmp_path_factory.mktemp("tables")
    regression_table.write_csv(folder / "number.csv")
    classification_table.write_csv(folder / "three.csv")
    classification_table.with_columns(
        species=pl.when(pl.col("species") == "small").then(pl.lit("small")).otherwise(pl.lit("other"))
    ).write_csv(folder / "two.csv")
    twice = pl.concat([regression_table, regression_table[:1]])
    twice.write_csv(folder / "twice.csv")
    return folder
