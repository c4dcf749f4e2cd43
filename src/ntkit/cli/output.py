"""Write the results of the main job: model, predictions and report, all of them or nothing."""

from pathlib import Path

from ntkit.analysis.results import Analysis
from ntkit.model import save_model
from ntkit.report import render_report
from ntkit.tables.files import atomic_folder
from ntkit.tables.read import write_table


def write_analysis(analysis: Analysis, folder: Path, title: str, *, overwrite: bool) -> Path:
    """Write `model/`, `predictions.csv` and `report.html` into `folder`; returns the report's path."""
    with atomic_folder(folder, overwrite=overwrite) as part:
        save_model(analysis.model, part / "model")
        write_table(analysis.predictions_frame(), part / "predictions.csv")
        (part / "report.html").write_text(render_report(analysis, title), encoding="utf-8")
    return folder / "report.html"
