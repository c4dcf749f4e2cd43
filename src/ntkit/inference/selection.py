"""Hyper-parameter selection: which network, which kernel and how much noise explain the data best."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference.evidence import CRITERIA
from ntkit.inference.gaussian_process import GaussianProcess
from ntkit.inference.search import Deadline, Ending, Objective, climb
from ntkit.inference.search_space import Candidate, KernelName, NetworkFamily, SearchSpace, activation_named
from ntkit.kernels.base import Kernel
from ntkit.nn import Serial
from ntkit.nn.activations.base import Activation
from ntkit.numerics.dtypes import as_points, as_targets

CriterionName = Literal["log_marginal_likelihood", "leave_one_out"]

RACE_POINTS = 256
"""Points on which all candidates race; small enough that an evaluation takes about ten milliseconds."""

RACE_ITERATIONS, FINAL_ITERATIONS = 25, 80

RACE_TIME = 0.4
"""The share of the time limit that the race may use."""

FINALISTS = 3
"""Candidates that go on from the race."""

SERIAL_POINTS = 512
"""Up to this size a factorisation is faster on one thread than waiting for several to meet."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One climb from one start.

    Attributes:
        candidate: depth, activation, kernel and feature scales.
        start: number of the start, 0 for the centre of the search space.
        points: number of points on which the criterion was evaluated.
        value: the criterion at the best point, in nats, summed over points and outputs.
        score: the same plus the log prior of the parameters, which is what was climbed.
        start_score: the score at the start.
        evaluations: how often the criterion was evaluated.
        ending: why the climb ended.
        parameters: name and value of every varied hyper-parameter at the best point.
        coordinates: the same in search coordinates.
    """

    candidate: Candidate
    start: int
    points: int
    value: float
    score: float
    start_score: float
    evaluations: int
    ending: Ending
    parameters: tuple[tuple[str, float], ...]
    coordinates: Float[np.ndarray, " p"]


@dataclass(frozen=True, eq=False)
class Selection:
    """What hyper-parameter selection chose, and everything it tried.

    Attributes:
        kernel: the chosen kernel, with all its numbers.
        network: the network behind the kernel.
        noise: the chosen noise variance, in squared units of the targets.
        criterion: "log_marginal_likelihood" or "leave_one_out".
        value: the criterion of the choice, in nats, summed over the `points` it was evaluated on.
        points: size of that subset of the data.
        candidate: depth, activation, kernel name and feature scales of the choice.
        history: every climb, in order.
        ending: "finished", or why selection stopped early ("time limit", "interrupted").
        seconds: wall time used.
    """

    kernel: Kernel
    network: Serial
    noise: float
    criterion: CriterionName
    value: float
    points: int
    candidate: Candidate
    history: tuple[Trial, ...]
    ending: Literal["finished", "time limit", "interrupted"]
    seconds: float

    def gaussian_process(self) -> GaussianProcess:
        """The chosen Gaussian process, to be conditioned on all the data."""
        return GaussianProcess(self.kernel, self.noise)


def select(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n k"],
    *,
    depths: Sequence[int] = (1, 2, 3),
    activations: Sequence[str | Activation] = ("relu", "erf"),
    kernels: Sequence[KernelName] = ("nngp", "ntk"),
    criterion: CriterionName = "log_marginal_likelihood",
    ard: bool = False,
    starts: int = 2,
    max_points: int = 1000,
    time_limit: float = 120.0,
    width: int = 512,
    seed: int = 0,
    progress: bool | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Selection:
    """Choose network, kernel and noise by the marginal likelihood or by leave-one-out prediction.

    For every combination of depth, activation and kernel, the `w_std` and `b_std` of the layers (see
    `NetworkFamily` for which of them are shared), the noise variance and, with `ard`, one `Scale` per
    feature, climb the criterion by its exact gradient (L-BFGS-B on logarithms, within bounds). Weak
    log-normal priors (see `SearchSpace`), a few nats in all, are part of what is climbed and compared:
    without them, small data draw the maximum into corners of needlessly rough or nearly singular kernels.

    1. the race: every candidate, from `starts` points (the centre of its space, then random draws),
       a few iterations each, on at most 256 points, without feature scales;
    2. the final: the best three go on from their best point, on at most `max_points` points, with
       feature scales if `ard` (all 1 at first). The best of the final is chosen.

    Both subsets are drawn uniformly without replacement, the first inside the second. The outputs are
    modelled as independent, with one kernel and one noise between them. The Gaussian process has mean
    zero: centre y first, and standardise x where its columns have different units.

    The result depends only on the arguments unless time ran out or the user interrupted (Ctrl-C);
    then the best point so far is returned, and `ending` says so. Each climb gets an equal share of the
    time left and overruns it by one evaluation (with compilation, up to a few seconds) at most.

    Args:
        x: inputs, shape (n, d).
        y: targets, shape (n, k).
        depths: numbers of hidden layers to try; 0 is Bayesian linear regression.
        activations: names of `ntkit.nn` activations, or activation layers.
        kernels: "nngp", "ntk" or both.
        criterion: "log_marginal_likelihood" (Rasmussen and Williams 2006, eq. 2.30) or "leave_one_out",
            the leave-one-out log predictive density (eq. 5.11); larger is better for both.
        ard: whether to learn one input scale per feature.
        starts: starting points of each candidate in the race.
        max_points: largest subset used; an evaluation costs O(max_points^3) time and
            O(max_points^2) memory.
        time_limit: seconds of wall time; `math.inf` for none.
        width: width given to the hidden layers of the result; infinite networks do not feel it.
        seed: seed of subsets and starts.
        progress: show a progress bar on the standard error; None shows it on a terminal only.
        clock: seconds since any fixed moment.

    Raises:
        ValueError: for empty choices, unknown names, or fewer than two points.
        NotPositiveDefiniteError: when the criterion could not be evaluated at any start.
    """
    x = np.asarray(as_points("select", np.asarray(x)), dtype=np.float64)
    y = np.asarray(as_targets("select", np.asarray(y), len(x)), dtype=np.float64)
    candidates = _candidates(depths, activations, kernels)
    _check(len(x), criterion, starts, max_points, time_limit)
    search = _Search(x, y, criterion, width, Deadline(clock, clock() + time_limit))
    shuffled = np.random.default_rng(seed).permutation(len(x))
    finalists = min(FINALISTS, len(candidates))
    with _progress_bar(progress, len(candidates) * starts + finalists) as search.advance:
        try:
            search.race(candidates, shuffled[: min(RACE_POINTS, max_points)], starts, seed)
            search.final(finalists, shuffled[:max_points], ard)
        except KeyboardInterrupt:
            search.interrupted = True
    return search.result()


class _Search:
    """The state of one call of `select`."""

    def __init__(
        self,
        x: Float[np.ndarray, "n d"],
        y: Float[np.ndarray, "n k"],
        criterion: CriterionName,
        width: int,
        deadline: Deadline,
    ) -> None:
        self.x, self.y, self.width, self.deadline = x, y, width, deadline
        self.criterion: CriterionName = criterion
        self.scales = _root_mean_square(x), _root_mean_square(y)
        self.trials: list[Trial] = []
        self.objectives: dict[Candidate, Objective] = {}
        self.began = deadline.clock()
        self.interrupted = self.cut = False
        self.advance: Callable[[str], None] = lambda _: None

    def space(self, candidate: Candidate) -> SearchSpace:
        family = NetworkFamily(candidate, self.x.shape[1], self.y.shape[1], self.width)
        return SearchSpace(family, *self.scales)

    def objective(self, candidate: Candidate) -> Objective:
        """The candidate's objective, compiled once for the race and the final."""
        if candidate not in self.objectives:
            self.objectives[candidate] = Objective(self.space(candidate), CRITERIA[self.criterion])
        return self.objectives[candidate]

    def race(self, candidates: list[Candidate], subset: np.ndarray, starts: int, seed: int) -> None:
        deadline, left = self.deadline.share(RACE_TIME), len(candidates) * starts
        for number, candidate in enumerate(candidates):
            objective = self.objective(candidate)
            for start in range(starts):
                point = objective.space.start(np.random.default_rng([seed, number, start]), start)
                self._climb(objective, point, start, subset, RACE_ITERATIONS, deadline, left)
                left -= 1

    def final(self, finalists: int, subset: np.ndarray, ard: bool) -> None:
        best = {trial.candidate: trial for trial in reversed(self._ranking())}
        ranking = sorted(best.values(), key=lambda trial: -trial.score)[:finalists]
        for place, trial in enumerate(ranking):
            objective = self.objective(replace(trial.candidate, ard=ard))
            point = objective.space.carried(self.space(trial.candidate), trial.coordinates)
            left = len(ranking) - place
            self._climb(objective, point, trial.start, subset, FINAL_ITERATIONS, self.deadline, left)

    def result(self) -> Selection:
        """The best trial on the largest subset that was reached."""
        trials = self._ranking()
        if not trials:
            if self.interrupted:
                raise KeyboardInterrupt
            raise NotPositiveDefiniteError(
                f"Selection needs a start at which the {self.criterion} exists, got none in {len(self.trials)} climbs. "
                "Standardise x and y, remove huge outliers, or try activations that grow more slowly."
            )
        points = max(trial.points for trial in trials)
        best = next(trial for trial in trials if trial.points == points)
        space = self.space(best.candidate)
        values = space.values(best.coordinates)
        return Selection(
            kernel=space.family(values),
            network=space.family.network(values),
            noise=dict(best.parameters)["noise"],
            criterion=self.criterion,
            value=best.value,
            points=best.points,
            candidate=best.candidate,
            history=tuple(self.trials),
            ending="interrupted" if self.interrupted else "time limit" if self.cut else "finished",
            seconds=self.deadline.clock() - self.began,
        )

    def _ranking(self) -> list[Trial]:
        """The climbs that found a value, best first."""
        return sorted((t for t in self.trials if math.isfinite(t.score)), key=lambda t: -t.score)

    def _climb(
        self,
        objective: Objective,
        point: Float[np.ndarray, " p"],
        start: int,
        subset: np.ndarray,
        iterations: int,
        deadline: Deadline,
        left: int,
    ) -> None:
        """Climb with an equal share of the time that the climbs left may use; skip when it is over."""
        space = objective.space
        self.advance(str(space.candidate))
        if deadline.passed and self._ranking():
            self.cut = True
            return
        with threadpool_limits(1 if len(subset) <= SERIAL_POINTS else None, user_api="blas"):
            outcome = climb(
                objective,
                point,
                self.x[subset],
                self.y[subset],
                iterations=iterations,
                deadline=deadline.share(1.0 / left),
            )
        parameters = zip(space.names, space.values(outcome.coordinates).tolist(), strict=True)
        self.trials.append(
            Trial(
                candidate=space.candidate,
                start=start,
                points=len(subset),
                value=outcome.value - space.log_prior(outcome.coordinates),
                score=outcome.value,
                start_score=outcome.start_value,
                evaluations=outcome.evaluations,
                ending=outcome.ending,
                parameters=tuple(parameters),
                coordinates=outcome.coordinates,
            )
        )
        self.cut |= outcome.ending == "time limit"
        if outcome.ending == "interrupted":
            raise KeyboardInterrupt


