"""The recurrent layer: two steps by hand, the recursion over all pairs of times by brute force, finite networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.nn.finite_networks import assert_tend_to_both_kernels, of_last_units

from ntkit import NNGP, NTK, nn
from ntkit.kernels import nngp_and_ntk

LAST, MEAN, END = nn.Index((-1,)), nn.GlobalAvgPool(), nn.Dense(1, 1.2, 0.1)


def sequences(count, times=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, times, 2))


def relu_duals(cov, var1, var2):
    scale = np.sqrt(var1 * var2)
    angle = np.arccos(np.clip(np.divide(cov, scale, out=np.zeros_like(cov), where=scale > 0), -1, 1))
    dual = scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return dual, (np.pi - angle) / (2 * np.pi)


def by_hand(x1, x2, w, u, b):
    """Both kernels of ReLU units at all pairs of times of two sequences, shape (T, T), one pair after the other."""
    x = np.concatenate([x1, x2])
    inputs, times = x @ x.T / x.shape[1], len(x1)
    nngp, ntk = np.zeros((2, 2 * times, 2 * times))
    for t, s in sorted(np.ndindex(times, times), key=max):
        for i, j in ((t, s), (t, times + s), (times + t, times + s)):
            nngp[i, j] = u**2 * inputs[i, j] + b**2
            if t and s:
                past = nngp[i - 1, j - 1], nngp[i - 1, i - 1], nngp[j - 1, j - 1]
                dual, slope = relu_duals(*past)
                nngp[i, j] += w**2 * dual
                ntk[i, j] = w**2 * slope * ntk[i - 1, j - 1]
            ntk[i, j] += nngp[i, j]
    return nngp[:times, times:], ntk[:times, times:]


def test_two_steps_by_hand():
    """x = (1), (1) against (1), (-1): the covariance before is 1, of ReLU 1/2, its slope's 1/2."""
    x = np.array([[[1.0], [1.0]], [[1.0], [-1.0]]])
    network = nn.Serial(nn.Recurrent(8, nn.Relu(), 2.0, 1.5, 0.5), LAST)
    first = 1.5**2 + 0.5**2
    past = 4.0 * first / 2
    expected = past + 0.25 + 2.25 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(NNGP(network)(x), expected, rtol=1e-14)
    np.testing.assert_allclose(NTK(network)(x), expected + 4.0 / 2 * first, rtol=1e-14)
    standard = nn.Serial(nn.Recurrent(8, nn.Relu(), 2.0, 1.5, 0.5, "standard"), LAST)
    own = 8 * first / 2 + 1 + np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(NTK(standard)(x), own + 4.0 / 2 * (1 + 1), rtol=1e-14)


@pytest.mark.parametrize(
    "end", ["mean", *(pytest.param(name, marks=pytest.mark.slow) for name in ("last", "flat"))]
)
def test_all_pairs_of_times_follow_the_recursion(end):
    x1, x2 = sequences(3), sequences(3, seed=1)
    layer = {"last": LAST, "mean": MEAN, "flat": nn.Flatten()}[end]
    read = {
        "last": lambda gram: gram[-1, -1],
        "mean": lambda gram: gram.mean(),
        "flat": lambda gram: np.trace(gram) / len(gram),
    }[end]
    network = nn.Serial(nn.Recurrent(8, nn.Relu(), 1.4, 0.9, 0.3), layer)
    expected = np.array([[[read(k) for k in by_hand(a, b, 1.4, 0.9, 0.3)] for b in x2] for a in x1])
    for number, gram in enumerate(nngp_and_ntk(network, x1, x2)):
        np.testing.assert_allclose(gram, expected[..., number], rtol=1e-13)
    own = NTK(network).diag(x1)
    np.testing.assert_allclose(np.diag(NTK(network)(x1)), own, rtol=1e-13)
    np.testing.assert_allclose(np.diag(NTK(network)(x1, x1.copy())), own, rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "parametrization"),
    [
        ("last", "standard"),
        *(
            pytest.param(name, parametrization, marks=pytest.mark.slow)
            for name, parametrization in (
                ("mean", "ntk"),
                ("mean", "standard"),
                ("deep", "ntk"),
                ("offset", "standard"),
            )
        ),
    ],
)
def test_finite_networks_tend_to_both_kernels(name, parametrization):
    """Means over 200 networks of width 192: five standard errors and 8/width for four steps of shared weights."""
    width, networks = 192, 200

    def recurrent(activation):
        return nn.Recurrent(width, activation, 1.3, 0.8, 0.3, parametrization)

    body = {
        "last": (recurrent(nn.Relu()), LAST, nn.Relu()),
        "mean": (recurrent(nn.Erf(1.2, 1.0, 0.4)), MEAN),
        "deep": (recurrent(nn.Relu()), nn.Relu(), recurrent(nn.Tanh(degree=32)), nn.Relu(), MEAN),
        "offset": (nn.Conv(width, (2,)), nn.Relu(), nn.AvgPool((2,), (1,)), recurrent(nn.Cos()), nn.Gelu(), MEAN),
    }[name]  # fmt: skip
    assert_tend_to_both_kernels(
        nn.Serial(*body, END), sequences(2), networks, bias=8 / width, most=0.25, covariance=of_last_units
    )


