"""Class probabilities against the exact two-class formula, symmetry, Monte Carlo and limits."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from ntkit.inference.class_probabilities import class_probabilities


def test_two_classes_follow_the_closed_form():
    difference = np.linspace(-8.0, 8.0, 41)
    std = np.geomspace(0.01, 100.0, 41)
    mean = np.stack([difference, np.zeros(41)], axis=1)
    exact = norm.cdf(difference / (np.sqrt(2.0) * std))
    probabilities = class_probabilities(mean, std)
    # Truncation at 9 standard deviations costs 1e-19 and the rule's own error exp(-2 pi^2/0.02) nothing:
    # what remains is rounding over 181 nodes, 181 * 1.1e-16 at worst.
    np.testing.assert_allclose(probabilities[:, 0], exact, atol=2e-14, rtol=0)
    np.testing.assert_allclose(probabilities[:, 1], 1.0 - exact, atol=2e-14, rtol=0)


def test_several_classes_agree_with_adaptive_quadrature():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(5, 7)) * 2.0
    std = np.array([0.1, 0.5, 1.0, 2.0, 10.0])
    probabilities = class_probabilities(mean, std)
    for row in range(5):
        scores = mean[row] / std[row]
        for c in range(7):
            others = np.delete(scores, c)
            reference, _ = quad(
                lambda z, own=scores[c], others=others: norm.pdf(z) * norm.cdf(z + own - others).prod(),
                -12.0, 12.0, epsabs=1e-13, epsrel=1e-13, limit=400, points=[-6.0, 0.0, 6.0],
            )  # fmt: skip
            # The reference's own tolerance, with the two integrators' rounding.
            assert probabilities[row, c] == pytest.approx(reference, abs=1e-12)


def test_simulated_scores_win_as_often_as_stated():
    rng = np.random.default_rng(1)
    draws = 200_000
    mean, std = np.array([[0.3, 0.0, -0.5, 1.0]]), np.array([0.8])
    winners = (mean + std[:, None] * rng.normal(size=(draws, 4))).argmax(axis=1)
    frequency = np.bincount(winners, minlength=4) / draws
    stated = class_probabilities(mean, std)[0]
    # Four standard errors of a binomial frequency: each class fails with chance 6e-5 for another seed.
    assert (np.abs(frequency - stated) < 4.0 * np.sqrt(stated * (1.0 - stated) / draws)).all()


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_equal_means_share_the_probability_equally(classes):
    probabilities = class_probabilities(np.zeros((1, classes)), np.ones(1))
    # For a hundred classes the maximum's density is narrower; the rule must still resolve it.
    np.testing.assert_allclose(probabilities, 1.0 / classes, rtol=1e-13)


def test_zero_uncertainty_is_one_hot_and_ties_share():
    mean = np.array([[0.0, 1.0, -1.0], [2.0, 2.0, 0.0]])
    expected = [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    np.testing.assert_array_equal(class_probabilities(mean, np.zeros(2)), expected)


def test_vanishing_uncertainty_tends_to_one_hot():
    probabilities = class_probabilities(np.array([[0.0, 1.0, -1.0]]), np.array([1e-300]))
    np.testing.assert_array_equal(probabilities, [[0.0, 1.0, 0.0]])


def test_unbounded_uncertainty_tends_to_equal_shares():
    probabilities = class_probabilities(np.array([[0.0, 1.0, -1.0]]), np.array([1e12]))
    # The shares differ from 1/3 by O(1/std).
    np.testing.assert_allclose(probabilities, 1.0 / 3.0, atol=1e-11)


@settings(max_examples=50, deadline=None)
@given(
    mean=st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    std=st.floats(0.0, 1e3),
    shift=st.floats(-100, 100),
)
def test_rows_are_distributions_ordered_as_the_means(mean, std, shift):
    mean = np.array([mean])
    probabilities = class_probabilities(mean, np.array([std]))
    assert (probabilities >= 0.0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-14)
    order = np.argsort(mean[0], kind="stable")
    assert (np.diff(probabilities[0, order]) >= -1e-14).all()
    permuted = class_probabilities(np.ascontiguousarray(mean[:, order]), np.array([std]))
    np.testing.assert_allclose(permuted, probabilities[:, order], atol=1e-14)


def test_arrays_keep_library_and_dtype():
    assert class_probabilities(np.zeros((2, 3), np.float32), np.ones(2, np.float32)).dtype == np.float32
    result = class_probabilities(jnp.zeros((2, 3)), jnp.ones(2))
    assert not isinstance(result, np.ndarray)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (np.zeros((2, 1)), np.ones(2), "at least two classes"),
        (np.zeros((2, 3)), np.array([1.0, -1.0]), "std >= 0, got -1.0"),
        (np.array([[0.0, np.nan]]), np.ones(1), "finite values, got nan at mean"),
    ],
)
def test_bad_arguments_are_named(mean, std, message):
    with pytest.raises(ValueError, match=message):
        class_probabilities(mean, std)
