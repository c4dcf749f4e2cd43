"""The tangent kernel along training: from checkpoints, or by a callback in the loop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from operator import length_hint
from typing import Any

import jax
import numpy as np
import scipy.linalg

from ntkit.empirical import EmpiricalNTK
from ntkit.empirical.function import Function, Params
from ntkit.engines.plan import tracked
from ntkit.numerics.dtypes import as_targets
from ntkit.numerics.host import on_host
from ntkit.theory.alignment import centered_target_alignment
from ntkit.theory.kernel_track import KernelTrack, effective_rank, relative_change, unit_distance, unit_matrix

KernelOf = Callable[[Any], Any]
"""From parameters (or a model) to a kernel, which is called with the points, or to its Gram matrix on them."""

Every = int | Iterable[int | float] | Callable[[Any], Any]
"""Record at every so many steps, at these steps, or at those of which a function says yes."""

MOST_ASYMMETRY = 1e-3
"""Relative to the largest entry: far more than rounding, so the matrix is not a kernel of points with themselves."""


class KernelTracker:
    """Records a kernel along training: call `tracker(step, params)` in the loop, then `tracker.result()`.

    Each call computes the Gram matrix at once, so parameters may be overwritten afterwards. What was recorded stays
    available whatever ends the loop. Kept are, for each recorded step, a few numbers and one float32 matrix for the
    distances between times: `4 n²` bytes (4 MB for 1,000 points).

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k): tracks `EmpiricalNTK(f, params)`. None with `kernel_of`.
        x: points; what `EmpiricalNTK`, or the kernel that `kernel_of` returns, is called with.
        y: targets, shape (n, k), for the alignment.
        every: a number (steps that it divides), the steps themselves (rounded, such as `np.geomspace(1, 1000, 20)`),
            or a function of the step.
        kernel_of: instead of f, from what the loop passes, parameters or a model of any framework, to a kernel or to
            its (n, n) Gram matrix (NumPy, JAX or PyTorch).
        leading: how many of the largest eigenvalues to keep; None for all.
        keep_grams: whether to keep the matrices themselves too, in the kernel's dtype.
        memory_limit: bytes for what is kept, and for the Jacobians of the `EmpiricalNTK`.

    Raises:
        ValueError: for neither or both of f and kernel_of, an `every` or `leading` below 1, or a y of another shape.

    Source:
        Fort et al. (2020), Deep learning versus kernel learning: an empirical study of loss landscape geometry and
        the time evolution of the neural tangent kernel, section 3.

    >>> tracker = KernelTracker(lambda w, x: (x @ w) ** 2, np.eye(2), every=2)
    >>> for step in range(4):
    ...     recorded = tracker(step, np.array([[1.0], [1.0 + step]]))
    >>> tracker.result().relative_change.round(4)  # from diag(4, 4) at step 0 to diag(4, 36) at step 2
    array([0.    , 5.6569])
    """

    def __init__(
        self,
        f: Function | None = None,
        x: Any = None,
        y: Any = None,
        *,
        every: Every = 1,
        kernel_of: KernelOf | None = None,
        leading: int | None = None,
        keep_grams: bool = False,
        memory_limit: int = 2**30,
    ) -> None:
        if (f is None) == (kernel_of is None):
            raise ValueError(
                f"KernelTracker needs either f or kernel_of, got {'neither' if f is None else 'both'}. "
                "Pass f(params, x), or kernel_of=, which turns what the loop passes into a kernel."
            )
        if f is not None and x is None:
            raise ValueError("KernelTracker needs the points x at which to evaluate f, got None.")
        if leading is not None and leading < 1:
            raise ValueError(f"KernelTracker needs leading of at least 1, got {leading}. None keeps all.")
        self.f, self.x = f, x
        self.y: np.ndarray | None = None
        if y is not None:
            targets = _as_numpy(y)
            self.y = on_host(as_targets("KernelTracker", targets, len(targets) if targets.ndim else 0))
        self.kernel_of = kernel_of
        self.leading, self.keep_grams, self.memory_limit = leading, keep_grams, memory_limit
        self._wanted = _chooser(every)
        self._first: np.ndarray | None = None
        self._shapes: Any = None
        self._records: list[dict[str, Any]] = []

    def __call__(self, step: Any, params: Any) -> bool:
        """Record the kernel if this step is one to record; returns whether it was."""
        if not self._wanted(step):
            return False
        self.record(step, params)
        return True

    def record(self, step: Any, params: Any) -> None:
        """Record the kernel at this step, whatever `every` says: for the last one, say.

        Raises:
            ValueError: naming the step, for parameters or a kernel that are not finite, shapes that changed, a kernel
                of zeros, or a step that is not beyond the one before. Nothing recorded before is lost.
            MemoryError: when the matrices kept would exceed `memory_limit`; nothing is lost either.
        """
        try:
            if not np.isfinite(step):
                raise ValueError(f"a step needs to be a finite number, got {step}.")
            if self._records and step <= self._records[-1]["steps"]:
                raise ValueError(f"steps need to increase, got {step} after {self._records[-1]['steps']:g}.")
            if self.f is not None:
                self._check_params(params)
            self._append(float(step), self._gram(params))
        except ValueError as error:
            raise ValueError(f"KernelTracker at step {step}: {error}") from error

    def result(self) -> KernelTrack:
        """What was recorded so far; the loop may go on afterwards.

        Raises:
            ValueError: when nothing was.
        """
        if not self._records:
            raise ValueError(
                "KernelTracker needs at least one recorded step, got none. Call tracker(step, params) in the loop."
            )
        columns = {
            name: np.array([record[name] for record in self._records], dtype=np.float64)
            for name in ("steps", "relative_change", "eigenvalues", "trace", "effective_rank", "alignment")
            if self._records[0][name] is not None
        }
        distance = np.zeros((len(self._records), len(self._records)))
        for row, record in enumerate(self._records):
            distance[row, :row] = distance[:row, row] = record["distances"]
        grams = np.stack([record["gram"] for record in self._records]) if self.keep_grams else None
        return KernelTrack(
            steps=columns["steps"],
            relative_change=columns["relative_change"],
            distance=distance,
            eigenvalues=columns["eigenvalues"],
            trace=columns["trace"],
            effective_rank=columns["effective_rank"],
            alignment=columns.get("alignment"),
            grams=grams,
        )

    def _append(self, step: float, found: np.ndarray) -> None:
        """Measure a Gram matrix against those before it; kept at the end, so that an interrupt leaves no halves."""
        self._check_memory(step, found)
        if self.y is not None and len(self.y) != len(found):
            raise ValueError(
                f"one row of y per point is needed, got {len(self.y)} rows for {len(found)} points."
            )
        gram = on_host(found)
        gram = (gram + gram.T) / 2.0
        first = self._first if self._records and self._first is not None else gram
        unit = unit_matrix(gram)
        size = len(gram)
        count = size if self.leading is None else min(self.leading, size)
        eigenvalues = scipy.linalg.eigvalsh(gram, subset_by_index=(size - count, size - 1))[::-1]
        record = {
            "steps": step,
            "relative_change": relative_change(gram, first),
            "unit": unit,
            "distances": [unit_distance(unit, earlier["unit"]) for earlier in self._records],
            "eigenvalues": eigenvalues,
            "trace": float(np.trace(gram)),
            "effective_rank": effective_rank(gram),
            "alignment": None if self.y is None else centered_target_alignment(gram, self.y),
            "gram": found.copy() if self.keep_grams else None,
        }
        self._first = first
        self._records.append(record)

    def _gram(self, params: Any) -> np.ndarray:
        if self.f is not None:
            found = EmpiricalNTK(self.f, params, memory_limit=self.memory_limit)
        else:
            assert self.kernel_of is not None
            found = self.kernel_of(params)
        gram = _as_numpy(found(self.x) if callable(found) else found)
        if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
            raise ValueError(f"a Gram matrix needs the shape (n, n), got {gram.shape}.")
        if self._first is not None and gram.shape != self._first.shape:
            raise ValueError(
                f"Gram matrices need the shape of the first, {self._first.shape}, got {gram.shape}. "
                "Track the same points throughout."
            )
        if not np.isfinite(gram).all():
            where = tuple(int(index) for index in np.argwhere(~np.isfinite(gram))[0])
            raise ValueError(
                f"a Gram matrix needs finite entries, got {gram[where]} at {list(where)}. "
                "Look at the outputs and their gradients at these points."
            )
        if np.abs(gram - gram.T).max() > MOST_ASYMMETRY * np.abs(gram).max():
            raise ValueError(
                "a Gram matrix needs to be symmetric, got one that is not. "
                "Evaluate the kernel between the points and themselves."
            )
        return gram

    def _check_params(self, params: Params) -> None:
        leaves = jax.tree_util.tree_leaves_with_path(params)
        shapes = [(jax.tree_util.keystr(path), np.shape(leaf)) for path, leaf in leaves]
        if self._shapes is not None and shapes != self._shapes:
            now, before = next(
                ((new, old) for new, old in zip(shapes, self._shapes, strict=False) if new != old),
                (f"{len(shapes)} arrays", f"{len(self._shapes)}"),
            )
            raise ValueError(
                f"parameters need the shapes of the first ones, got {now} instead of {before}. "
                "Track one network throughout."
            )
        for path, leaf in leaves:
            if isinstance(leaf, jax.Array | np.ndarray | float) and not np.isfinite(np.asarray(leaf)).all():
                raise ValueError(
                    f"parameters need to be finite, got a NaN or an infinity in params{jax.tree_util.keystr(path)}. "
                    "The training has diverged by then; take a smaller learning rate."
                )
        self._shapes = shapes

    def _check_memory(self, step: float, gram: np.ndarray) -> None:
        each = gram.size * (4 + (gram.dtype.itemsize if self.keep_grams else 0))
        if (len(self._records) + 1) * each > self.memory_limit:
            raise MemoryError(
                f"KernelTracker at step {step:g} needs {each} bytes for each recorded step ({len(gram)} points), got "
                f"memory_limit={self.memory_limit} and {len(self._records)} recorded. Record fewer steps (every=), "
                "track fewer points, or raise memory_limit."
            )


def track(
    f: Function | None,
    checkpoints: Mapping[Any, Any] | Iterable[Any],
    x: Any = None,
    y: Any = None,
    *,
    kernel_of: KernelOf | None = None,
    leading: int | None = None,
    keep_grams: bool = False,
    memory_limit: int = 2**30,
) -> KernelTrack:
    """The tangent kernel along training, from checkpoints: how far it moves, whereto, and how fast.

    Ctrl-C keeps the checkpoints done so far. To record during training use `KernelTracker`, whose arguments these are.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k); None with `kernel_of`.
        checkpoints: a dict from steps (or times) to parameters, pairs (step, parameters) in order, or parameters
            alone, which count 0, 1, 2, ... One at a time is held, so a generator may load them from files. (Parameters
            that are themselves a tuple of a number and something else go into a dict.)
        x: points.
        y: targets, shape (n, k), for the alignment.
        kernel_of: instead of f, from a checkpoint to a kernel or to its Gram matrix on the points.
        leading: how many of the largest eigenvalues to keep; None for all.
        keep_grams: whether to keep the matrices themselves too.
        memory_limit: bytes for what is kept (4 n² for each checkpoint), and for Jacobians.

    Raises:
        ValueError: for no checkpoint, or for one that cannot be measured, naming its step.
        MemoryError: when the matrices kept would exceed `memory_limit`.

    Source:
        Fort et al. (2020), Deep learning versus kernel learning, section 3.

    >>> x, y = np.array([[1.0], [2.0]]), np.array([[1.0], [-1.0]])
    >>> found = track(lambda w, x: np.e**w * x, {0: np.zeros(()), 10: np.ones(())}, x, y)
    >>> found.relative_change.round(4), found.distance[0, 1].round(4)  # Θ grows by e²; its direction stays
    (array([0.    , 6.3891]), np.float64(0.0))
    """
    tracker = KernelTracker(
        f, x, y, kernel_of=kernel_of, leading=leading, keep_grams=keep_grams, memory_limit=memory_limit
    )
    total = length_hint(checkpoints)
    moments = _moments(checkpoints)
    interrupted = False
    try:
        for step, params in tracked(moments, total, "tracking the kernel") if total else moments:
            tracker.record(step, params)
    except KeyboardInterrupt:
        if not tracker._records:
            raise
        interrupted = True
    if not tracker._records:
        raise ValueError("track needs at least one checkpoint, got none.")
    return replace(tracker.result(), interrupted=interrupted)


def _moments(checkpoints: Mapping[Any, Any] | Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Checkpoints with their steps, one at a time."""
    if isinstance(checkpoints, Mapping):
        wrong = [step for step in checkpoints if not _is_number(step)]
        if wrong:
            raise ValueError(
                f"track needs a dict from steps to parameters, got the key {wrong[0]!r}. "
                "The parameters of a single checkpoint go in as [params]."
            )
        yield from sorted(checkpoints.items(), key=lambda item: item[0])
        return
    for number, checkpoint in enumerate(checkpoints):
        pair = isinstance(checkpoint, tuple) and len(checkpoint) == 2 and _is_number(checkpoint[0])
        yield checkpoint if pair else (number, checkpoint)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _chooser(every: Every) -> Callable[[Any], Any]:
    if callable(every):
        return every
    if isinstance(every, int | np.integer):
        if every < 1:
            raise ValueError(f"KernelTracker needs every of at least 1 step, got {every}.")
        return lambda step: step % every == 0
    return frozenset(round(float(step)) for step in every).__contains__


def _as_numpy(array: Any) -> np.ndarray:
    """An array of any library in main memory; PyTorch's may carry gradients or lie on a GPU."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)
