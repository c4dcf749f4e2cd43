"""Encoding: standardised numbers, indicators, centred targets, missing and unseen values."""

import numpy as np
import polars as pl
import pytest

from ntkit.errors import TableError
from ntkit.tables.encode import TableEncoder, encode_points
from ntkit.tables.missing import complete_rows
from ntkit.tables.schema import infer_schema
from ntkit.tables.split import limit_rows, train_test_rows

FRAME = pl.DataFrame(
    {
        "a": [1.0, 2.0, 3.0, 6.0] * 5,
        "b": ["x", "y", "x", "z"] * 5,
        "flag": [True, False, False, False] * 5,
        "y": [0.0, 10.0, 20.0, 30.0] * 5,
        "c": ["u", "v", "u", "u"] * 5,
    }
)


def test_numbers_are_standardised_and_categories_indicated():
    encoder = TableEncoder.fit(infer_schema(FRAME, "y"), FRAME)
    points = encoder.points(FRAME)
    assert encoder.feature_names == ("a", "b=x", "b=y", "b=z", "flag=false", "flag=true", "c=u", "c=v")
    a = FRAME["a"].to_numpy()
    np.testing.assert_allclose(points[:, 0], (a - 3.0) / np.sqrt(3.5), rtol=1e-15)
    np.testing.assert_array_equal(points[:4, 1:4], [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(points[:2, 4:6], [[0, 1], [1, 0]])
    assert points.dtype == np.float64


def test_targets_are_standardised_or_one_hot_and_centred():
    encoder = TableEncoder.fit(infer_schema(FRAME, "y"), FRAME)
    y = encoder.targets(FRAME)
    assert y.shape == (20, 1)
    np.testing.assert_allclose([y.mean(), y.std()], [0.0, 1.0], atol=1e-15)
    np.testing.assert_allclose(
        y[:, 0] * encoder.target_scale + encoder.target_means[0], FRAME["y"], atol=1e-13
    )
    classes = TableEncoder.fit(infer_schema(FRAME, "c"), FRAME)
    np.testing.assert_allclose(classes.targets(FRAME)[:2], [[0.25, -0.25], [-0.75, 0.75]])


def test_missing_inputs_become_the_median_or_the_most_frequent_category():
    encoder = TableEncoder.fit(infer_schema(FRAME, "y"), FRAME)
    row = pl.DataFrame({"a": [None], "b": [None], "flag": [None], "c": [None]}, schema=FRAME.drop("y").schema)
    filled = pl.DataFrame({"a": [2.5], "b": ["x"], "flag": [False], "c": ["u"]})
    np.testing.assert_array_equal(encoder.points(row), encoder.points(filled))


def test_truth_values_match_however_a_file_writes_them():
    encoder = TableEncoder.fit(infer_schema(FRAME, "y"), FRAME)
    written = FRAME.with_columns(flag=pl.Series(["True", "FALSE", "false", "False"] * 5))
    np.testing.assert_array_equal(encoder.points(written), encoder.points(FRAME))


def test_unseen_categories_are_named_or_encoded_as_none():
    encoder = TableEncoder.fit(infer_schema(FRAME, "y"), FRAME)
    new = FRAME[:1].with_columns(b=pl.lit("w"))
    with pytest.raises(
        TableError, match=r"'b' has 1 value\(s\).*such as 'w'; it knows 'x', 'y', 'z'.*--unseen ignore"
    ):
        encoder.points(new)
    np.testing.assert_array_equal(encoder.points(new, unseen="ignore")[0, 1:4], [0.0, 0.0, 0.0])


def test_text_or_infinity_in_a_number_column_is_named():
    encoder = TableEncoder.fit(infer_schema(FRAME, "y"), FRAME)
    with pytest.raises(TableError, match="'a' needs numbers, got values such as 'two'"):
        encoder.points(FRAME.with_columns(a=pl.Series(["1", "two", "3", "4"] * 5)))
    with pytest.raises(TableError, match="'a' holds infinite"):
        encoder.points(FRAME.with_columns(a=float("inf")))


def test_an_unknown_class_is_named():
    encoder = TableEncoder.fit(infer_schema(FRAME, "c"), FRAME)
    with pytest.raises(TableError, match="class 'w', unknown"):
        encoder.targets(FRAME.with_columns(c=pl.lit("w")))


def test_a_constant_target_in_the_training_rows_is_refused():
    with pytest.raises(TableError, match="does not vary in the training rows"):
        TableEncoder.fit(infer_schema(FRAME, "y"), FRAME.filter(pl.col("y") == 10.0))


def test_points_without_a_target_can_stay_in_their_units():
    points = encode_points(FRAME, ignore=["y", "c"], standardise=False)
    np.testing.assert_array_equal(points[:, 0], FRAME["a"])
    np.testing.assert_allclose(encode_points(FRAME, ignore=["y", "c"])[:, 0].std(), 1.0)
    assert (
        encode_points(FRAME.with_columns(g=pl.Series([None, 1.0] + [2.0] * 18)), missing="drop").shape[0]
        == 19
    )


def test_missing_values_are_counted_dropped_or_kept():
    frame = pl.DataFrame(
        {"a": [1.0, None, 3.0, None], "b": ["x", "y", None, "x"], "y": [1.0, 2.0, 3.0, None]}
    )
    with pytest.raises(
        TableError, match=r"'a' \(2 of 4\), 'b' \(1 of 4\), 'y' \(1 of 4\).*--missing drop.*--missing impute"
    ):
        complete_rows(frame, ["a", "b"], "y", "error")
    assert complete_rows(frame, ["a", "b"], "y", "drop").tolist() == [True, False, False, False]
    assert complete_rows(frame, ["a", "b"], "y", "impute").tolist() == [True, True, True, False]
    assert complete_rows(frame, ["a"], None, "impute").all()
    with pytest.raises(TableError, match="leaves none of 1"):
        complete_rows(frame[1:2], ["a"], None, "drop")


def test_the_split_is_reproducible_disjoint_complete_and_stratified():
    classes = np.array([0] * 80 + [1] * 20)
    train, test = train_test_rows(100, 0.25, 3, classes=classes)
    again, _ = train_test_rows(100, 0.25, 3, classes=classes)
    np.testing.assert_array_equal(train, again)
    assert sorted([*train, *test]) == list(range(100))
    assert (len(test), classes[test].sum()) == (25, 5)
    assert not np.array_equal(train, train_test_rows(100, 0.25, 4, classes=classes)[0])


def test_a_class_of_one_row_does_not_prevent_the_split():
    train, test = train_test_rows(30, 0.2, 0, classes=np.array([0] * 29 + [1]))
    assert (len(train), len(test)) == (24, 6)


@pytest.mark.parametrize(
    ("rows", "fraction", "message"), [(100, 0.0, "between 0 and 1"), (9, 0.5, "at least 10")]
)
def test_impossible_splits_are_refused(rows, fraction, message):
    with pytest.raises(TableError, match=message):
        train_test_rows(rows, fraction, 0)


def test_subsamples_are_reproducible_and_sorted():
    rows = limit_rows(1000, 10, 1)
    assert len(np.unique(rows)) == 10
    np.testing.assert_array_equal(rows, np.sort(rows))
    np.testing.assert_array_equal(rows, limit_rows(1000, 10, 1))
    np.testing.assert_array_equal(limit_rows(5, 10, 1), np.arange(5))
