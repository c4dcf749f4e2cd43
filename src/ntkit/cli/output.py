"""Write results, all of them or nothing: those of the main job, or a command's numbers and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from ntkit.analysis.results import Analysis
from ntkit.model import save_model
from ntkit.plotting import as_svg
from ntkit.report import render_report
from ntkit.report.outlook import eigenvalue
from ntkit.report.text import point_groups
from ntkit.tables.files import LISTED_MARK, atomic_folder
from ntkit.tables.read import write_table
from ntkit.theory import Certificate


@dataclass(frozen=True)
class Finding:
    """One line of a command's summary.

    Attributes:
        key: its name in the summary's file.
        title: what it is, for readers; empty for what is only in the file.
        value: the number or text; None where there is none.
        note: what to add for readers.
        shown: the value for readers, where it is not just the number.
    """

    key: str
    title: str
    value: float | int | str | None
    note: str = ""
    shown: str = ""


def certificate_findings(certificate: Certificate, kernel: str) -> list[Finding]:
    """What a certificate says about a kernel on a table: verdict, rows at fault, smallest eigenvalue, rank."""
    findings = [Finding("verdict", kernel, certificate.verdict)]
    if certificate.singular_points:
        text = point_groups(certificate.singular_points)
        findings.append(Finding("singular_rows", "rows that make it singular", text, "counted from 0"))
    smallest = certificate.smallest_eigenvalue
    return [
        *findings,
        Finding(
            "smallest_eigenvalue",
            "smallest eigenvalue",
            smallest,
            "accuracy proved",
            eigenvalue(certificate),
        ),
        Finding("rank", "directions that can be learnt", certificate.rank, f"of {certificate.size}"),
    ]


def write_analysis(analysis: Analysis, folder: Path, title: str, *, overwrite: bool) -> Path:
    """Write `model/`, `predictions.csv` and `report.html` into `folder`; returns the report's path."""
    with atomic_folder(folder, overwrite=overwrite) as part:
        save_model(analysis.model, part / "model")
        write_table(analysis.predictions_frame(), part / "predictions.csv")
        (part / "report.html").write_text(render_report(analysis, title), encoding="utf-8")
    return folder / "report.html"


def write_findings(
    folder: Path,
    command: str,
    tables: Mapping[str, pl.DataFrame],
    pictures: Mapping[str, Figure],
    findings: Sequence[Finding],
    *,
    overwrite: bool,
) -> None:
    """Write CSV files, SVG pictures and the summary into `folder`.

    The summary's file, `ntkit.json`, also marks the folder as ntkit's own and lists what it wrote there.
    """
    names = [*(f"{name}.csv" for name in tables), *(f"{name}.svg" for name in pictures)]
    summary = {
        "made_by": f"ntkit {command}",
        "version": version("ntkit"),
        "files": names,
        "summary": {finding.key: _plain(finding.value) for finding in findings},
    }
    with atomic_folder(folder, overwrite=overwrite) as part:
        for name, frame in tables.items():
            write_table(frame, part / f"{name}.csv")
        for name, figure in pictures.items():
            (part / f"{name}.svg").write_text(as_svg(figure), encoding="utf-8")
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
        (part / LISTED_MARK).write_text(text + "\n", encoding="utf-8")


def _plain(value: float | int | str | None) -> float | int | str | None:
    """The value as JSON has it; infinity, which JSON has not, as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
