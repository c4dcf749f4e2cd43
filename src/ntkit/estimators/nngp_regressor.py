"""Bayesian regression with an infinitely wide network: the Gaussian process of its prior."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from ntkit.estimators.architecture import WideNetworkEstimator
from ntkit.estimators.targets import TargetScaling
from ntkit.inference import GaussianProcess
from ntkit.inference.selection import CriterionName
from ntkit.kernels import NNGP
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer


class NNGPRegressor(RegressorMixin, WideNetworkEstimator):
    """Bayesian regression with the function-space prior of an infinitely wide network.

    `f ~ GP(0, Σ)` with the NNGP kernel Σ, observed with Gaussian noise (Lee et al. 2018). `predict` returns
    the posterior mean and on request the posterior standard deviation of the function f, without the noise of
    an observation: new observations scatter with variance `std^2 + noise_`. The network trained by gradient
    descent is a different distribution: `NTKRegressor`.

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
        noise: variance of the observation noise, in units of the normalised targets (0.1 is a tenth of the
            targets' variance); ignored with `select`.
        normalize_y: whether the targets are centred and scaled to variance 1, output by output, before
            inference. The prior mean is 0, so centre them yourself otherwise.
        select: whether to choose depth, activation, `w_std`, `b_std` and the noise on the data (see
            `ntkit.inference.select`).
        criterion: "log_marginal_likelihood" or "leave_one_out", for `select`.
        ard: whether `select` also learns one scale per input feature.
        time_limit: seconds for `select`.
        random_state: seed of `select`.

    Attributes:
        network_: the network.
        noise_: noise variance in squared units of the targets; shape (k,) for y of shape (n, k).
        posterior_: the `ntkit.inference.Posterior`, in units of the normalised targets.
        selection_: the result of `select`; else None.
        n_features_in_: number of features seen at fit (for images the first of their pixel axes).
        input_shape_: shape of one input seen at fit.
        feature_names_in_: their names, where the inputs had names.

    Example:
        >>> import numpy as np
        >>> from ntkit.estimators import NNGPRegressor
        >>> x = np.linspace(-2.0, 2.0, 9)[:, None]
        >>> regressor = NNGPRegressor(depth=1, b_std=0.5, noise=1e-4).fit(x, np.sin(x[:, 0]))
        >>> mean, std = regressor.predict(np.array([[0.25], [9.0]]), return_std=True)
        >>> bool(abs(mean[0] - np.sin(0.25)) < 0.01), bool(std[1] > 5 * std[0])
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
        noise: float = 0.1,
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
        self.noise = noise
        self.normalize_y = normalize_y
        self.select = select
        self.criterion = criterion
        self.ard = ard
        self.time_limit = time_limit
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "NNGPRegressor":
        """Condition the process on X, shape (n, d) or (n, *S, c), and y, shape (n,) or (n, k)."""
        X, y = self._training_inputs(X, y, multi_output=True, y_numeric=True)
        y = np.asarray(y, dtype=np.float64)
        self.targets_ = TargetScaling.of(y, self.normalize_y)
        standardised = self.targets_.standardised(y)
        selection = self._choose(X, standardised, "nngp")
        noise = self.noise if selection is None else selection.noise
        self.posterior_ = GaussianProcess(NNGP(self.network_), noise).condition(X, standardised)
        noises = noise * self.targets_.scale**2
        self.noise_ = float(noises[0]) if self.targets_.flat else noises
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The posterior mean at X, shape (m,) or (m, k), and with `return_std` the function's standard deviation."""
        X = self._new_inputs(X)
        mean = self.targets_.mean_in_units(self.posterior_.mean(X))
        return (mean, self.targets_.std_in_units(self.posterior_.std(X))) if return_std else mean

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
