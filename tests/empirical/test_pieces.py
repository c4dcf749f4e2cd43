"""Examples in pieces, outputs a few at a time, gradients in parts: the kernel is the same however it is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit.empirical import EmpiricalNTK, formed, plan
from ntkit.empirical.contraction import Full, PerOutput, Traced
from ntkit.empirical.factors import Factors

OUTPUTS = 7
EXAMPLES = 130
"""Enough for four pieces, 33 + 33 + 33 + 31."""


def mlp(params, x):
    """Two dense layers, one with a bias, and a gain that is held in rows."""
    hidden = jnp.tanh(x @ params["in"] + params["bias"][None, :]) * params["gain"][None, :]
    return hidden @ params["out"]


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


PARAMS = {"in": draw(1, 5, 6), "bias": draw(2, 6), "gain": draw(3, 6), "out": draw(4, 6, OUTPUTS)}
X1, X2 = draw(5, EXAMPLES, 5), draw(6, 9, 5)


def by_hand(name=None):
    """All pairs of outputs of both sets of points from `jax.jacfwd`, over one leaf or all."""
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(jnp.array, PARAMS)
        jacobian = jax.jacfwd(lambda p: mlp(p, jnp.concatenate([jnp.array(X1), jnp.array(X2)])))(params)
        leaves = [np.array(leaf).reshape(EXAMPLES + 9, OUTPUTS, -1) for leaf in jacobian.values()]
    leaves = dict(zip(jacobian, leaves, strict=True))
    rows = np.concatenate(list(leaves.values()) if name is None else [leaves[name]], axis=-1)
    return np.einsum("nap,mbp->nmab", rows[:EXAMPLES], rows)


def close(result, expected):
    # sums of some hundred float64 products in another order
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.fixture(
    params=[pytest.param(1, marks=pytest.mark.slow), 3],
    ids=["one output at a time", "three outputs at a time, nine for seven"],
)
def kernel(request, monkeypatch):
    # In rows 6, of cotangents 6 + 7 numbers an example and output.
    an_output = 8 * (6 + 6 + OUTPUTS)
    monkeypatch.setattr(plan, "OUTPUTS_BYTES", request.param * (EXAMPLES + 9) * an_output)
    kernel = EmpiricalNTK(mlp, PARAMS)
    assert kernel.plan(X1, X2).outputs_at_once == request.param
    assert "outputs at once" in str(kernel.plan(X1))
    return kernel


def test_a_few_outputs_at_a_time_give_the_traced_kernel(kernel):
    expected = np.einsum("nmaa->nm", by_hand()) / OUTPUTS
    gram = kernel(X1)
    close(gram, expected[:, :EXAMPLES])
    np.testing.assert_array_equal(gram, gram.T)
    close(kernel(X1, X2), expected[:, EXAMPLES:])
    blocks = kernel.blocks(X1)
    assert list(blocks) == sorted(PARAMS)
    for name, block in blocks.items():
        close(block, np.einsum("nmaa->nm", by_hand(name)[:, :EXAMPLES]) / OUTPUTS)


def test_a_few_outputs_at_a_time_under_jit_and_with_masked_entries(kernel):
    mask = {name: np.ones(value.shape, bool) for name, value in PARAMS.items()}
    mask["gain"] = np.arange(6) < 2
    masked = EmpiricalNTK(mlp, PARAMS, parameters=mask)
    assert masked.plan(X1).outputs_at_once is not None
    # Without a mask the other entries of the gain are left out by another function.
    kept = {name: value if name != "gain" else value[:2] for name, value in PARAMS.items()}

    def part(params, x):
        return mlp(params | {"gain": jnp.concatenate([params["gain"], jnp.array(PARAMS["gain"][2:])])}, x)

    close(masked(X1), EmpiricalNTK(part, kept)(X1))
    with jax.enable_x64(True):
        close(np.array(jax.jit(kernel)(jnp.array(X1))), kernel(X1))


@pytest.mark.parametrize("kind", ["per_output", "full"])
def test_pieces_of_examples_leave_an_exactly_symmetric_kernel(kind):
    kernel = EmpiricalNTK(mlp, PARAMS)
    gram = getattr(kernel, kind)(X1)
    full = by_hand()[:, :EXAMPLES]
    close(gram, full if kind == "full" else np.einsum("nmaa->nma", full))
    np.testing.assert_array_equal(gram, gram.transpose((1, 0, 3, 2) if kind == "full" else (1, 0, 2)))


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(1, marks=pytest.mark.slow),
        8,
        pytest.param(40, marks=pytest.mark.slow),
        pytest.param(10**6, marks=pytest.mark.slow),
    ],
    ids=lambda numbers: f"parts of {numbers}",
)
@pytest.mark.parametrize("kind", [Traced(), PerOutput(), Full()], ids=lambda kind: type(kind).__name__)
def test_gradients_formed_in_parts_are_those_formed_at_once(kind, numbers, monkeypatch):
    # 2 batches of 3 positions, 4 inputs, 6 numbers that come out, 6 outputs: parts of both are not told apart by chance
    examples = 5
    went_in, came_out = draw(1, examples, 2, 3, 4), draw(2, examples, 6, 2, 3, 6)
    for name in ("PART_BYTES", "OUTPUT_BYTES"):
        monkeypatch.setattr(formed, name, numbers * examples * 2 * 8)
    gradients = np.einsum("nbsi,nkbsj->nkbij", went_in, came_out).reshape(examples, 6, -1)
    full = np.einsum("nap,mbp->nmab", gradients, gradients)
    wanted = {
        "Traced": np.einsum("nmaa->nm", full) / 6,
        "PerOutput": np.einsum("nmaa->nma", full),
        "Full": full,
    }[type(kind).__name__]
    pairs = [(0, 0), (0, 1), (1, 1)]

    def formed_sums(*arguments):
        sums = formed.formed_sums(kind, *arguments)
        return sums, [np.array(kind.finish(block, 6)) for block in sums]

    with jax.enable_x64(True):
        whole = Factors(jnp.array(went_in), jnp.array(came_out))
        left, right = (
            Factors(whole.went_in[part], whole.came_out[part]) for part in (slice(0, 3), slice(3, 5))
        )
        sums, own = formed_sums(whole, whole, [(0, 3), (3, 5)], pairs, None)
        _, twice = formed_sums(whole, whole, [(0, 3), (3, 5)], pairs, sums)
        _, (other,) = formed_sums(left, right, None, [(0, 0)], None)
    for once, added in zip(own, twice, strict=True):
        close(added, 2 * once)
    close(own[0], wanted[:3, :3])
    close(own[1], wanted[:3, 3:])
    close(own[2], wanted[3:, 3:])
    close(other, wanted[:3, 3:])


def test_parts_cut_the_first_axes_first():
    assert formed._parts((10, 6, 4), 240, (240,) * 3) == (1, 1, 1)
    assert formed._parts((10, 6, 4), 240, (100, 100, 100)) == (5, 1, 1)
    assert formed._parts((10, 6, 4), 240, (9, 9, 9)) == (10, 3, 1)
    assert formed._parts((10, 6, 4), 240, (0, 0, 0)) == (10, 6, 4)
    assert formed._parts((10, 6, 4), 240, (9, 24, 24)) == (10, 1, 1)
    assert formed._parts((10, 6, 4), 240, (9, 23, 23)) == (10, 2, 1)
