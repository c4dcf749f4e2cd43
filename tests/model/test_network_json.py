"""A network survives JSON exactly, and nothing else does."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkit import nn
from ntkit.errors import ModelFileError
from ntkit.model.network import layer_classes, network_from_json, network_to_json

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
positive = st.floats(min_value=0.0, max_value=1e300, allow_nan=False)
dense = st.builds(nn.Dense, st.integers(1, 10**6), positive, positive, st.sampled_from(["ntk", "standard"]))
activation = st.one_of(
    *(st.just(cls()) for cls in (nn.Relu, nn.Abs, nn.Tanh, nn.Gelu, nn.Sigmoid, nn.Identity)),
    st.builds(nn.Erf, finite, finite, finite),
    st.builds(nn.LeakyRelu, finite),
    st.builds(nn.Monomial, st.integers(0, 5)),
    st.builds(lambda values: nn.Polynomial(tuple(values)), st.lists(finite, min_size=1, max_size=4)),
)
scales = st.builds(lambda values: nn.Scale(np.array(values)), st.lists(finite, min_size=1, max_size=5))
networks = st.builds(
    lambda first, blocks: nn.Serial(*first, *(layer for block in blocks for layer in block)),
    st.lists(scales, max_size=1),
    st.lists(st.one_of(st.tuples(dense), st.tuples(dense, activation)), min_size=1, max_size=4),
)


@given(networks)
def test_a_network_survives_json_to_the_last_digit(network):
    text = json.dumps(network_to_json(network), allow_nan=False)
    assert network_from_json(json.loads(text)) == network


def test_networks_of_images_survive_json():
    block = nn.Residual(nn.Serial(nn.Relu(), nn.Conv(8, (3, 2), (1, 1), "circular", 1.5)))
    network = nn.Serial(
        nn.Conv(8, (3, 3)),
        nn.Repeat(block, 2),
        nn.AvgPool((2, 2), normalize_edges=True),
        nn.Index((slice(1, None), -1)),
        nn.Parallel(nn.Conv(4, (3,)), nn.Serial(nn.Conv(4, (1,)), nn.LayerNorm()), merge="product"),
        nn.Recurrent(4, nn.Erf(), 1.2),
        nn.Flatten(),
        nn.Dense(1),
    )
    text = json.dumps(network_to_json(network), allow_nan=False)
    assert network_from_json(json.loads(text)) == network


def test_masks_and_embeddings_survive_json_without_functions_of_one_s_own():
    attention = nn.GlobalSelfAttention(4, positions=nn.PositionalEmbedding(1.2, merge="concat", channels=3))
    network = nn.Serial(
        nn.Mask(-2.5), nn.Dense(4), nn.PositionalEmbedding(0.5, 1.5), attention, nn.GlobalAvgPool()
    )
    text = json.dumps(network_to_json(network), allow_nan=False)
    assert network_from_json(json.loads(text)) == network
    with pytest.raises(ModelFileError, match="functions of your own, got decay"):
        network_to_json(nn.PositionalEmbedding(0.5, 1.5, lambda r: 1.0 / (1.0 + r)))


def test_every_public_layer_without_required_functions_can_be_saved():
    public = {getattr(nn, name) for name in nn.__all__}
    assert set(layer_classes().values()) == public - {nn.BatchNorm, nn.Elementwise, nn.Serial, nn.Parallel}


def test_numbers_of_other_libraries_are_saved_as_numbers():
    network = nn.Serial(nn.Dense(3, np.float64(1.5)), nn.Dense(1, np.array(0.1)))
    assert network_from_json(network_to_json(network)) == nn.Serial(nn.Dense(3, 1.5), nn.Dense(1, 0.1))


def test_networks_saved_before_a_field_existed_are_read_with_its_default():
    description = network_to_json(nn.Dense(3, 1.5))
    del description["axis"]
    assert network_from_json(description) == nn.Dense(3, 1.5)


def test_a_python_function_cannot_be_saved():
    with pytest.raises(ModelFileError, match="without Python functions"):
        network_to_json(nn.Serial(nn.Dense(1), nn.Elementwise(np.sin)))


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"layer": "System"}, "'System', unknown"),
        ({"layer": "Elementwise", "fn": "print"}, "'Elementwise', unknown"),
        ({"layer": "Layer"}, "'Layer', unknown"),
        ({"layer": "Dense", "width": 1}, "needs the fields"),
        ({"layer": "Relu", "extra": 1}, "needs the fields"),
        ({"layer": "Dense", "width": 0, "w_std": 1.0, "b_std": 0.0, "parametrization": "ntk"}, "refuses"),
        ({"layer": "Serial", "layers": 3}, "list of layers"),
        ({"layer": "Serial", "layers": []}, "list of layers"),
        ({"layer": ["Dense"]}, "unknown"),
        ({"layer": "Parallel", "branches": []}, "list of branches"),
        ({"layer": "Serial", "layers": [{"layer": "Relu"}, {"layer": "Relu"}]}, "refuses"),
        ([], "dictionary with the key 'layer'"),
    ],
)
def test_descriptions_that_are_no_network_are_refused(description, message):
    with pytest.raises(ModelFileError, match=message):
        network_from_json(description)
