"""What several commands ask for in the same words: the table's columns and rows, the network, the output folder."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # a command's help appears without loading JAX
    from ntkit.analysis import Settings
    from ntkit.nn import Serial


class Task(StrEnum):
    """What the target is."""

    regression = "regression"
    classification = "classification"


class Missing(StrEnum):
    """What to do with missing values."""

    error = "error"
    drop = "drop"
    impute = "impute"


class Unseen(StrEnum):
    """What to do with categories that training did not have."""

    error = "error"
    ignore = "ignore"


DATA, NETWORK, OUTPUT = "Data", "Network", "Results"

TableFile = Annotated[
    Path,
    typer.Argument(metavar="TABLE", help="Table to learn from: CSV (.csv, .tsv) or Parquet (.parquet, .pq)."),
]
DataPath = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="What to learn from. A table: CSV (.csv, .tsv) or Parquet (.parquet, .pq). Images: a folder with a "
        "subfolder of PNG or JPEG files for every class, or an .npz file of x and y (or "
        "x_train, y_train, x_test, y_test).",
    ),
]
TargetName = Annotated[str, typer.Option(help="Column to predict.", rich_help_panel=DATA)]
TaskChoice = Annotated[
    Task | None,
    typer.Option(
        help="Override the task. By default text, true/false and integers with few values are classes, "
        "other numbers are regression targets.",
        rich_help_panel=DATA,
    ),
]
MissingChoice = Annotated[
    Missing,
    typer.Option(
        help="Missing values: stop with a message, drop the rows, or impute inputs by median or most frequent "
        "category (rows without a target are dropped).",
        rich_help_panel=DATA,
    ),
]
UnseenChoice = Annotated[
    Unseen,
    typer.Option(
        help="Categories that only the test rows have: stop, or encode as none.", rich_help_panel=DATA
    ),
]
Categorical = Annotated[
    list[str] | None,
    typer.Option(help="Number column to treat as categories; may be repeated.", rich_help_panel=DATA),
]
Ignore = Annotated[
    list[str] | None, typer.Option(help="Column to leave out; may be repeated.", rich_help_panel=DATA)
]
MaxRows = Annotated[
    int, typer.Option(help="Most training rows; exact kernels cost rows^3.", rich_help_panel=DATA)
]
Subsample = Annotated[
    bool, typer.Option(help="Draw --max-rows training rows from a larger table.", rich_help_panel=DATA)
]
TestFraction = Annotated[
    float, typer.Option(help="Share of rows held out for testing.", rich_help_panel=DATA)
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", rich_help_panel=DATA)]

Depth = Annotated[int, typer.Option(help="Hidden layers.", min=0, rich_help_panel=NETWORK)]
ActivationName = Annotated[
    str, typer.Option(help="Activation, such as relu, erf, gelu, sin.", rich_help_panel=NETWORK)
]
WeightScale = Annotated[
    float, typer.Option(help="Standard deviation of the weights of every layer.", rich_help_panel=NETWORK)
]
BiasScale = Annotated[
    float, typer.Option(help="Standard deviation of the biases of every layer.", rich_help_panel=NETWORK)
]

OutputFolder = Annotated[
    Path, typer.Option(help="Folder for the numbers (CSV) and the picture (SVG).", rich_help_panel=OUTPUT)
]
Overwrite = Annotated[bool, typer.Option(help="Replace an earlier output in --out.", rich_help_panel=OUTPUT)]


def data_settings(
    task: Task | None,
    categorical: list[str] | None,
    ignore: list[str] | None,
    missing: Missing,
    unseen: Unseen,
    max_rows: int,
    subsample: bool,
    seed: int,
    test_fraction: float = 0.25,
) -> "Settings":
    """What a command line says about the table, checked.

    Raises:
        TableError: for numbers outside their range.
    """
    from ntkit.analysis import Settings

    return Settings(
        task=None if task is None else task.value,
        categorical=tuple(categorical or ()),
        ignore=tuple(ignore or ()),
        missing=missing.value,
        unseen=unseen.value,
        test_fraction=test_fraction,
        seed=seed,
        max_rows=max_rows,
        subsample=subsample,
    )


def image_size(text: str | None) -> tuple[int, int] | None:
    """Height and width from what follows --resize: "16" or "16x24".

    Raises:
        ImageError: for anything else.
    """
    from ntkit.errors import ImageError

    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    size = (0, 0) if found is None else (int(found[1]), int(found[2] or found[1]))
    if min(size) < 1:
        raise ImageError(
            f"Resizing (--resize) needs pixels, such as 16 or 16x24 (height x width), got {text!r}."
        )
    return size


def refuse(given: Mapping[str, bool], reason: str) -> None:
    """Raise when an option was given that has no meaning here.

    Args:
        given: whether each option was given.
        reason: why it has none.

    Raises:
        TableError: naming the first such option.
    """
    from ntkit.errors import TableError

    for option, asked in given.items():
        if asked:
            raise TableError(f"{option} has no meaning here: {reason} Leave it out.")


def dense_network(depth: int, activation: str, w_std: float, b_std: float) -> "Serial":
    """Fully connected hidden layers and a linear readout, all with the same scales.

    Raises:
        ValueError: for an unknown activation, listing those there are, or negative scales.
    """
    from ntkit.inference.search_space import activation_named
    from ntkit.nn import Dense, Serial

    # The width is that of finite networks; the infinite ones do not feel it.
    layer = (Dense(512, w_std, b_std), activation_named(activation))
    return Serial(*(layer * depth), Dense(1, w_std, b_std))
