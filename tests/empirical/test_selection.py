"""Kernels of some of the parameters against explicit Jacobians with columns left out, and sums of blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.empirical.models import explicit_jacobian, product

from ntkit.empirical import EmpiricalNTK

SHAPES = {
    "body/0/w": (3, 4),
    "body/0/lora_down": (3, 2),
    "body/0/lora_up": (2, 4),
    "body/1/w": (4, 4),
    "body/1/b": (4,),
    "head": (4, 2),
}


def nested(leaves):
    first = {name: leaves[f"body/0/{name}"] for name in ("w", "lora_down", "lora_up")}
    second = {name: leaves[f"body/1/{name}"] for name in ("w", "b")}
    return {"body": [first, second], "head": leaves["head"]}


def network(params, x):
    first, second = params["body"]
    hidden = product(x, first["w"]) + product(product(x, first["lora_down"]), first["lora_up"])
    hidden = jnp.tanh(product(jnp.tanh(hidden), second["w"]) + second["b"][None, :])
    return product(hidden, params["head"])


@pytest.fixture(scope="module")
def drawn():
    """Parameters by name, points, and the Jacobian of each parameter."""
    generator = np.random.default_rng(0)
    leaves = {name: generator.normal(size=shape) for name, shape in SHAPES.items()}
    x = generator.normal(size=(3, 3))
    return leaves, x, explicit_jacobian(lambda p, points: network(nested(p), points), leaves, x)


def by_hand(rows, kept):
    """The traced kernel of columns `kept[name]` (True for all)."""
    columns = [rows[name] * np.reshape(keep, -1) for name, keep in kept.items()]
    joined = np.concatenate(columns, axis=-1)
    return np.einsum("nop,mop->nm", joined, joined) / joined.shape[1]


def only(*names):
    return dict.fromkeys(names, True)


def close(result, expected):
    # sums of some hundred float64 products
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ("head", ["head"]),
        ("body/1", ["body/1/w", "body/1/b"]),
        (["head", "body/1/b"], ["body/1/b", "head"]),
        ("*lora*", ["body/0/lora_down", "body/0/lora_up"]),
        ("body/?/w", ["body/0/w", "body/1/w"]),
        (lambda name: name.endswith("/w"), ["body/0/w", "body/1/w"]),
    ],
    ids=["leaf", "branch", "leaves", "pattern", "one letter", "function"],
)
def test_parameters_chosen_by_name(drawn, parameters, kept):
    leaves, x, rows = drawn
    kernel = EmpiricalNTK(network, nested(leaves), parameters=parameters)
    close(kernel(x), by_hand(rows, only(*kept)))
    assert sorted(leaf.name for _, leaf in kernel.plan(x).leaves) == sorted(kept)
    assert sorted(kernel.blocks(x)) == sorted(kept)


def test_a_pytree_of_booleans_chooses_leaves(drawn):
    leaves, x, rows = drawn
    mask = nested({name: name in ("head", "body/0/w") for name in SHAPES})
    kernel = EmpiricalNTK(network, nested(leaves), parameters=mask)
    by_name = EmpiricalNTK(network, nested(leaves), parameters=("head", "body/0/w"))
    np.testing.assert_array_equal(kernel(x), by_name(x))
    close(kernel(x), by_hand(rows, only("head", "body/0/w")))


@pytest.mark.parametrize("method", ["auto", "jacobian", "products"])
def test_a_mask_of_entries_drops_columns_of_the_jacobian(drawn, method):
    leaves, x, rows = drawn
    generator = np.random.default_rng(1)
    mask = {name: generator.random(shape) < 0.5 for name, shape in SHAPES.items()}
    mask["body/1/w"] = np.ones((4, 4), bool)  # a whole leaf keeps its structure
    mask["body/0/w"] = np.zeros((3, 4), bool)
    kernel = EmpiricalNTK(network, nested(leaves), parameters=nested(mask), method=method)
    expected = by_hand(rows, mask)
    close(kernel(x), expected)
    close(kernel(x, x[:2]), expected[:, :2])
    close(kernel.diag(x), np.diag(expected))
    close(sum(kernel.blocks(x).values()), expected)
    if method == "auto":
        forms = {leaf.name: leaf.form for _, leaf in kernel.plan(x).leaves}
        assert forms["body/1/w"] != "rows"
        assert "body/0/w" not in forms


def test_groups_of_blocks_sum_to_the_kernel(drawn):
    leaves, x, rows = drawn
    kernel = EmpiricalNTK(network, nested(leaves))
    groups = kernel.blocks(x, by=lambda name: "adapter" if "lora" in name else name.split("/")[0])
    assert sorted(groups) == ["adapter", "body", "head"]
    close(sum(groups.values()), kernel(x))
    close(groups["adapter"], by_hand(rows, only("body/0/lora_down", "body/0/lora_up")))
    close(groups["body"], by_hand(rows, only("body/0/w", "body/1/w", "body/1/b")))


class TestErrorsSayWhatToDo:
    def test_an_unknown_name(self, drawn):
        leaves, x, _ = drawn
        with pytest.raises(ValueError, match=r"got 'tail'. The names are body/0/lora_down, .*, head"):
            EmpiricalNTK(network, nested(leaves), parameters=("head", "tail"))(x)

    @pytest.mark.parametrize(
        "parameters",
        [lambda name: False, [], nested(dict.fromkeys(SHAPES, False))],
        ids=["f", "list", "mask"],
    )
    def test_nothing_chosen(self, drawn, parameters):
        leaves, x, _ = drawn
        with pytest.raises(ValueError, match=r"choose at least one, got none. The names are body"):
            EmpiricalNTK(network, nested(leaves), parameters=parameters)(x)

    def test_a_mask_of_another_shape(self, drawn):
        leaves, x, _ = drawn
        mask = nested({name: np.ones(shape, bool) for name, shape in SHAPES.items()})
        mask["head"] = mask["head"].T
        with pytest.raises(
            ValueError, match=r"booleans, one or \(4, 2\) for head, got bool of shape \(2, 4\)"
        ):
            EmpiricalNTK(network, nested(leaves), parameters=mask)(x)

    def test_a_mask_of_another_structure(self, drawn):
        leaves, x, _ = drawn
        with pytest.raises(ValueError, match=r"structure of params.*jax.tree_util.tree_map over params"):
            EmpiricalNTK(network, nested(leaves), parameters={"head": True})(x)

    def test_numbers_for_booleans(self, drawn):
        leaves, x, _ = drawn
        mask = jax.tree_util.tree_map(np.ones_like, nested(leaves))
        with pytest.raises(ValueError, match=r"mask of booleans.*got float64"):
            EmpiricalNTK(network, nested(leaves), parameters=mask)(x)
