"""The tiled Gram matrix and its pullback against the kernel itself and central differences."""

import numpy as np
import pytest

from ntkit.inference.gram_gradient import TILE, DifferentiableGram
from ntkit.inference.search_space import Candidate, NetworkFamily
from ntkit.kernels import RBF
from ntkit.nn import Relu


def _rbf(parameters):
    return RBF(length_scale=parameters[0], variance=parameters[1])


@pytest.mark.parametrize("points", [1, TILE - 1, TILE, TILE + 1, 2 * TILE + 5])
def test_tiles_make_up_the_kernel_for_any_number_of_points(points):
    x = np.random.default_rng(0).normal(size=(points, 2))
    parameters = np.array([1.3, 0.7])
    gram = DifferentiableGram(_rbf).gram(parameters, x)
    np.testing.assert_allclose(gram, RBF(1.3, 0.7)(x), atol=1e-14)
    np.testing.assert_array_equal(gram, gram.T)


@pytest.mark.parametrize("points", [5, TILE + 3])
def test_the_pullback_agrees_with_central_differences(points):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(points, 2)), rng.normal(size=(points, points))
    weights = weights + weights.T
    parameters, h = np.array([1.3, 0.7]), 1e-5
    gram = DifferentiableGram(_rbf)
    gradient = gram.pullback(parameters, x, weights)
    for i, step in enumerate(np.eye(2) * h):
        difference = RBF(*(parameters + step))(x) - RBF(*(parameters - step))(x)
        slope = np.sum(weights * difference) / (2.0 * h)
        # Central differences: h^2 = 1e-10 from curvature and eps/h = 2e-11 from rounding, relative to the
        # sum of absolute contributions.
        assert gradient[i] == pytest.approx(slope, abs=1e-9 * np.abs(weights).sum())


def test_a_network_is_differentiated_through_duplicate_and_zero_points():
    x = np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0], [-1.0, -2.0]])
    family = NetworkFamily(Candidate(2, Relu(), "ntk"), 2, 1, 8)
    values = np.linspace(0.5, 1.5, len(family.names))
    gram = DifferentiableGram(family)
    np.testing.assert_allclose(gram.gram(values, x), family(values)(x), rtol=1e-7)
    assert np.isfinite(gram.pullback(values, x, np.ones((4, 4)))).all()


def test_equal_families_are_equal_keys_of_the_compilation_cache():
    families = [NetworkFamily(Candidate(2, Relu(), "ntk"), 2, 1, 8) for _ in range(2)]
    assert families[0] == families[1]
    assert hash(families[0]) == hash(families[1])
    assert families[0] != NetworkFamily(Candidate(2, Relu(), "nngp"), 2, 1, 8)
