"""Analyses of tables and images as functions: the main job, the course of training, spectra and learning curves."""

from ntkit.analysis.course import Course, CourseSettings, training_course
from ntkit.analysis.depth import DepthLimit, depth_limit
from ntkit.analysis.job import fit_images, fit_table
from ntkit.analysis.prediction_curve import CurveComparison, compare_learning_curves
from ntkit.analysis.results import Analysis
from ntkit.analysis.settings import Settings
from ntkit.analysis.spectral import SpectralAnalysis, spectral_analysis

__all__ = [
    "Analysis",
    "Course",
    "CourseSettings",
    "CurveComparison",
    "DepthLimit",
    "Settings",
    "SpectralAnalysis",
    "compare_learning_curves",
    "depth_limit",
    "fit_images",
    "fit_table",
    "spectral_analysis",
    "training_course",
]
