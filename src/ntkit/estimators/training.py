"""What the estimators of trained networks share: gradient flow to a given or a cross-validated time."""

import math
from abc import ABC

import numpy as np
from jaxtyping import Float
from sklearn.utils import check_random_state

from ntkit.dynamics import Trained, gradient_flow
from ntkit.dynamics.stopping import best_stopping_time
from ntkit.estimators.architecture import WideNetworkEstimator
from ntkit.kernels import NNGP, NTK

FOLDS = 5


class TrainedEstimator(WideNetworkEstimator, ABC):
    """Base of the estimators that train an infinitely wide ensemble."""

    time: float | str
    learning_rate: float

    def _train(self, x: Float[np.ndarray, "n *d"], y: Float[np.ndarray, "n k"]) -> None:
        """Set `network_`, `selection_`, `flow_`, `stopping_` and `time_`."""
        if self.time != "best" and (isinstance(self.time, str) or math.isnan(self.time) or self.time < 0):
            raise ValueError(
                f'{type(self).__name__} needs time as a number of at least 0 or "best", got {self.time!r}.'
            )
        self._choose(x, y, "ntk")
        ntk = NTK(self.network_)
        self.flow_ = gradient_flow(ntk, x, y, prior=NNGP(self.network_), learning_rate=self.learning_rate)
        self.stopping_ = None
        if self.time == "best":
            self.stopping_ = best_stopping_time(
                ntk,
                x,
                y,
                folds=max(2, min(FOLDS, len(x))),
                learning_rate=self.learning_rate,
                seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            )
        self.time_ = float(self.time if self.stopping_ is None else self.stopping_.time)

    def _trained(self) -> Trained:
        """The ensemble at the chosen time."""
        return self.flow_.at(self.time_)
