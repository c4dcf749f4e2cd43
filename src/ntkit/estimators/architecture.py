"""What all estimators share: the network is given, built from a few numbers, or selected on the data."""

from abc import ABC
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ntkit.estimators.inputs import as_network_inputs, check_input_shape
from ntkit.inference import Selection, select
from ntkit.inference.search_space import Candidate, KernelName, activation_named
from ntkit.inference.selection import CriterionName
from ntkit.nn import Dense, Serial
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer

Choices = int | str | Activation | Sequence[int] | Sequence[str | Activation]


class WideNetworkEstimator(BaseEstimator, ABC):
    """Base of the estimators; the constructors of the subclasses set these attributes and no others."""

    network: Layer | None
    depth: int | Sequence[int]
    activation: str | Activation | Sequence[str | Activation]
    w_std: float | None
    b_std: float
    select: bool
    criterion: CriterionName
    ard: bool
    time_limit: float
    random_state: Any

    def _training_inputs(self, X: Any, y: Any, **checks: Any) -> tuple[Float[np.ndarray, "n *d"], np.ndarray]:
        """Check X and y for `fit`, and remember the shape of an input."""
        X, y = validate_data(self, X, y, dtype=np.float64, allow_nd=True, **checks)
        self.input_shape_ = X.shape[1:]
        network = None if self.select else self.network
        return as_network_inputs(type(self).__name__, network, X), y

    def _new_inputs(self, X: Any) -> Float[np.ndarray, "m *d"]:
        """Check X for `predict` against what `fit` saw."""
        check_is_fitted(self)
        check_input_shape(type(self).__name__, X, self.input_shape_)
        X = validate_data(self, X, dtype=np.float64, allow_nd=True, reset=False)
        return as_network_inputs(type(self).__name__, self.network_, X)

    def _choose(
        self, x: Float[np.ndarray, "n *d"], y: Float[np.ndarray, "n k"], kernel: KernelName
    ) -> Selection | None:
        """Set `network_` and `selection_`, and return the latter (None where nothing was selected)."""
        self.selection_ = self._select(x, y, kernel) if self.select else None
        if self.selection_ is not None:
            self.network_ = self.selection_.network
        elif self.network is not None:
            self.network_ = self.network
        else:
            self.network_ = self._built(y.shape[1])
        return self.selection_

    def _select(
        self, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n k"], kernel: KernelName
    ) -> Selection:
        if self.network is not None:
            raise ValueError(
                f"{type(self).__name__} needs either a network or select=True, got both. Selection builds its own "
                "networks from depth and activation."
            )
        return select(
            x,
            y,
            depths=(self.depth,) if isinstance(self.depth, int | np.integer) else tuple(self.depth),
            activations=(self.activation,)
            if isinstance(self.activation, str | Activation)
            else tuple(self.activation),
            kernels=(kernel,),
            criterion=self.criterion,
            ard=self.ard,
            time_limit=self.time_limit,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            progress=False,
        )

    def _built(self, outputs: int) -> Layer:
        """`depth` hidden layers of critical variance, unless `w_std` says otherwise, and a readout of variance 1."""
        if not isinstance(self.depth, int | np.integer) or not isinstance(self.activation, str | Activation):
            raise ValueError(
                f"{type(self).__name__} needs one depth and one activation, got {self.depth!r} and "
                f"{self.activation!r}. Set select=True to choose among several."
            )
        activation = activation_named(self.activation)
        candidate = Candidate(int(self.depth), activation, "nngp")
        w_std = candidate.second_moment**-0.5 if self.w_std is None else self.w_std
        hidden = [
            layer for _ in range(candidate.depth) for layer in (Dense(512, w_std, self.b_std), activation)
        ]
        return Serial(*hidden, Dense(outputs, 1.0, self.b_std))
