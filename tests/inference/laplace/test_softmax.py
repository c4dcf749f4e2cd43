"""The softmax likelihood's curvature against JAX's Hessian, and expected softmaxes against quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ntkit.inference.laplace.softmax import (
    as_labels,
    curvature_root,
    likelihood_probabilities,
    log_likelihood,
    probit_probabilities,
)


@jax.jit
def loss_and_hessian(scores, label):
    """`-log p(label)` and its second derivative, by JAX."""

    def loss(s):
        return -jax.nn.log_softmax(s)[label]

    return loss(scores), jax.hessian(loss)(scores)


@given(scores=arrays(np.float64, (4, 3), elements=st.floats(-30, 30)))
@settings(max_examples=15)
def test_the_root_squares_to_the_negative_hessian_of_the_log_likelihood(scores):
    labels = np.array([0, 1, 2, 1])
    with jax.enable_x64(True):
        pairs = [loss_and_hessian(jnp.asarray(s), c) for s, c in zip(scores, labels, strict=True)]
        value, hessians = -sum(float(loss) for loss, _ in pairs), np.array([pair[1] for pair in pairs])
    root = curvature_root(scores)
    assert root.shape == (4, 3, 2)
    np.testing.assert_allclose(root @ root.transpose(0, 2, 1), hessians, atol=1e-14)
    assert log_likelihood(scores, labels) == pytest.approx(value, rel=1e-13, abs=1e-13)


def test_a_single_score_is_the_difference_of_two():
    difference = np.linspace(-40.0, 40.0, 9)[:, None]
    pair = np.concatenate([np.zeros_like(difference), difference], axis=1)
    labels = np.arange(9) % 2
    np.testing.assert_allclose(
        likelihood_probabilities(difference), likelihood_probabilities(pair), rtol=1e-14
    )
    assert log_likelihood(difference, labels) == pytest.approx(log_likelihood(pair, labels), rel=1e-14)
    single, double = curvature_root(difference), curvature_root(pair)
    np.testing.assert_allclose(
        (double @ double.transpose(0, 2, 1))[:, 1, 1], single[:, 0, 0] ** 2, rtol=1e-12
    )
    covariance = np.linspace(0.0, 9.0, 9)[:, None, None]
    both = covariance * np.array([[0.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(
        probit_probabilities(difference, covariance), probit_probabilities(pair, both), rtol=1e-12
    )


def test_certain_predictions_have_no_curvature_and_no_nan():
    root = curvature_root(np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 1e4]]))
    assert not root[0].any()
    np.testing.assert_allclose(
        (root @ root.transpose(0, 2, 1))[1, 1:, 1:], [[0.25, -0.25], [-0.25, 0.25]], atol=1e-15
    )


@pytest.mark.parametrize("std", [0.3, 1.0, 3.0, 10.0])
def test_for_two_classes_the_probit_approximation_errs_by_two_hundredths_at_most(std):
    """Against Gauss-Hermite quadrature in 200 nodes of the logistic function, for all means."""
    mean = np.linspace(-20.0, 20.0, 81)
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    exact = (weights / np.sqrt(2 * np.pi)) @ (1 / (1 + np.exp(-(mean[None, :] + std * nodes[:, None]))))
    approximate = probit_probabilities(mean[:, None], np.full((81, 1, 1), std**2))[:, 1]
    assert np.abs(approximate - exact).max() < 0.02


def test_what_all_scores_share_does_not_matter_and_no_uncertainty_is_the_softmax():
    generator = np.random.default_rng(0)
    mean = 3 * generator.normal(size=(5, 4))
    factor = generator.normal(size=(5, 4, 4))
    covariance = factor @ factor.transpose(0, 2, 1)
    probabilities = probit_probabilities(mean, covariance)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(probit_probabilities(mean + 7.0, covariance + 50.0), probabilities, rtol=1e-10)
    np.testing.assert_allclose(
        probit_probabilities(mean, 0 * covariance), likelihood_probabilities(mean), rtol=1e-13
    )
    assert np.isfinite(probit_probabilities(1e5 * mean, covariance)).all()


def test_labels_out_of_range_or_of_another_kind_are_refused():
    scores = np.zeros((3, 4))
    np.testing.assert_array_equal(as_labels("fit", np.array([0, 3, 1], np.uint8), scores), [0, 3, 1])
    np.testing.assert_array_equal(as_labels("fit", np.array([True, False, True]), scores[:, :1]), [1, 0, 1])
    with pytest.raises(
        ValueError, match=r"labels from 0 to 3 for a model of 4 outputs, got 4 at labels\[1\]"
    ):
        as_labels("fit", np.array([0, 4, 1]), scores)
    with pytest.raises(
        ValueError, match=r"labels from 0 to 1 for a model of 1 output, got -1 at labels\[2\]"
    ):
        as_labels("fit", np.array([0, 1, -1]), scores[:, :1])
    with pytest.raises(ValueError, match="labels as whole numbers, got float64"):
        as_labels("fit", np.array([0.0, np.nan, 1.0]), scores)
    with pytest.raises(ValueError, match=r"one label per point, shape \(3,\), got \(3, 4\)"):
        as_labels("fit", np.eye(3, 4, dtype=int), scores)
