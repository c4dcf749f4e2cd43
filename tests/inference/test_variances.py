"""Variances below zero: rounding is clipped in silence, anything larger is reported."""

import warnings

import numpy as np
import pytest

from ntkit.errors import AccuracyWarning
from ntkit.inference.variances import nonnegative


def test_rounding_is_clipped_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clipped = nonnegative(np.array([-1e-12, 0.5]), np.ones(2), np.float64, "A test")
    np.testing.assert_array_equal(clipped, [0.0, 0.5])


def test_a_material_negative_variance_is_reported():
    with pytest.warns(AccuracyWarning, match=r"A test: a variance came out as -0.01 of the prior variance"):
        clipped = nonnegative(np.array([-0.02, 0.5]), np.full(2, 2.0), np.float64, "A test")
    np.testing.assert_array_equal(clipped, [0.0, 0.5])


def test_the_allowance_follows_the_dtype():
    variance, prior = np.array([-1e-5]), np.ones(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nonnegative(variance, prior, np.float32, "A test")
    with pytest.warns(AccuracyWarning):
        nonnegative(variance, prior, np.float64, "A test")


def test_a_point_without_prior_variance_is_no_division_by_zero():
    np.testing.assert_array_equal(nonnegative(np.zeros(1), np.zeros(1), np.float64, "A test"), [0.0])
