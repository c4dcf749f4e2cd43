"""What columns mean: kinds, tasks, and messages for tables that do not fit."""

import datetime

import polars as pl
import pytest

from ntkit.errors import TableError
from ntkit.tables.schema import MOST_CATEGORIES, MOST_CLASSES, Schema, infer_schema


def table(**columns):
    rows = 60
    base = {"x": [float(i) for i in range(rows)], "y": [0.5 * i for i in range(rows)]}
    return pl.DataFrame({**base, **columns})


def test_columns_become_numbers_and_categories():
    frame = table(colour=["red", "blue"] * 30, ok=[True, False] * 30, count=list(range(60)))
    schema = infer_schema(frame, "y")
    assert [(c.name, c.kind, c.categories) for c in schema.inputs] == [
        ("x", "number", ()),
        ("colour", "category", ("blue", "red")),
        ("ok", "category", ("false", "true")),
        ("count", "number", ()),
    ]


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([0.5 * i for i in range(60)], "regression", ()),
        ([float(i % 2) for i in range(60)], "regression", ()),
        ([i % 3 for i in range(60)], "classification", ("0", "1", "2")),
        ([i % 11 for i in range(60)], "classification", tuple(str(i) for i in range(11))),
        (list(range(60)), "regression", ()),
        ([i % (MOST_CLASSES + 1) for i in range(60)], "regression", ()),
        (["a", "b"] * 30, "classification", ("a", "b")),
        ([True, False] * 30, "classification", ("false", "true")),
    ],
)
def test_the_task_is_decided_from_the_target(values, task, classes):
    target = infer_schema(table(t=values), "t").target
    assert (target.task, target.classes) == (task, classes)


def test_the_task_can_be_overridden():
    frame = table(t=[i % 3 for i in range(60)])
    assert infer_schema(frame, "t", task="regression").target.task == "regression"
    assert infer_schema(table(t=list(range(60))), "t", task="classification").target.classes[10] == "10"


def test_number_columns_can_be_categories_and_columns_left_out():
    schema = infer_schema(table(zone=[i % 3 for i in range(60)]), "y", categorical=["zone"], ignore=["x"])
    assert schema.input_names == ("zone",)
    assert schema.category_names == ("zone",)
    assert schema.ignored == ("x",)


def test_constant_columns_are_left_out():
    schema = infer_schema(table(c=[1.0] * 60, e=[None] * 60), "y")
    assert schema.input_names == ("x",)
    assert schema.ignored == ("c", "e")


@pytest.mark.parametrize(
    ("frame", "target", "options", "message"),
    [
        (table(), "yy", {}, "no column 'yy'. Did you mean 'y'"),
        (table(), "y", {"ignore": ["xx"]}, "no column 'xx'"),
        (table(), "y", {"ignore": ["y"]}, "cannot also be ignored"),
        (table(), "y", {"ignore": ["x"]}, "at least one input column"),
        (table(t=["a", "b"] * 30), "t", {"task": "regression"}, "numeric target"),
        (table(t=[1.0] * 60), "t", {}, "at least two distinct values, got 1"),
        (table(t=[0.0] * 59 + [float("inf")]), "t", {}, "infinite"),
        (table(i=[0.0] * 59 + [float("-inf")]), "y", {}, "'i' holds infinite"),
        (table(d=[datetime.date(2020, 1, 1 + i % 28) for i in range(60)]), "y", {}, "type Date"),
    ],
)
def test_unusable_tables_are_refused_with_the_reason(frame, target, options, message):
    with pytest.raises(TableError, match=message):
        infer_schema(frame, target, **options)


def test_a_text_column_that_identifies_rows_is_refused():
    rows = MOST_CATEGORIES + 1
    frame = pl.DataFrame({"name": [f"n{i}" for i in range(rows)], "y": [float(i) for i in range(rows)]})
    with pytest.raises(TableError, match=r"'name' has 101 distinct texts.*--ignore 'name'"):
        infer_schema(frame, "y")
    with pytest.raises(TableError, match="at most 100 classes, got 101"):
        infer_schema(
            frame.with_columns(x=pl.Series(range(rows))), "y", task="classification", ignore=["name"]
        )


def test_a_schema_survives_json():
    schema = infer_schema(table(colour=["red", "blue"] * 30), "colour", ignore=["x"])
    assert Schema.from_json(schema.to_json()) == schema


def test_renamed_missing_and_extra_columns_are_named():
    schema = infer_schema(table(colour=["red", "blue"] * 30), "y", ignore=["x"])
    frame = table(colour=["red", "blue"] * 30)
    schema.check_columns(frame)
    schema.check_columns(frame.drop("y", "x"))
    with pytest.raises(TableError, match="lacks 1 column.*'color' looks like 'colour' renamed"):
        schema.check_columns(frame.rename({"colour": "color"}))
    with pytest.raises(TableError, match="does not know: 'z'.*ignore-extra"):
        schema.check_columns(frame.with_columns(z=1))
    schema.check_columns(frame.with_columns(z=1), ignore_extra=True)