@pytest.mark.slow
@pytest.mark.parametrize("end", ["flat", "sum"])
def test_absent_times_carry_nothing(end):
    """Two sequences in a row, absent times around them, are the two by themselves, with cos(0) = 1 or without."""
    absent, first, second = np.full((2, 2, 2), -5.0), sequences(2), sequences(2, seed=1)
    joined = np.concatenate([absent, first, absent[:, :1], second, absent], axis=1)
    layer = {"sum": nn.GlobalSumPool(), "flat": nn.Flatten()}[end]
    body = nn.Serial(nn.Recurrent(8, nn.Cos(), 1.4, 0.9, 0.3), layer)
    network = nn.Serial(nn.Mask(-5.0), body)
    alone = nngp_and_ntk(body, np.concatenate([first, second]))
    for gram, parts in zip(nngp_and_ntk(network, joined), alone, strict=True):
        blocks = [np.hsplit(rows, 2) for rows in np.vsplit(parts, 2)]
        if end == "sum":
            expected = sum(block for row in blocks for block in row)
        else:  # the mean over 13 equal times, of which 4 and 4 exist
            expected = (blocks[0][0] + blocks[1][1]) * 4 / 13
        np.testing.assert_allclose(gram, expected, rtol=1e-13)
    np.testing.assert_array_equal(np.diag(NTK(network)(joined)), NTK(network).diag(joined))
    params = network.init(jax.random.key(0), joined.shape)
    outputs = network.apply(params, jnp.asarray(joined, jnp.float32)).reshape(2, -1, 8)
    units = body.apply(params[1:], jnp.asarray(np.concatenate([first, second]), jnp.float32)).reshape(
        2, 2, -1, 8
    )
    expected = units.sum(axis=0) if end == "sum" else jnp.concatenate([units[0], units[1]], axis=1)
    found = outputs if end == "sum" else outputs[:, [2, 3, 4, 5, 7, 8, 9, 10]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_long_sequences_stay_finite_and_equal_ones_meet_exactly():
    x = sequences(2, 300)
    network = nn.Serial(nn.Recurrent(8, nn.Relu(), 2**0.5 * 0.99, 1.0, 0.1), LAST, END)
    x[1] = x[0]
    gram = NTK(network)(x)
    assert np.isfinite(gram).all()
    np.testing.assert_allclose(gram, gram[0, 0], rtol=1e-13)
    slope = jax.jit(jax.grad(lambda net: NTK(net)(jnp.asarray(x, jnp.float32)).sum()))(network)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree_util.tree_leaves(slope))


@pytest.mark.slow
def test_expansions_reach_their_tolerance_at_every_time():
    """Erf as an expansion, whose order is chosen from the variances of all times, is its closed form to 1e-8."""
    x = sequences(3)
    closed, expanded = (
        nn.Serial(nn.Recurrent(8, phi, 1.5, 1.0, 0.2), MEAN)
        for phi in (nn.Erf(), nn.Elementwise(jax.scipy.special.erf))
    )
    np.testing.assert_allclose(NTK(expanded)(x), NTK(closed)(x), rtol=1e-8)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Recurrent(0, nn.Relu()), "width of at least 1"),
        (lambda: nn.Recurrent(4, nn.Dense(4)), "an activation, as Relu"),
        (lambda: nn.Recurrent(4, nn.Relu(), -1.0), "w_std as a finite number of at least 0"),
        (lambda: NTK(nn.Serial(nn.Recurrent(4, nn.Relu()), LAST))(np.ones((2, 3))), "position 0 .*inputs of 1 spatial"),
        (lambda: NTK(nn.Serial(nn.Recurrent(4, nn.Relu())))(np.ones((2, 3, 1))), "outputs are vectors"),
    ],
)  # fmt: skip
def test_impossible_recurrent_layers_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
