"""The empirical NTK against derivatives taken by hand, by brute force, and against its own variants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.empirical.gated import looped

from ntkit.empirical import EmpiricalNTK, gram
from ntkit.empirical.blocks import tile_derivatives
from ntkit.empirical.function import as_params

EPSILON = {np.float32: 1.2e-7, np.float64: 2.3e-16}


def mlp(params, x):
    """A tanh network with nested parameters, written out here so that nothing else can fail.

    Each output is gated by an input, without which the blocks `J(x) J(x')ᵀ` would happen to be symmetric.
    """
    (w1, b1), head = params["body"], params["head"]
    hidden = jnp.tanh(jnp.matmul(x, w1, precision="highest") + b1[None, :])
    return (2 + x[:, : head.shape[1]]) * jnp.matmul(hidden, head, precision="highest")


def mlp_params(inputs=3, width=16, outputs=2, dtype=np.float64, seed=0):
    generator = np.random.default_rng(seed)

    def draw(*shape):
        return (generator.normal(size=shape) / np.sqrt(shape[0])).astype(dtype)

    return {"body": (draw(inputs, width), draw(width)), "head": draw(width, outputs)}


def points(n, d=3, dtype=np.float64, seed=1):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def mlp_jacobian_by_hand(params, x):
    """∂f_o/∂(w1, b1, head) of `mlp`, from the chain rule, in float64 NumPy: (n, k, P)."""
    (w1, b1), head = params["body"], params["head"]
    hidden = np.tanh(x @ w1 + b1)
    slope = (1 - hidden**2)[:, None, :] * head.T[None]
    d_w1 = x[:, None, :, None] * slope[:, :, None, :]
    d_head = np.einsum("nh,oq->nohq", hidden, np.eye(head.shape[1]))
    n, k = len(x), head.shape[1]
    ungated = np.concatenate(
        [d_w1.reshape(n, k, -1), slope.reshape(n, k, -1), d_head.reshape(n, k, -1)], axis=-1
    )
    return (2 + x[:, :k])[:, :, None] * ungated


def tolerance(dtype, terms):
    """A dot product of `terms` numbers errs by at most about terms·ε of its scale; √terms is typical."""
    return 10 * np.sqrt(terms) * EPSILON[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_is_the_product_of_hand_derived_jacobians(dtype):
    params = mlp_params()
    x1, x2 = points(5), points(4, seed=2)
    full = np.einsum("nap,mbp->nmab", mlp_jacobian_by_hand(params, x1), mlp_jacobian_by_hand(params, x2))
    kernel = EmpiricalNTK(mlp, params)
    bound = tolerance(dtype, 100) * np.abs(full).max()
    result = kernel.full(x1.astype(dtype), x2.astype(dtype))
    assert result.dtype == dtype
    assert isinstance(result, np.ndarray)
    np.testing.assert_allclose(result, full, atol=bound, rtol=0)
    traced = kernel(x1.astype(dtype), x2.astype(dtype))
    assert traced.shape == (5, 4)
    np.testing.assert_allclose(traced, np.trace(full, axis1=2, axis2=3) / 2, atol=bound, rtol=0)


@pytest.mark.parametrize("method", ["__call__", "full"])
def test_a_set_against_itself_is_exactly_symmetric(method):
    kernel = EmpiricalNTK(mlp, mlp_params(width=40), memory_limit=40_000)
    gram = getattr(kernel, method)(points(8))
    mirrored = gram.T if gram.ndim == 2 else gram.transpose(1, 0, 3, 2)
    np.testing.assert_array_equal(gram, mirrored)


def test_the_diagonal_is_that_of_the_matrix():
    kernel = EmpiricalNTK(mlp, mlp_params(), memory_limit=20_000)
    x = points(8)
    np.testing.assert_allclose(kernel.diag(x), np.diag(kernel(x)), rtol=tolerance(np.float64, 96))
    np.testing.assert_allclose(
        kernel.diag(x),
        np.trace(kernel.full(x), axis1=2, axis2=3).diagonal() / 2,
        rtol=tolerance(np.float64, 96),
    )


@pytest.mark.parametrize(
    ("method", "symmetric"),
    [
        ("layerwise", True),
        pytest.param("layerwise", False, marks=pytest.mark.slow),
        pytest.param("jacobian", True, marks=pytest.mark.slow),
        ("jacobian", False),
    ],
)
def test_the_tile_size_does_not_change_the_result(method, symmetric):
    params = mlp_params()
    x1, x2 = points(7), None if symmetric else points(5, seed=3)
    whole = EmpiricalNTK(mlp, params, method=method)
    plan = whole.plan(x1, x2)
    # room for three to five points beside one that is being evaluated
    limit = plan.itemsize * (plan.passing + 5 * plan.kept)
    tiled = EmpiricalNTK(mlp, params, method=method, memory_limit=limit)
    cut = tiled.plan(x1, x2)
    assert 1 <= cut.columns <= cut.rows < 5
    assert cut.bytes <= limit
    np.testing.assert_allclose(tiled(x1, x2), whole(x1, x2), rtol=tolerance(np.float64, 192), atol=1e-14)
    np.testing.assert_allclose(
        tiled.full(x1, x2), whole.full(x1, x2), rtol=tolerance(np.float64, 96), atol=1e-14
    )
    if symmetric:
        np.testing.assert_array_equal(tiled(x1), tiled(x1).T)
    under_jit = jax.jit(lambda kernel, a, b: (kernel(a, b), kernel.full(a, b), kernel.diag(a)))
    with jax.enable_x64(True):
        traced, full, diagonal = under_jit(tiled, jnp.asarray(x1), None if symmetric else jnp.asarray(x2))
        assert traced.dtype == jnp.float64
    np.testing.assert_allclose(np.array(traced), whole(x1, x2), rtol=tolerance(np.float64, 192), atol=1e-14)
    np.testing.assert_allclose(np.array(full), whole.full(x1, x2), rtol=tolerance(np.float64, 96), atol=1e-14)
    np.testing.assert_allclose(np.array(diagonal), whole.diag(x1), rtol=tolerance(np.float64, 192))


def test_tiles_are_as_few_as_the_memory_allows_and_alike():
    """A last tile is filled up with copies of a point: of tiles as large as possible it may be nearly all of them."""
    params, x = mlp_params(), points(101)
    whole = EmpiricalNTK(mlp, params, method="jacobian").plan(x)
    limit = whole.itemsize * (whole.passing * whole.chunk + 180 * whole.kept)
    cut = EmpiricalNTK(mlp, params, memory_limit=limit, method="jacobian").plan(x)
    assert cut.bytes <= limit < whole.bytes
    assert cut.rows == 51 and cut.columns == 51


@pytest.mark.parametrize("symmetric", [True, False])
def test_blocks_of_the_result_count_as_memory(symmetric):
    """Of few parameters and many outputs the derivatives are nothing and the blocks of the result everything."""
    x1, x2 = points(40), None if symmetric else points(30, seed=3)

    def f(w, x):
        return jnp.tanh(x[:, :1] @ w)

    w = np.random.default_rng(1).normal(size=(1, 7))
    whole = EmpiricalNTK(f, w)
    plan = whole.plan(x1, x2, kind="full")
    result = 40 * (40 if symmetric else 30) * 49 * 8
    assert plan.whole and plan.bytes >= 2 * result
    limit = plan.bytes - result
    tiled = EmpiricalNTK(f, w, memory_limit=limit)
    cut = tiled.plan(x1, x2, kind="full")
    assert not cut.whole and cut.bytes <= limit
    assert 2 * 49 * cut.rows * cut.columns * 8 <= limit
    np.testing.assert_allclose(tiled.full(x1, x2), whole.full(x1, x2), rtol=tolerance(np.float64, 8))
    assert tiled.plan(x1, x2).whole


def test_of_a_symmetric_kernel_a_tile_of_columns_becomes_the_next_one_of_rows(monkeypatch):
    """Of T tiles there are `T (T + 1) / 2` pairs, and `T - 1` passes less than rows and columns apart would take."""
    params, x = mlp_params(), points(23)
    kernel = EmpiricalNTK(mlp, params, method="jacobian")
    whole, expected = kernel.plan(x), kernel(x)
    passes = []

    def counted(task, params, masks, part):
        passes.append(len(part))
        return tile_derivatives(task, params, masks, part)

    monkeypatch.setattr(gram, "compiled_derivatives", counted)
    for tiles, rows in ((2, 12), (3, 8), (4, 6)):
        limit = whole.itemsize * (whole.passing * whole.chunk + 2 * rows * whole.kept + 2 * rows**2)
        passes.clear()
        result = EmpiricalNTK(mlp, params, method="jacobian", memory_limit=limit)(x)
        np.testing.assert_allclose(result, expected, rtol=tolerance(np.float64, 192), atol=1e-14)
        assert passes == [rows] * (tiles + (tiles - 1) * (tiles - 2) // 2)


def test_a_kernel_of_several_strips_is_that_of_its_parts():
    """More points than a strip of the symmetric block: what is mirrored equals what is computed."""
    kernel, x = EmpiricalNTK(mlp, mlp_params()), points(300)
    gram = kernel(x)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(gram[130:, :140], kernel(x[130:], x[:140]), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(np.diag(gram), kernel.diag(x), rtol=1e-12)


def test_few_parameters_and_many_outputs_use_forward_mode():
    """P = 2 < k = 5; the `while` loop has no reverse derivative. f_o = w_0^3 o x + w_1."""
    order = np.arange(1.0, 6.0)

    def f(w, x):
        cube = jax.lax.while_loop(
            lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * w[0]), (0, jnp.ones_like(w[0]))
        )[1]
        return cube * x * jnp.asarray(order, dtype=x.dtype)[None, :] + w[1]

    w, x = np.array([0.7, 0.2]), points(4, d=1)
    by_hand = np.stack([3 * w[0] ** 2 * x * order, np.ones((4, 5))], axis=-1)
    expected = np.einsum("nap,mbp->nmab", by_hand, by_hand)
    np.testing.assert_allclose(EmpiricalNTK(f, w).full(x), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("nested", [False, True])
def test_products_with_a_loop_of_unknown_length_are_refused_with_the_remedy(nested):
    """Forward mode alone passes it, also where it stands within a loop of known length."""

    def scanned(w, x):
        return jax.lax.scan(lambda carry, _: (looped(w, carry), None), x, None, length=2)[0]

    kernel = EmpiricalNTK(scanned if nested else looped, np.eye(3), method="products")
    for call in (kernel, kernel.full, jax.jit(kernel)):
        with pytest.raises(ValueError, match=r'EmpiricalNTK needs f .* lax.scan or .* or method="auto"'):
            call(points(4, d=3))


def test_the_dtype_of_a_parameter_is_read_from_the_array_and_other_leaves_are_looked_at(monkeypatch):
    """`jnp.result_type` takes microseconds for every leaf of every call."""
    for leaf, named in (
        (np.arange(3), "int"),
        (jnp.arange(3), "int"),
        (3, "int"),
        (jax.random.key(0), "key"),
    ):
        with pytest.raises(
            ValueError, match=rf"someone needs floating-point parameters, got {named}.*\['w'\]"
        ):
            as_params("someone", {"w": leaf}, np.float32)
    assert as_params("someone", [0.5, jnp.ones(2, jnp.bfloat16)], np.float32)[1].dtype == np.float32
    asked = []
    result_type = jnp.result_type
    monkeypatch.setattr(jnp, "result_type", lambda *leaf: asked.append(leaf) or result_type(*leaf))
    as_params("someone", [np.ones(2, np.float32), jnp.ones(2), 0.5], np.float32)
    assert asked == [(0.5,)]


@pytest.mark.parametrize("library", [np.asarray, jnp.asarray])
def test_a_kernel_of_numbers_is_computed_at_once_inside_a_traced_function(library):
    """A function that closes over a traced value is still traced."""
    params, x, seen = mlp_params(dtype=np.float32), library(points(4, dtype=np.float32)), []
    kernel = EmpiricalNTK(mlp, params)

    @jax.jit
    def outer(factor):
        seen.extend([np.asarray(kernel(x)), np.asarray(kernel.diag(x)), kernel.plan(x)])
        scaled = EmpiricalNTK(lambda p, at: factor * mlp(p, at), params)
        return scaled(jnp.asarray(x))

    through = outer(2.0)
    np.testing.assert_array_equal(seen[0], kernel(x))
    np.testing.assert_array_equal(seen[1], kernel.diag(x))
    np.testing.assert_allclose(through, 4 * np.asarray(kernel(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("parameters", [None, "body*", {"body": (True, False), "head": np.eye(16, 2) > 0}])
def test_the_diagonal_for_each_output_is_that_of_all_pairs(parameters):
    kernel, x = EmpiricalNTK(mlp, mlp_params(), parameters=parameters), points(4)
    expected = np.einsum("nnoo->no", kernel.full(x))
    np.testing.assert_allclose(kernel.diag_per_output(x), expected, rtol=1e-12)


def test_inputs_may_be_images_or_scalars():
    def mean_of_image(w, x):
        return jnp.einsum("nhwc,co->no", x, w, precision="highest")

    images = np.random.default_rng(0).normal(size=(3, 4, 4, 2))
    pooled = images.sum(axis=(1, 2))
    np.testing.assert_allclose(
        EmpiricalNTK(mean_of_image, np.ones((2, 1)))(images), pooled @ pooled.T, rtol=1e-12
    )
    times = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(
        EmpiricalNTK(lambda w, t: (w * t)[:, None], np.array(5.0))(times), np.outer(times, times), rtol=1e-15
    )


def test_jax_arrays_in_give_jax_arrays_out_in_their_dtype():
    kernel = EmpiricalNTK(mlp, mlp_params())  # float64 parameters, float32 inputs
    x = jnp.asarray(points(3, dtype=np.float32))
    for result in (kernel(x), kernel.full(x), kernel.diag(x)):
        assert isinstance(result, jax.Array)
        assert result.dtype == jnp.float32
    np.testing.assert_allclose(np.array(kernel(x)), kernel(np.array(x)), rtol=tolerance(np.float32, 192))


def test_float64_inputs_are_computed_in_float64_even_of_float32_parameters():
    params = mlp_params(dtype=np.float32)
    wide = jax.tree_util.tree_map(lambda leaf: leaf.astype(np.float64), params)
    x = points(4)
    by_hand = mlp_jacobian_by_hand(wide, x).reshape(4, -1)
    on_device = jax.tree_util.tree_map(jnp.asarray, params)
    np.testing.assert_allclose(
        EmpiricalNTK(mlp, on_device)(x), by_hand @ by_hand.T / 2, rtol=1e-13, atol=1e-13
    )


def test_points_that_a_jitted_function_closed_over_keep_their_precision():
    """JAX keeps a 32-bit buffer for such an array and would hand it out again."""
    x = points(3)
    jax.jit(lambda s: s * jnp.asarray(x))(2.0)
    by_hand = mlp_jacobian_by_hand(mlp_params(), x).reshape(3, -1)
    np.testing.assert_allclose(
        EmpiricalNTK(mlp, mlp_params())(x), by_hand @ by_hand.T / 2, rtol=1e-13, atol=1e-13
    )


def test_the_kernel_is_differentiable_in_parameters_inputs_and_closed_over_values():
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(jnp.asarray, mlp_params(width=4))
        x = jnp.asarray(points(3))

        def from_params(p):
            return EmpiricalNTK(mlp, p)(x).sum()

        def from_inputs(z):
            return EmpiricalNTK(mlp, params)(z, x).sum()

        def from_scale(s):
            """Closed over: x and params are concrete, only the function carries a traced value."""
            return EmpiricalNTK(lambda p, z: s * mlp(p, z), params)(x).sum()

        assert float(jax.grad(from_scale)(2.0)) == pytest.approx(4 * float(from_scale(1.0)), rel=1e-13)
        for function, at in ((from_params, params), (from_inputs, x)):
            compiled = jax.jit(function)  # one compilation, not one per operation
            direction = jax.tree_util.tree_map(jnp.ones_like, at)
            step = 1e-5
            ahead = jax.tree_util.tree_map(lambda a, b: a + 1e-5 * b, at, direction)
            behind = jax.tree_util.tree_map(lambda a, b: a - 1e-5 * b, at, direction)
            difference = (compiled(ahead) - compiled(behind)) / (2 * step)
            exact = jax.jvp(compiled, (at,), (direction,))[1]
            # central differences err by step² relative, and by eps/step = 2e-11
            assert float(exact) == pytest.approx(float(difference), rel=1e-7)


def test_the_kernel_is_a_pytree_of_its_parameters():
    kernel = EmpiricalNTK(mlp, mlp_params())
    doubled = jax.tree_util.tree_map(lambda leaf: 2 * leaf, kernel)
    assert isinstance(doubled, EmpiricalNTK)
    np.testing.assert_array_equal(doubled.params["head"], 2 * kernel.params["head"])


def test_kernels_add_and_scale():
    kernel, x = EmpiricalNTK(mlp, mlp_params()), points(3)
    np.testing.assert_allclose((kernel + 2.0 * kernel)(x), 3 * kernel(x), rtol=1e-14)


class TestErrorsSayWhatToDo:
    def test_a_vector_of_outputs(self):
        with pytest.raises(ValueError, match=r"shape \(points, outputs\), got \(2,\).*f\[:, None\]"):
            EmpiricalNTK(lambda w, x: (x @ w)[:, 0], np.ones((3, 1)))(points(4))

    def test_derivatives_beyond_the_budget(self):
        x = points(2)
        plan = EmpiricalNTK(mlp, mlp_params(), method="layerwise").plan(x)
        # A tile, its copy in pieces or a column, and the block of a pair with its parts.
        least = plan.itemsize * (2 * plan.kept + plan.passing + 2)
        with pytest.raises(
            ValueError, match=rf"memory_limit >= {least} bytes.*got {least - 1}. Raise memory_limit"
        ):
            EmpiricalNTK(mlp, mlp_params(), memory_limit=least - 1, method="layerwise")(x)
        assert EmpiricalNTK(mlp, mlp_params(), memory_limit=least, method="layerwise")(x).shape == (2, 2)

    def test_a_method_that_does_not_exist(self):
        with pytest.raises(ValueError, match="method as 'auto', .* got 'fast'"):
            EmpiricalNTK(mlp, mlp_params(), method="fast")

    def test_integer_parameters(self):
        with pytest.raises(ValueError, match=r"floating-point parameters, got int.* at params\['steps'\]"):
            EmpiricalNTK(lambda p, x: x * p["w"], {"w": 1.0, "steps": 3})(points(2, d=1))

    def test_no_parameters(self):
        with pytest.raises(ValueError, match="at least one parameter"):
            EmpiricalNTK(lambda p, x: x, [])(points(2))

    def test_inputs_that_do_not_match(self):
        with pytest.raises(ValueError, match="points of one shape"):
            EmpiricalNTK(mlp, mlp_params())(points(2), points(2, d=4))
        with pytest.raises(ValueError, match="one dtype"):
            EmpiricalNTK(mlp, mlp_params())(points(2), points(2, dtype=np.float32))

    def test_inputs_that_are_not_finite(self):
        x = points(2)
        x[1, 2] = np.nan
        with pytest.raises(ValueError, match=r"finite values, got nan at x1\[1, 2\]"):
            EmpiricalNTK(mlp, mlp_params())(x)

    def test_a_derivative_that_is_not_finite(self):
        with pytest.raises(ValueError, match=r"finite derivatives, got (inf|nan) at entry \[0, 0\]"):
            EmpiricalNTK(lambda w, x: jnp.sqrt(w) * x, np.zeros((1, 1)))(np.ones((2, 1)))

    def test_a_function_that_cannot_be_hashed(self):
        class Unhashable:
            __hash__ = None

            def __call__(self, params, x):
                return x * params

        with pytest.raises(ValueError, match=r"hashable function f, got Unhashable\. Wrap it"):
            EmpiricalNTK(Unhashable(), np.ones(()))
