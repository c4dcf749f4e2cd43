"""The main job as a function: from a table to predictions at every training time, scores and baselines."""

from ntkit.analysis.job import fit_table
from ntkit.analysis.results import Analysis
from ntkit.analysis.settings import Settings

__all__ = ["Analysis", "Settings", "fit_table"]
