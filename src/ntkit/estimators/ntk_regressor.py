"""Regression by an ensemble of infinitely wide networks trained by gradient flow."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from ntkit.estimators.targets import TargetScaling
from ntkit.estimators.training import TrainedEstimator
from ntkit.inference.selection import CriterionName
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer


class NTKRegressor(RegressorMixin, TrainedEstimator):
    """Regression by infinitely wide networks, trained by gradient flow on the squared loss for a given time.

    `predict` returns the mean over the ensemble of random initialisations,
    `f_t(x) = Θ(x, X) Θ^-1 (1 - exp(-η Θ t)) y`, and on request the ensemble's standard deviation: how much
    trained networks differ from each other at x. That is not a Bayesian posterior, contains no observation
    noise, and is zero at the training points for t = infinity (Lee et al. 2019, eqs. 14 to 16). The Bayesian
    counterpart is `NNGPRegressor`.

    Inputs are used as given, in float64: put a `StandardScaler` in front where columns have different units. With a
    network for them, such as those of `ntkit.zoo`, X may be images of shape (n, *pixels, channels), or (n, H, W) of one
    channel: put an `ImageScaler` in front.

    Args:
        network: a layer of `ntkit.nn`; None builds one from the next four arguments.
        depth: number of hidden layers; several to choose among with `select`.
        activation: name of an `ntkit.nn` activation, or an activation layer; several with `select`.
        w_std: weight standard deviation of the hidden layers; None is the critical one of the activation,
            at which the variance is the same in every layer (sqrt(2) for "relu").
        b_std: bias standard deviation of all layers.
        time: training time, from 0 to infinity, or "best" for the one with the smallest squared error in
            5-fold cross-validation, in closed form. On noisy targets stopping early matters: it acts like a
            ridge of about `1 / (learning_rate time)`.
        learning_rate: learning rate η of the flow on the summed loss `1/2 sum |f - y|^2`; only its product
            with `time` matters.
        normalize_y: whether the targets are centred and scaled to variance 1, output by output, before
            training. The networks' prior mean is 0, so centre them yourself otherwise.
        select: whether to choose depth, activation, `w_std` and `b_std` on the data, by treating the NTK as
            the covariance of a Gaussian process (see `ntkit.inference.select`).
        criterion: "log_marginal_likelihood" or "leave_one_out", for `select`.
        ard: whether `select` also learns one scale per input feature.
        time_limit: seconds for `select`.
        random_state: seed of `select` and of the folds of `time="best"`.

    Attributes:
        network_: the network.
        time_: the training time.
        flow_: the solved training, an `ntkit.dynamics.GradientFlow` in units of the normalised targets.
        stopping_: the cross-validated loss over time, for `time="best"`; else None.
        selection_: the result of `select`; else None.
        n_features_in_: number of features seen at fit (for images the first of their pixel axes).
        input_shape_: shape of one input seen at fit.
        feature_names_in_: their names, where the inputs had names.

    Example:
        >>> import numpy as np
        >>> from ntkit.estimators import NTKRegressor
        >>> x = np.linspace(-2.0, 2.0, 9)[:, None]
        >>> regressor = NTKRegressor(depth=1, b_std=0.5).fit(x, np.sin(x[:, 0]))
        >>> mean, std = regressor.predict(x, return_std=True)
        >>> bool(np.abs(mean - np.sin(x[:, 0])).max() < 1e-6), bool(std.max() < 1e-3)
        (True, True)
    """

    def __init__(
        self,
        network: Layer | None = None,
        *,
        depth: int | Sequence[int] = 2,
        activation: str | Activation | Sequence[str | Activation] = "relu",
        w_std: float | None = None,
        b_std: float = 0.1,
        time: float | str = math.inf,
        learning_rate: float = 1.0,
        normalize_y: bool = True,
        select: bool = False,
        criterion: CriterionName = "log_marginal_likelihood",
        ard: bool = False,
        time_limit: float = 60.0,
        random_state: Any = 0,
    ) -> None:
        self.network = network
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.time = time
        self.learning_rate = learning_rate
        self.normalize_y = normalize_y
        self.select = select
        self.criterion = criterion
        self.ard = ard
        self.time_limit = time_limit
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "NTKRegressor":
        """Solve the training of the wide network on X, shape (n, d) or (n, *S, c), and y, shape (n,) or (n, k)."""
        X, y = self._training_inputs(X, y, multi_output=True, y_numeric=True)
        y = np.asarray(y, dtype=np.float64)
        self.targets_ = TargetScaling.of(y, self.normalize_y)
        self._train(X, self.targets_.standardised(y))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The ensemble's mean at X, shape (m,) or (m, k), and with `return_std` its standard deviation too."""
        X = self._new_inputs(X)
        trained = self._trained()
        mean = self.targets_.mean_in_units(trained.mean(X))
        return (mean, self.targets_.std_in_units(trained.std(X))) if return_std else mean

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