def _root_mean_square(values: Float[np.ndarray, "n k"]) -> float:
    """The scale of data; 1 for zeros, which have none."""
    largest = float(np.max(np.abs(values)))
    return largest * float(np.sqrt(np.mean((values / largest) ** 2))) if largest > 0.0 else 1.0


def _candidates(
    depths: Sequence[int], activations: Sequence[str | Activation], kernels: Sequence[KernelName]
) -> list[Candidate]:
    for name, choices in (("depths", depths), ("activations", activations), ("kernels", kernels)):
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise ValueError(f"select needs {name} as a sequence with at least one entry, got {choices!r}.")
    layers = [activation_named(activation) for activation in activations]
    return [
        Candidate(depth, layer, kernel)
        for depth in depths
        # A network without hidden layers has no activation, and its two kernels coincide.
        for layer in (layers if depth else layers[:1])
        for kernel in (kernels if depth else kernels[:1])
    ]


def _check(points: int, criterion: str, starts: int, max_points: int, time_limit: float) -> None:
    if criterion not in CRITERIA:
        raise ValueError(f"select needs criterion as one of {', '.join(CRITERIA)}, got {criterion!r}.")
    if points < 2:
        raise ValueError(f"select needs at least two points, got {points}.")
    if starts < 1:
        raise ValueError(f"select needs at least one start, got {starts}.")
    if max_points < 2:
        raise ValueError(f"select needs max_points of at least 2, got {max_points}.")
    if not time_limit > 0.0:
        raise ValueError(
            f"select needs a time_limit above 0 seconds, got {time_limit}. Use math.inf for none."
        )


@contextmanager
def _progress_bar(shown: bool | None, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on the standard error that counts climbs, or nothing."""
    if not (sys.stderr.isatty() if shown is None else shown):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("Selecting"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True, force_terminal=shown), transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def advance(description: str) -> None:
            nonlocal begun
            bar.update(task, completed=begun, description=description)
            begun += 1

        yield advance
