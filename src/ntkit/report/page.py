"""Render the report of an analysis: collect what the page says, draw its pictures, fill in the template."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jinja2
from matplotlib.figure import Figure

from ntkit.analysis.given_network import GivenNetwork
from ntkit.analysis.results import Analysis, ScoreRow
from ntkit.model.fitted import Distribution
from ntkit.plotting import as_svg
from ntkit.report.outlook import outlook_rows
from ntkit.report.pictures import draw_all
from ntkit.report.text import fixed, layer_rows, number, percent


@dataclass(frozen=True)
class Measure:
    """A column of the score table."""

    key: str
    title: str
    larger_is_better: bool | None
    show: Callable[[float | None], str] = number


MEASURES = {
    "regression": (
        Measure("rmse", "RMSE", False),
        Measure("mae", "MAE", False),
        Measure("r2", "R²", True, fixed),
        Measure("log_density", "log density", True, fixed),
        Measure("coverage", "coverage", None, percent),
    ),
    "classification": (
        Measure("accuracy", "accuracy", True, percent),
        Measure("log_loss", "log loss", False),
        Measure("brier", "Brier score", False),
    ),
}


def render_report(analysis: Analysis, title: str) -> str:
    """The report as one self-contained HTML page: styles and pictures inside, no script, nothing to download."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, percent=percent)
    template = environment.from_string((files("ntkit.report") / "template.html").read_text(encoding="utf-8"))
    style = (files("ntkit.report") / "style.css").read_text(encoding="utf-8")
    pictures = {name: _embedded(figure) for name, figure in draw_all(analysis).items()}
    return template.render(
        title=title,
        style=style,
        version=version("ntkit"),
        analysis=analysis,
        target=analysis.model.encoder.target,
        settings=analysis.settings,
        layers=layer_rows(analysis.model.network),
        pictures=pictures,
        measures=MEASURES[analysis.task],
        rows=_score_table(analysis),
        best=_best_rows(analysis),
        distribution_titles=distribution_titles(analysis),
        candidates=_candidates(analysis),
        outlook=outlook_rows(analysis),
        given=analysis.selection if isinstance(analysis.selection, GivenNetwork) else None,
        unit="image" if analysis.of_images else "row",
        shape=_shape(analysis.data.image_shape),
    )


def _shape(shape: tuple[int, ...]) -> str:
    """The size of images in words; empty for tables."""
    if not shape:
        return ""
    height, width, channels = shape
    return f"{height} × {width} pixels, {channels} channel{'' if channels == 1 else 's'}"


def distribution_titles(analysis: Analysis) -> dict[Distribution, str]:
    """The name on the page of each distribution."""
    return {name: prediction.distribution for name, prediction in analysis.predictions.items()}


def _embedded(figure: Figure) -> str:
    """A picture as a data address: several SVGs in one page would share the names of their parts."""
    return "data:image/svg+xml;base64," + b64encode(as_svg(figure).encode()).decode()


def _score_table(analysis: Analysis) -> list[dict[str, Any]]:
    """The rows of the score table with formatted cells; the best cell of each column is marked."""
    measures = MEASURES[analysis.task]
    best: dict[str, float] = {}
    for measure in measures:
        values = [value for row in analysis.scores if (value := getattr(row.scores, measure.key)) is not None]
        if values and measure.larger_is_better is not None:
            best[measure.key] = max(values) if measure.larger_is_better else min(values)
    table = []
    for row in analysis.scores:
        cells = []
        for measure in measures:
            value = getattr(row.scores, measure.key)
            cells.append(
                {"text": measure.show(value), "best": value is not None and value == best.get(measure.key)}
            )
        table.append({"row": row, "cells": cells})
    return table


def _best_rows(analysis: Analysis) -> dict[str, ScoreRow | None]:
    """The best method of each source; rows are sorted already."""
    return {
        source: next((row for row in analysis.scores if row.source == source), None)
        for source in ("ntkit", "baseline")
    }


def _candidates(analysis: Analysis) -> list[dict[str, Any]]:
    """The best climb of every candidate network, best first, per target value; none where the network was given."""
    if isinstance(analysis.selection, GivenNetwork):
        return []
    best: dict[str, Any] = {}
    for trial in analysis.selection.history:
        name = str(trial.candidate)
        per_point = trial.value / (trial.points * analysis.model.y.shape[1])
        entry = {"name": name, "points": trial.points, "value": per_point}
        if name not in best or (trial.points, per_point) > (best[name]["points"], best[name]["value"]):
            best[name] = entry
    return sorted(best.values(), key=lambda entry: (-entry["points"], -entry["value"]))
