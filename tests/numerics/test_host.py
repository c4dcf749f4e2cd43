"""Which library and precision linear algebra runs in, and how answers go back."""

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.numerics.host import like, on_host, working


def test_concrete_arrays_work_in_float64_numpy():
    single, device = np.ones(2, np.float32), jnp.ones(2)
    for array in working(single, device):
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
    double = np.ones(2)
    assert on_host(double) is double


def test_one_traced_array_makes_all_of_them_jax():
    def function(x):
        first, second = working(np.arange(2.0), x)
        assert isinstance(first, jax.Array)
        assert first.dtype == second.dtype == x.dtype
        return jnp.sum(first * second)

    np.testing.assert_array_equal(jax.grad(function)(jnp.ones(2)), [0.0, 1.0])


def test_answers_take_the_library_and_dtype_of_the_question():
    value = np.array([1.0, 2.0])
    assert like(value, np.ones(1, np.float32)).dtype == np.float32
    assert type(like(value, np.ones(1))) is np.ndarray
    assert isinstance(like(value, jnp.ones(1)), jax.Array)
    with jax.enable_x64(True):
        wide = jnp.ones(1)
    assert wide.dtype == np.float64
    assert like(value, wide).dtype == np.float64  # also once the context is closed
