"""The layer-wise kernel of every kind of structure against explicit Jacobians, in each form and each kind of kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.empirical.models import MODELS, explicit_jacobian

from ntkit.empirical import EmpiricalNTK
from ntkit.empirical.blocks import Task, block, tile_derivatives
from ntkit.empirical.contraction import Full, PerOutput, Traced
from ntkit.empirical.function import one_example
from ntkit.empirical.plan import study
from ntkit.empirical.structure import Lookup

KINDS = {"traced": Traced(), "per output": PerOutput(), "full": Full()}


def table(*fast: str):
    """All models, those not named in tests that take long when they are many."""
    marked = [pytest.param(model, marks=[] if model.name in fast else pytest.mark.slow) for model in MODELS]
    return pytest.mark.parametrize("model", marked, ids=str)


def by_hand(left, right):
    """All three kinds from Jacobians (n, k, P) and (m, k, P)."""
    full = np.einsum("nap,mbp->nmab", left, right)
    per_output = np.einsum("nmaa->nma", full)
    return {"traced": per_output.mean(axis=-1), "per output": per_output, "full": full}


@table(
    "heads",
    "embedding",
    "channels first, in groups",
)
def test_every_form_and_kind_is_the_product_of_explicit_jacobians(model):
    params, x1, x2 = model.params(), model.inputs(3, 1), model.inputs(2, 2)
    left, right = explicit_jacobian(model.f, params, x1), explicit_jacobian(model.f, params, x2)
    names = sorted(params)
    with jax.enable_x64(True):
        arrays = {name: jnp.asarray(value) for name, value in params.items()}
        known = study(model.f, arrays, jnp.asarray(x1[0]), (True,) * len(names))
        assert known.outputs == left[names[0]].shape[1]
        assert {names[leaf] for leaf in known.structure.uses} == set(model.structured)

        def grams(form):
            looked_up = {
                leaf for leaf, uses in known.structure.uses.items() if isinstance(uses[0].kind, Lookup)
            }
            forms = dict.fromkeys(known.structure.uses, form)
            if form == "deferred":  # a table's gradient is formed at once
                forms |= dict.fromkeys(looked_up, "gradients")
            groups = tuple(((leaf, forms.get(leaf, "rows")),) for leaf in range(len(names)))
            tasks = {
                name: Task(model.f, groups, kind, known.outputs, chunk=2) for name, kind in KINDS.items()
            }
            points = [jnp.asarray(x) for x in (x1, x2)]
            return {
                name: block(task, *(tile_derivatives(task, arrays, {}, x) for x in points))
                for name, task in tasks.items()
            }

        results = jax.jit(lambda: {form: grams(form) for form in ("pairs", "gradients", "deferred")})()
        results = jax.tree_util.tree_map(np.array, results)
    for kinds in results.values():
        for index, name in enumerate(names):
            expected = by_hand(left[name], right[name])
            for kind, value in expected.items():
                # sums of some hundred float64 products: 1e-10 of the scale asked for, 1e-13 reached
                scale = np.abs(value).max() + np.abs(expected["full"]).max()
                np.testing.assert_allclose(kinds[kind][index], value, rtol=0, atol=1e-13 * scale)


@table("scaled biases", "images")
def test_the_kernel_its_blocks_and_its_diagonal_agree_with_explicit_jacobians(model):
    params, x = model.params(), model.inputs(3, 1)
    rows = explicit_jacobian(model.f, params, x)
    expected = {name: by_hand(row, row)["traced"] for name, row in rows.items()}
    kernel = EmpiricalNTK(model.f, params)
    whole = sum(expected.values())
    scale = np.abs(whole).max()
    gram = kernel(x)
    assert gram.dtype == np.float64
    np.testing.assert_allclose(gram, whole, rtol=0, atol=1e-13 * scale)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(kernel.diag(x), np.diag(whole), rtol=0, atol=1e-13 * scale)
    blocks = kernel.blocks(x)
    assert sorted(blocks) == sorted(params)
    for name, gram in blocks.items():
        np.testing.assert_allclose(gram, expected[name], rtol=0, atol=1e-13 * scale)


def test_one_example_joins_outputs_in_the_order_of_the_pytree():
    single = one_example(lambda p, x: {"b": x[:, :1] * p, "a": jnp.stack([x, 2 * x], axis=1)})
    np.testing.assert_array_equal(single(3.0, jnp.array([1.0, 2.0])), [1.0, 2.0, 2.0, 4.0, 3.0])
