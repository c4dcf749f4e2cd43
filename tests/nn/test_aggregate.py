"""Graph convolutions against matrices over all nodes of all graphs at once."""

import numpy as np
import pytest
from tests.nn.finite_networks import assert_tend_to_both_kernels
from tests.nn.spatial_networks import pooled, relu

from ntkit import nn
from ntkit.kernels import nngp_and_ntk

NODES = 6


def graphs(seed=0, count=3, nodes=NODES):
    """Features of the nodes of some graphs, and two adjacencies: weighted, directed, with loops and without a norm."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(-0.5, 1.0, (2, nodes, nodes)) * (rng.uniform(size=(2, nodes, nodes)) < 0.6)
    return rng.standard_normal((count, nodes, 3)), weights


def network(first, second, end=pooled):
    return nn.Serial(
        nn.Dense(8, 1.3, 0.2), relu, nn.Aggregate(first),
        nn.Dense(8, 1.1, 0.3), relu, nn.Aggregate(second), end, nn.Dense(1, 1.2),
    )  # fmt: skip


def brute_force(x, adjacencies):
    """Both kernels from matrices over all nodes of all graphs, in which graphs are blocks.

    Dense: K ← w² K + b², T ← K + w² T. Relu: arc-cosine formulas. Neighbours: both sides times the adjacency's block
    matrix. The mean over blocks is pooling.
    """
    count, nodes, channels = x.shape
    flat = x.reshape(-1, channels)
    nngp, ntk = flat @ flat.T / channels, 0.0
    for (w, b), adjacency in zip(((1.3, 0.2), (1.1, 0.3)), adjacencies, strict=True):
        nngp = w**2 * nngp + b**2
        ntk = nngp + w**2 * ntk
        norms = np.sqrt(np.diag(nngp))
        angle = np.arccos(np.clip(nngp / np.outer(norms, norms), -1.0, 1.0))
        ntk = ntk * (np.pi - angle) / (2 * np.pi)
        nngp = np.outer(norms, norms) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
        blocks = np.kron(np.eye(count), adjacency)
        nngp, ntk = blocks @ nngp @ blocks.T, blocks @ ntk @ blocks.T
    nngp, ntk = (part.reshape(count, nodes, count, nodes).mean(axis=(1, 3)) for part in (nngp, ntk))
    return 1.44 * nngp, 1.44 * nngp + 1.44 * ntk


def test_graph_convolutions_are_sums_over_directed_neighbours():
    """1e-7: `arccos` near 1 in the formula by brute force."""
    x, adjacencies = graphs()
    assert np.abs(adjacencies - adjacencies.transpose(0, 2, 1)).max() > 0.5
    found = nngp_and_ntk(network(*adjacencies), x)
    np.testing.assert_allclose(found, brute_force(x, adjacencies), rtol=1e-7)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found, brute_force(x, adjacencies.transpose(0, 2, 1)), rtol=1e-2)


@pytest.mark.slow
def test_graphs_of_a_batch_do_not_see_each_other():
    """Two sets of graphs of unequal number, and one by one."""
    x, adjacencies = graphs(count=5)
    net = network(*adjacencies)
    whole = brute_force(x, adjacencies)
    for found, expected in zip(nngp_and_ntk(net, x[:2], x[2:]), whole, strict=True):
        np.testing.assert_allclose(found, expected[:2, 2:], rtol=1e-7)
    for found, expected in zip(nngp_and_ntk(net, x[3:4], x[1:2]), whole, strict=True):
        np.testing.assert_allclose(found[0, 0], expected[3, 1], rtol=1e-7)


@pytest.mark.slow
def test_the_names_of_nodes_do_not_matter():
    x, adjacencies = graphs()
    order = np.random.default_rng(1).permutation(NODES)
    renamed = nngp_and_ntk(network(*adjacencies[:, order][:, :, order]), x[:, order])
    np.testing.assert_allclose(renamed, nngp_and_ntk(network(*adjacencies), x), rtol=1e-12)


def test_graphs_of_unequal_size_are_padded_and_masked():
    """A graph with nodes that do not exist, whatever edges they have, is the graph without them."""
    x, adjacencies = graphs()
    x[1:, 4:] = -9.0
    found = nngp_and_ntk(nn.Serial(nn.Mask(-9.0), network(*adjacencies)), x)
    smaller = brute_force(x[1:, :4], adjacencies[:, :4, :4])
    for gram, expected, whole in zip(found, smaller, brute_force(x[:1], adjacencies), strict=True):
        np.testing.assert_allclose(gram[1:, 1:], expected, rtol=1e-7)
        np.testing.assert_allclose(gram[0, 0], whole[0, 0], rtol=1e-7)


@pytest.mark.slow
def test_finite_graph_networks_tend_to_both_kernels():
    """Mean of f fᵀ and of the empirical NTK over 300 networks of width 128: five standard errors plus 6/width."""
    x, adjacencies = graphs(count=2)
    width, networks = 128, 300
    net = nn.Serial(
        nn.Dense(width, 1.3, 0.2), relu, nn.Aggregate(adjacencies[0]), nn.Dense(width, 1.1, 0.3), relu,
        nn.Aggregate(adjacencies[1]), pooled, nn.Dense(1, 1.2),
    )  # fmt: skip
    exact = brute_force(x, adjacencies)
    assert_tend_to_both_kernels(net, x, networks, bias=6 / width, most=0.6, exact=exact)
