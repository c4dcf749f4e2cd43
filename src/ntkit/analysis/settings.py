"""Every choice a user can make about the main job, with its default, checked once."""

from dataclasses import dataclass
from typing import Literal

from ntkit.errors import TableError
from ntkit.inference.selection import CriterionName
from ntkit.model.fitted import Distribution
from ntkit.tables.encode import Unseen
from ntkit.tables.missing import Missing
from ntkit.tables.schema import Task
from ntkit.zoo import network_named


@dataclass(frozen=True)
class Settings:
    """How to fit a table.

    Attributes:
        network: Name of a network of `ntkit.zoo`, such as "myrtle5" or "mlp3", to use as it is; None chooses a dense
            network by `depths`, `activations` and the criterion. Images need a name.
        task: "regression" or "classification"; None decides from the target.
        categorical: Number columns to treat as categories.
        ignore: Columns to leave out.
        missing: What to do with missing values: "error", "drop" or "impute".
        unseen: What to do with categories that only the test table has: "error" or "ignore".
        test_fraction: Share of rows held out when no test table is given.
        seed: Seed of the split, subsamples, folds, starts and finite networks.
        max_rows: Most training rows used; exact kernels cost O(rows^3). More rows raise, unless `subsample`.
        subsample: Whether to draw `max_rows` training rows at random from a larger table.
        depths: Numbers of hidden layers to try.
        activations: Names of activations to try.
        kernel: The posterior's kernel: "nngp", "ntk", or "auto" for the better by the criterion.
        criterion: "log_marginal_likelihood" or "leave_one_out".
        ard: Whether to learn one input scale per encoded feature.
        starts: Starts of the hyper-parameter search per candidate.
        time_limit: Seconds that the hyper-parameter search may take.
        distribution: Where predictions come from: "posterior", "stopped" or "converged".
        level: Probability of the prediction intervals.
        folds: Folds of the cross-validation that chooses the stopping time.
        baselines: Whether to fit the baselines.
        width: Width of the finite networks.
        networks: Number of finite networks trained for comparison; 0 for none.
        network_steps: Most gradient steps of a finite network.
        network_seconds: Seconds that the finite networks may take together.
    """

    network: str | None = None
    task: Task | None = None
    categorical: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    missing: Missing = "error"
    unseen: Unseen = "error"
    test_fraction: float = 0.25
    seed: int = 0
    max_rows: int = 5000
    subsample: bool = False
    depths: tuple[int, ...] = (1, 2, 3)
    activations: tuple[str, ...] = ("relu", "erf")
    kernel: Literal["nngp", "ntk", "auto"] = "auto"
    criterion: CriterionName = "log_marginal_likelihood"
    ard: bool = False
    starts: int = 3
    time_limit: float = 60.0
    distribution: Distribution = "posterior"
    level: float = 0.95
    folds: int = 5
    baselines: bool = True
    width: int = 512
    networks: int = 2
    network_steps: int = 5000
    network_seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.network is not None:
            network_named(self.network)  # an unknown name is refused before any work
        self._need("test_fraction", "between 0 and 1", 0.0 < self.test_fraction < 1.0)
        self._need("level", "between 0 and 1", 0.0 < self.level < 1.0)
        self._need("folds", "at least 2", self.folds >= 2)
        self._need("max_rows", "at least 10", self.max_rows >= 10)
        self._need("networks", "at least 0", self.networks >= 0)
        self._need("width", "at least 1", self.width >= 1)
        self._need("network_steps", "at least 1", self.network_steps >= 1)
        self._need("network_seconds", "above 0", self.network_seconds > 0.0)
        self._need("time_limit", "above 0", self.time_limit > 0.0)
        self._need("starts", "at least 1", self.starts >= 1)
        self._need("seed", "at least 0", self.seed >= 0)

    def _need(self, name: str, what: str, satisfied: bool) -> None:
        if not satisfied:
            option = "--" + name.replace("_", "-")
            raise TableError(f"Fitting a table needs {name} ({option}) {what}, got {getattr(self, name)}.")
