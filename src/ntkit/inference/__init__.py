"""Bayesian inference with a kernel: Gaussian processes, their evidence, predictive distributions."""
