"""Search spaces: names, coordinates, and the networks they describe."""

import numpy as np
import pytest

from ntkit.inference.search_space import Candidate, NetworkFamily, SearchSpace, activation_named
from ntkit.kernels import NNGP, NTK
from ntkit.nn import Dense, Erf, LeakyRelu, Relu, Scale, Serial


def _space(depth=2, activation=Relu(), kernel="nngp", ard=False, input_scale=1.0, target_scale=1.0):  # noqa: B008
    return SearchSpace(
        NetworkFamily(Candidate(depth, activation, kernel, ard), 3, 2, 64), input_scale, target_scale
    )


def test_activations_are_found_by_name_in_any_case():
    assert activation_named("ReLU") == Relu()
    assert activation_named(LeakyRelu(0.2)) == LeakyRelu(0.2)


@pytest.mark.parametrize("name", ["rellu", "monomial"])
def test_an_unknown_activation_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=r"one of abs, .*relu.*, got"):
        activation_named(name)


def test_only_homogeneous_activations_have_fixed_hidden_weights():
    assert "input w_std" not in _space().names
    assert "hidden w_std" not in _space(activation=LeakyRelu(0.3)).names
    assert {"input w_std", "hidden w_std"} <= set(_space(activation=Erf()).names)


def test_hidden_relu_weights_are_critical():
    assert _space().candidate.second_moment ** -0.5 == pytest.approx(np.sqrt(2.0), rel=1e-12)


def test_layers_share_their_parameters_as_documented():
    space = _space(depth=3, activation=Erf(), ard=True)
    values = np.arange(1.0, len(space.names) + 1.0)
    value = dict(zip(space.names, values, strict=True))
    hidden = [Dense(64, value["hidden w_std"], value["hidden b_std"]), Erf()]
    expected = Serial(
        Scale(values[-3:]),
        Dense(64, value["input w_std"], value["input b_std"]),
        Erf(),
        *hidden,
        *hidden,
        Dense(2, value["readout w_std"], value["readout b_std"]),
    )
    assert space.family.network(values) == expected
    assert space.family(values) == NNGP(expected)


def test_depth_zero_is_a_linear_model():
    space = _space(depth=0, kernel="ntk")
    assert space.names == ("readout w_std", "readout b_std", "noise")
    assert space.family(np.array([2.0, 0.5, 0.1])) == NTK(Serial(Dense(2, 2.0, 0.5)))


@pytest.mark.parametrize("activation", [Relu(), Erf()])
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_the_centre_explains_the_targets_scale_in_any_units(activation, kernel):
    x = np.random.default_rng(0).normal(size=(50, 3))
    reference = None
    for input_scale, target_scale in ((1.0, 1.0), (1e4, 1.0), (1.0, 1e-3)):
        space = _space(
            activation=activation, kernel=kernel, input_scale=input_scale, target_scale=target_scale
        )
        centre = space.values(np.zeros(len(space.names)))
        variance = space.family(centre).diag(x * input_scale) / target_scale**2
        assert 0.3 < variance.mean() < 3.0
        reference = variance if reference is None else reference
        np.testing.assert_allclose(variance, reference, rtol=1e-12)


def test_coordinates_and_values_are_inverse():
    space = _space(depth=2, activation=Erf(), ard=True)
    point = space.start(np.random.default_rng(0), 1)
    np.testing.assert_allclose(space.coordinates(space.values(point)), point, atol=1e-13)


def test_starts_lie_within_the_bounds():
    space = _space(depth=2, activation=Erf(), ard=True)
    lower, upper = np.array(space.bounds).T
    for seed in range(20):
        point = space.start(np.random.default_rng(seed), 1)
        assert (point >= lower).all()
        assert (point <= upper).all()


def test_adding_feature_scales_leaves_the_kernel_as_it_was():
    plain, scaled = _space(activation=Erf()), _space(activation=Erf(), ard=True)
    point = plain.start(np.random.default_rng(0), 1)
    carried = scaled.values(scaled.carried(plain, point))
    x = np.random.default_rng(1).normal(size=(6, 3))
    np.testing.assert_allclose(scaled.family(carried)(x), plain.family(plain.values(point))(x), rtol=1e-12)


def test_a_negative_depth_is_refused():
    with pytest.raises(ValueError, match="depth of at least 0, got -1"):
        Candidate(-1, Relu(), "nngp")
