"""Tables of data: read them, type their columns, encode them as points and targets, split them."""

from ntkit.tables.encode import TableEncoder
from ntkit.tables.missing import complete_rows
from ntkit.tables.read import read_table, write_table
from ntkit.tables.schema import Column, Schema, Target, infer_schema
from ntkit.tables.split import limit_rows, train_test_rows

__all__ = [
    "Column",
    "Schema",
    "TableEncoder",
    "Target",
    "complete_rows",
    "infer_schema",
    "limit_rows",
    "read_table",
    "train_test_rows",
    "write_table",
]
