"""Bayesian inference with a kernel: Gaussian processes, their evidence, predictive distributions."""

from ntkit.inference.gaussian_process import GaussianProcess, Posterior
from ntkit.inference.leave_one_out import LeaveOneOut
from ntkit.inference.noisy import Noisy
from ntkit.inference.predictive import Predictive

__all__ = ["GaussianProcess", "LeaveOneOut", "Noisy", "Posterior", "Predictive"]
