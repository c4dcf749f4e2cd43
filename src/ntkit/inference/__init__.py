"""Bayesian inference with a kernel: Gaussian processes, their evidence, predictive distributions."""

from ntkit.inference.class_probabilities import class_probabilities
from ntkit.inference.gaussian_process import GaussianProcess, Posterior
from ntkit.inference.laplace import (
    LaplaceClassification,
    LaplaceRegression,
    LinearizedLaplace,
    linearized_laplace,
)
from ntkit.inference.leave_one_out import LeaveOneOut
from ntkit.inference.noisy import Noisy
from ntkit.inference.predictive import Predictive
from ntkit.inference.selection import Selection, select

__all__ = [
    "GaussianProcess",
    "LaplaceClassification",
    "LaplaceRegression",
    "LeaveOneOut",
    "LinearizedLaplace",
    "Noisy",
    "Posterior",
    "Predictive",
    "Selection",
    "class_probabilities",
    "linearized_laplace",
    "select",
]
