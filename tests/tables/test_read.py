"""Reading and writing tables: types, missing values, clear errors."""

import polars as pl
import pytest

from ntkit.errors import TableError
from ntkit.tables.read import read_table, write_table


def test_csv_numbers_texts_truths_and_missing_values_are_recognised(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c,d\n1,x,true,1.5\n2,,false,NaN\n3,NA,true,2.5\n")
    frame = read_table(path)
    assert frame.schema == {"a": pl.Int64, "b": pl.String, "c": pl.Boolean, "d": pl.Float64}
    assert [frame[name].null_count() for name in "abcd"] == [0, 2, 0, 1]


def test_a_late_text_makes_the_whole_column_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 2000 + "x,2\n")
    assert read_table(path)["a"].dtype == pl.String


def test_numbers_can_be_kept_as_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("code,b\n007,1\n010,2\n")
    assert read_table(path, as_text=["code", "absent"])["code"].to_list() == ["007", "010"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_writing_and_reading_gives_the_table_back(tmp_path, suffix):
    frame = pl.DataFrame({"a": [0.1 + 0.2, 1e-300], "b": ["x", None]})
    write_table(frame, tmp_path / f"t.{suffix}")
    assert read_table(tmp_path / f"t.{suffix}").equals(frame)


def test_parquet_nan_counts_as_missing(tmp_path):
    pl.DataFrame({"a": [1.0, float("nan")]}).write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["a"].null_count() == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no such file"),
        ("t.xlsx", "a", r"ends in one of \.csv"),
        ("t.csv", "", "header line"),
        ("t.csv", "a,b\n", "at least one column and one row"),
        ("t.csv", "a,b,a\n1,2,3\n", "'a' more than once"),
        ("t.csv", "a,b\n1,2,3,4\n", "cannot parse"),
        ("t.parquet", "not parquet", "cannot parse"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(TableError, match=message):
        read_table(path)


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(TableError, match="a folder"):
        read_table(tmp_path / "t.csv")


def test_writing_to_an_unknown_suffix_leaves_nothing(tmp_path):
    with pytest.raises(TableError, match="write_table needs"):
        write_table(pl.DataFrame({"a": [1]}), tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []
