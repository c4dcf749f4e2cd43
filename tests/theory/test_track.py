"""The kernel along training: changes known by hand, what must not change, and what survives an interruption."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkit
from ntkit import EmpiricalNTK, KernelTracker, nn, track
from ntkit.theory import centered_target_alignment

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(5, 3))
Y = GENERATOR.normal(size=(5, 2))
GRAMS = [matrix @ matrix.T for matrix in GENERATOR.normal(size=(4, 5, 7))]


def linear(w, x):
    return x @ w


def square(w, x):
    """At w the derivative is 2 (x w) x."""
    return (x @ w) ** 2


def quadratic(w, x):
    """At w the derivative is 2 w x, so Θ = 4 w² x x'."""
    return x * w**2


def given(gram):
    """Checkpoints that are Gram matrices themselves."""
    return gram


def test_the_kernel_of_a_linear_model_does_not_move_at_all():
    found = track(linear, {step: GENERATOR.normal(size=(3, 2)) for step in (0, 5, 20)}, X, Y)
    # Derivatives that do not depend on w: nothing but rounding may differ.
    np.testing.assert_allclose(found.relative_change, np.zeros(3), atol=1e-14)
    np.testing.assert_allclose(found.distance, np.zeros((3, 3)), atol=1e-14)
    np.testing.assert_allclose(found.velocity, np.zeros(2), atol=1e-14)
    np.testing.assert_array_equal(found.steps, [0.0, 5.0, 20.0])
    np.testing.assert_allclose(found.alignment, centered_target_alignment(X @ X.T, Y), rtol=1e-13)
    assert np.ptp(found.eigenvalues, axis=0).max() < 1e-13


def test_two_points_by_hand():
    # At w = (1, c) the gradients at the unit vectors are (2, 0) and (0, 2c): Θ = diag(4, 4c²).
    found = track(square, {0: np.ones((2, 1)), 4: np.array([[1.0], [3.0]])}, np.eye(2))
    assert found.relative_change[1] == pytest.approx(32.0 / 32.0**0.5, rel=1e-14)
    # (4, 4) and (4, 36): cosine (16 + 144) / (√32 √1312), in matrices kept in float32.
    expected = 1.0 - 160.0 / (32.0 * 1312.0) ** 0.5
    assert found.distance[0, 1] == pytest.approx(expected, abs=2e-7 * expected**0.5 + 1e-14)
    assert found.velocity[0] == found.distance[0, 1] / 4.0
    np.testing.assert_allclose(found.eigenvalues, [[4.0, 4.0], [36.0, 4.0]], rtol=1e-14)
    np.testing.assert_allclose(found.trace, [8.0, 40.0], rtol=1e-14)
    np.testing.assert_allclose(found.effective_rank, [2.0, 1600.0 / 1312.0], rtol=1e-14)
    assert found.alignment is None and found.grams is None and not found.interrupted


def test_a_kernel_that_only_grows_keeps_its_direction():
    found = track(quadratic, [np.array(1.0), np.array(2.0)], X[:, :1], Y)
    assert found.relative_change[1] == pytest.approx(3.0, rel=1e-14)
    assert found.distance[0, 1] < 1e-14
    np.testing.assert_allclose(found.effective_rank, 1.0, rtol=1e-12)


def test_the_alignment_of_the_targets_own_kernel_is_one():
    found = track(None, [Y @ Y.T, 7.0 * Y @ Y.T], y=Y, kernel_of=given)
    np.testing.assert_allclose(found.alignment, 1.0, rtol=1e-13)
    other = track(None, GRAMS, y=Y, kernel_of=given)
    assert ((other.alignment > 0.0) & (other.alignment < 1.0)).all()


def test_distances_are_one_less_the_cosine_of_every_pair():
    found = track(None, GRAMS, kernel_of=given)
    flat = np.stack([gram.ravel() / np.linalg.norm(gram) for gram in GRAMS])
    np.testing.assert_allclose(found.distance, 1.0 - flat @ flat.T, rtol=0, atol=3e-7)
    np.testing.assert_array_equal(found.distance, found.distance.T)
    np.testing.assert_array_equal(np.diagonal(found.distance), np.zeros(4))
    np.testing.assert_array_equal(found.velocity, [found.distance[i, i + 1] for i in range(3)])


def test_a_network_is_tracked_as_its_empirical_kernel():
    network = nn.Serial(nn.Dense(6), nn.Erf(), nn.Dense(2))
    checkpoints = [network.init(jax.random.key(seed), X.shape) for seed in (0, 1)]
    found = track(network.apply, checkpoints, X, Y, leading=2, keep_grams=True)
    expected = np.stack([EmpiricalNTK(network.apply, params)(X) for params in checkpoints])
    np.testing.assert_allclose(found.grams, expected, rtol=1e-12)
    assert found.grams.dtype == np.float64
    np.testing.assert_allclose(
        found.eigenvalues, [np.linalg.eigvalsh(gram)[:-3:-1] for gram in expected], rtol=1e-10
    )
    change = np.linalg.norm(expected[1] - expected[0]) / np.linalg.norm(expected[0])
    assert found.relative_change[1] == pytest.approx(change, rel=1e-12)
    assert found.trace[1] == pytest.approx(np.trace(expected[1]), rel=1e-12)


def test_the_callback_and_the_checkpoints_agree_in_an_optax_loop():
    optimizer = optax.sgd(1e-4)
    params = jnp.ones((3, 1))
    state = optimizer.init(params)
    tracker = KernelTracker(square, X.astype(np.float32), Y, every=2)
    seen = {}
    for step in range(5):
        assert tracker(step, params) == (step % 2 == 0)
        seen[step] = params
        gradient = jax.grad(lambda p: jnp.sum(square(p, jnp.asarray(X, jnp.float32)) ** 2))(params)
        change, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, change)
    kept = {step: seen[step] for step in (4, 0, 2)}  # sorted by step
    expected, found = track(square, kept, X.astype(np.float32), Y), tracker.result()
    for name in ("steps", "relative_change", "distance", "eigenvalues", "alignment"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.relative_change[2] > found.relative_change[1] > 0.0


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        (3, [0, 3, 6, 9]),
        ([0, 2.4, 8.6], [0, 2, 9]),
        (np.geomspace(1, 8, 4), [1, 2, 4, 8]),
        (lambda step: step > 7, [8, 9]),
    ],
    ids=["number", "steps", "log-spaced", "predicate"],
)
def test_every_says_which_steps_are_recorded(every, steps):
    tracker = KernelTracker(kernel_of=given, every=every)
    for step in range(10):
        tracker(step, GRAMS[0])
    np.testing.assert_array_equal(tracker.result().steps, steps)


class Tensor:
    """What PyTorch's tensors ask for: no array without `detach` and `cpu`."""

    def __init__(self, array):
        self.array, self.ready = array, 0

    def detach(self):
        self.ready += 1
        return self

    def cpu(self):
        assert self.ready == 1
        return self.array


def test_a_kernel_of_another_framework_is_tracked_by_a_function():
    points = object()

    def kernel_of(model):
        def kernel(x):
            assert x is points
            return Tensor(model)

        return kernel

    tracker = KernelTracker(None, points, Tensor(Y), kernel_of=kernel_of)
    expected = KernelTracker(kernel_of=given, y=Y)
    for step, gram in enumerate(GRAMS):
        tracker(step, gram)
        expected(step, gram)
    np.testing.assert_array_equal(tracker.result().distance, expected.result().distance)
    np.testing.assert_array_equal(tracker.result().alignment, expected.result().alignment)


@pytest.mark.slow
def test_a_pytorch_module_is_tracked():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 1, bias=False)
    x = torch.as_tensor(X, dtype=torch.float32)

    def kernel_of(module):
        rows = torch.stack(
            [torch.autograd.grad(module(point)[0] ** 2 / 2, module.weight)[0][0] for point in x]
        )
        return rows @ rows.T

    tracker = KernelTracker(kernel_of=kernel_of)
    tracker(0, model)
    with torch.no_grad():
        model.weight *= 2.0  # the gradients (w x) x double, the kernel quadruples
    tracker(1, model)
    assert tracker.result().relative_change[1] == pytest.approx(3.0, rel=1e-5)


def test_float32_kernels_lose_nothing_that_distances_need():
    # A rotation by ε in the space of matrices has distance 1 − cos ε = ε²/2, here 5e-9: 1 − cosine in float32 has 6e-8
    # of rounding. Rounding the unit matrices moves their difference by 1e-7 at most.
    small = 1e-4
    tilted = np.cos(small) * np.diag([1.0, 0.0]) + np.sin(small) * np.diag([0.0, 1.0])
    found = track(None, [np.diag([1.0, 0.0]), tilted], kernel_of=given)
    assert found.distance[0, 1] == pytest.approx(1.0 - np.cos(small), abs=1e-7 * small + 1e-14)


def interrupted_after(checkpoints):
    yield from checkpoints
    raise KeyboardInterrupt


