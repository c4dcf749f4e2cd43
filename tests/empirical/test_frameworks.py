"""Models of equinox, flax (linen and nnx) and haiku: their tangent kernels against explicit Jacobians in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkit.empirical import EmpiricalNTK

STRUCTURED = {"pairs", "gradients", "deferred"}
"""Forms of leaves whose layers were found."""


def drawn(params):
    """Parameters of the same shapes in float64, none of them at a special value (zero biases, scales of one)."""
    generator = np.random.default_rng(0)
    return jax.tree_util.tree_map(lambda leaf: 0.5 * generator.normal(size=leaf.shape), params)


def points(*shape):
    return np.random.default_rng(1).normal(size=shape)


def explicit_rows(f, params, x):
    """(n, k, P), by reverse mode on each example alone."""

    def single(p, point):
        outputs = f(p, jax.tree_util.tree_map(lambda leaf: leaf[None], point))
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree_util.tree_leaves(outputs)])

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        of = jax.jit(jax.vmap(jax.jacrev(single), in_axes=(None, 0)))
        tree = of(*jax.tree_util.tree_map(jnp.asarray, (params, x)))
        leaves = [np.array(leaf) for leaf in jax.tree_util.tree_leaves(tree)]
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1)


def check(f, params, x, weights):
    """The full kernel is that of explicit Jacobians; the layers of `weights`, and of no other leaf, were found."""
    rows = explicit_rows(f, params, x)
    expected = np.einsum("nap,mbp->nmab", rows, rows)
    kernel = EmpiricalNTK(f, params)
    result = kernel.full(x)
    assert result.dtype == np.float64
    # the bound that users are promised; some thousand float64 roundings stay far below it
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    found = {leaf.name for _, leaf in kernel.plan(x, kind="full").leaves if leaf.form in STRUCTURED}
    assert found == set(weights)


def test_an_equinox_module():
    equinox = pytest.importorskip("equinox")
    key = jax.random.key(0)
    model = equinox.nn.Sequential(
        [
            equinox.nn.Conv2d(2, 3, kernel_size=2, key=key),
            equinox.nn.Lambda(jax.nn.gelu),
            equinox.nn.Lambda(jnp.ravel),
            equinox.nn.LayerNorm(12),
            equinox.nn.Dropout(0.5, inference=True),
            equinox.nn.MLP(12, 2, width_size=4, depth=1, key=key),
        ]
    )
    params, static = equinox.partition(model, equinox.is_inexact_array)

    def f(p, x):
        return jax.vmap(equinox.combine(p, static))(x)

    weights = ("layers/0/weight", "layers/5/layers/0/weight", "layers/5/layers/1/weight")
    check(f, drawn(params), points(3, 2, 3, 3), weights)


def test_an_equinox_mask_made_by_tree_at():
    """Such a mask is a module, and as its model can be called."""
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.MLP(2, 2, width_size=3, depth=1, key=jax.random.key(0))
    params, static = equinox.partition(model, equinox.is_inexact_array)
    params, x = drawn(params), points(3, 2)

    def f(p, points):
        return jax.vmap(equinox.combine(p, static))(points)

    none = jax.tree_util.tree_map(lambda _: False, params)
    head = equinox.tree_at(lambda tree: tree.layers[-1].weight, none, replace=True)
    by_name = EmpiricalNTK(f, params, parameters="layers/1/weight")
    np.testing.assert_array_equal(EmpiricalNTK(f, params, parameters=head)(x), by_name(x))


def test_a_linen_transformer_on_tokens_and_a_mask():
    linen = pytest.importorskip("flax.linen")

    class Encoder(linen.Module):
        @linen.compact
        def __call__(self, inputs):
            hidden = linen.Embed(7, 4, name="embed")(inputs["tokens"])
            seen = linen.make_attention_mask(inputs["mask"], inputs["mask"])
            attend = linen.MultiHeadDotProductAttention(
                num_heads=2, dropout_rate=0.5, deterministic=True, name="attention"
            )
            hidden = linen.LayerNorm(name="norm")(hidden + attend(hidden, mask=seen))
            hidden = hidden + linen.gelu(linen.Dense(4, name="dense")(hidden))
            return {"class": linen.Dense(2, name="head")(hidden.mean(axis=1)), "token": hidden[:, :2, :1]}

    model = Encoder()
    tokens = np.random.default_rng(2).integers(0, 7, (3, 4))
    x = {"tokens": tokens, "mask": np.arange(4)[None, :] < np.array([[4], [2], [3]])}
    with jax.numpy_rank_promotion("allow"):  # flax broadcasts
        params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
        parts = [f"attention/{name}/kernel" for name in ("query", "key", "value", "out")]
        check(
            lambda p, x: model.apply({"params": p}, x),
            drawn(params),
            x,
            ("embed/embedding", *parts, "dense/kernel", "head/kernel"),
        )


def test_a_linen_convolutional_network():
    linen = pytest.importorskip("flax.linen")

    class Images(linen.Module):
        @linen.compact
        def __call__(self, x):
            hidden = linen.Conv(4, (2, 2), strides=2, name="first")(x)
            hidden = linen.relu(linen.GroupNorm(num_groups=2, name="norm")(hidden))
            hidden = linen.Conv(4, (2, 1), feature_group_count=2, padding="VALID", name="second")(hidden)
            return linen.Dense(2, name="head")(linen.avg_pool(hidden, (1, 2)).reshape(x.shape[0], -1))

    model, x = Images(), points(3, 4, 4, 2)
    with jax.numpy_rank_promotion("allow"):
        params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
        weights = ("first/kernel", "second/kernel", "head/kernel")
        check(lambda p, x: model.apply({"params": p}, x), drawn(params), x, weights)


def test_batch_normalisation_has_a_kernel_in_evaluation_mode_only():
    linen = pytest.importorskip("flax.linen")

    class Normalised(linen.Module):
        stored: bool

        @linen.compact
        def __call__(self, x):
            hidden = linen.Dense(3, name="first")(x)
            hidden = linen.BatchNorm(use_running_average=self.stored, name="norm")(hidden)
            return linen.Dense(2, name="head")(jnp.tanh(hidden))

    x = points(3, 2)
    with jax.numpy_rank_promotion("allow"):
        variables = jax.eval_shape(Normalised(stored=True).init, jax.random.key(0), x)
        statistics = {"norm": {"mean": np.array([0.1, -0.2, 0.3]), "var": np.array([0.5, 1.0, 2.0])}}
        params = drawn(variables["params"])

        def evaluated(p, x):
            return Normalised(stored=True).apply({"params": p, "batch_stats": statistics}, x)

        def in_training(p, x):
            both = {"params": p, "batch_stats": statistics}
            return Normalised(stored=False).apply(both, x, mutable=["batch_stats"])[0]

        check(evaluated, params, x, ("first/kernel", "head/kernel"))
        with pytest.raises(ValueError, match=r"treat each point alone.*Use evaluation mode"):
            EmpiricalNTK(in_training, params)(x)


def test_an_nnx_module():
    nnx = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(2, 4, rngs=rngs)
            self.norm = nnx.LayerNorm(4, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, deterministic=True)
            self.head = nnx.Linear(4, 2, use_bias=False, rngs=rngs)

        def __call__(self, x):
            return self.head(self.dropout(nnx.gelu(self.norm(self.first(x)))))

    with jax.numpy_rank_promotion("allow"):
        graph, params, rest = nnx.split(nnx.eval_shape(lambda: Network(nnx.Rngs(0))), nnx.Param, ...)
        names = [
            jax.tree_util.keystr(path, simple=True, separator="/")
            for path, _ in jax.tree_util.tree_leaves_with_path(params)
        ]
        weights = [name for name in names if "kernel" in name]
        assert len(weights) == 2
        check(lambda p, x: nnx.merge(graph, p, rest)(x), drawn(params), points(3, 2), weights)


def test_a_haiku_function():
    haiku = pytest.importorskip("haiku")

    def network(x):
        hidden = jnp.tanh(haiku.Conv1D(3, kernel_shape=2, name="convolution")(x))
        hidden = haiku.LayerNorm(-1, create_scale=True, create_offset=True, name="norm")(hidden)
        return haiku.nets.MLP([4, 2], name="dense")(haiku.Flatten()(hidden))

    model, x = haiku.without_apply_rng(haiku.transform(network)), points(3, 4, 2)
    with jax.numpy_rank_promotion("allow"):
        params = jax.eval_shape(model.init, jax.random.key(0), x)
        weights = ("convolution/w", "dense/~/linear_0/w", "dense/~/linear_1/w")
        check(model.apply, drawn(params), x, weights)