def test_an_interruption_keeps_what_was_recorded():
    found = track(None, interrupted_after(GRAMS[:2]), kernel_of=given)
    assert found.interrupted
    whole = track(None, GRAMS[:2], kernel_of=given)
    np.testing.assert_array_equal(found.distance, whole.distance)
    assert not whole.interrupted
    with pytest.raises(KeyboardInterrupt):
        track(None, interrupted_after([]), kernel_of=given)


def test_a_failure_names_its_step_and_loses_nothing():
    tracker = KernelTracker(linear, X)
    tracker(0, np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"at step 30: parameters need to be finite, .* in params"):
        tracker(30, np.array([[1.0], [np.nan], [0.0]]))
    with pytest.raises(ValueError, match=r"at step 31: parameters need the shapes of the first"):
        tracker(31, np.ones((3, 2)))
    with pytest.raises(ValueError, match="steps need to increase, got 0 after 0"):
        tracker(0, np.ones((3, 1)))
    tracker(32, np.ones((3, 1)))
    np.testing.assert_array_equal(tracker.result().steps, [0.0, 32.0])


@pytest.mark.parametrize(
    ("gram", "match"),
    [
        (np.ones((5, 4)), r"shape \(n, n\), got \(5, 4\)"),
        (np.eye(4), r"the shape of the first, \(5, 5\), got \(4, 4\)"),
        (np.full((5, 5), np.inf), r"finite entries, got inf at \[0, 0\]"),
        (np.triu(np.ones((5, 5))), "symmetric"),
        (np.zeros((5, 5)), "not zero"),
    ],
    ids=["not square", "other points", "infinite", "not symmetric", "zero"],
)
def test_a_matrix_that_cannot_be_measured_is_refused_by_name(gram, match):
    with pytest.raises(ValueError, match="at step 7: .*" + match):
        track(None, {3: GRAMS[0], 7: gram}, kernel_of=given)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at least one checkpoint, got none"):
        track(linear, [], X)
    with pytest.raises(ValueError, match="at least one recorded step, got none"):
        KernelTracker(linear, X).result()
    with pytest.raises(ValueError, match="either f or kernel_of, got neither"):
        KernelTracker()
    with pytest.raises(ValueError, match="either f or kernel_of, got both"):
        KernelTracker(linear, X, kernel_of=given)
    with pytest.raises(ValueError, match="points x"):
        KernelTracker(linear)
    with pytest.raises(ValueError, match="every of at least 1 step, got 0"):
        KernelTracker(linear, X, every=0)
    with pytest.raises(ValueError, match="leading of at least 1, got 0"):
        KernelTracker(linear, X, leading=0)
    with pytest.raises(ValueError, match=r"got the key 'weight'.*\[params\]"):
        track(linear, {"weight": np.ones((3, 1))}, X)
    with pytest.raises(ValueError, match=r"needs y of shape .points, outputs., got \(5,\)"):
        track(None, GRAMS, y=Y[:, 0], kernel_of=given)
    with pytest.raises(ValueError, match="at step 0: one row of y per point is needed, got 4 rows for 5"):
        track(None, GRAMS, y=Y[:4], kernel_of=given)
    with pytest.raises(ValueError, match="finite number, got nan"):
        track(None, [(np.nan, GRAMS[0])], kernel_of=given)


def test_what_is_kept_stays_within_the_limit():
    tracker = KernelTracker(kernel_of=given, memory_limit=250)  # 100 bytes a matrix of 25 entries in float32
    tracker(0, GRAMS[0])
    tracker(1, GRAMS[1])
    with pytest.raises(MemoryError, match="at step 2 needs 100 bytes .* 2 recorded"):
        tracker(2, GRAMS[2])
    assert len(tracker.result().steps) == 2
    with pytest.raises(MemoryError, match="300 bytes"):
        track(None, GRAMS, kernel_of=given, keep_grams=True, memory_limit=299)


def test_pairs_carry_their_steps_and_lists_count_theirs():
    pairs = track(None, iter([(1.5, GRAMS[0]), (np.int64(3), GRAMS[1])]), kernel_of=given)
    np.testing.assert_array_equal(pairs.steps, [1.5, 3.0])
    assert pairs.velocity[0] == pairs.distance[0, 1] / 1.5
    np.testing.assert_array_equal(track(None, GRAMS, kernel_of=given).steps, np.arange(4.0))


def test_the_names_are_public():
    assert ntkit.track is track and ntkit.KernelTracker is KernelTracker
