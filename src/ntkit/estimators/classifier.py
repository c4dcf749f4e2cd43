"""Classification by an ensemble of infinitely wide networks trained on one-hot targets."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from ntkit.estimators.training import TrainedEstimator
from ntkit.inference.class_probabilities import class_probabilities
from ntkit.inference.selection import CriterionName
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer


class NTKClassifier(ClassifierMixin, TrainedEstimator):
    """Classification by infinitely wide networks, trained by gradient flow on the squared loss of one-hot targets.

    One output per class learns `1` for its own class and `0` for the others, less the class's frequency, as
    in Lee et al. (2019). `predict` is the class with the largest mean over the ensemble of initialisations.
    `predict_proba` is the fraction of the ensemble's networks that would choose each class, that is, the
    probability that the class's Gaussian output is the largest (`ntkit.inference.class_probabilities`): the
    networks' agreement, not a calibrated frequency. It is certainty at the training points for t = infinity.

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
            5-fold cross-validation, in closed form.
        learning_rate: learning rate η of the flow on the summed loss `1/2 sum |f - y|^2`; only its product
            with `time` matters.
        select: whether to choose depth, activation, `w_std` and `b_std` on the data, by treating the NTK as
            the covariance of a Gaussian process of the one-hot targets (see `ntkit.inference.select`).
        criterion: "log_marginal_likelihood" or "leave_one_out", for `select`.
        ard: whether `select` also learns one scale per input feature.
        time_limit: seconds for `select`.
        random_state: seed of `select` and of the folds of `time="best"`.

    Attributes:
        classes_: the class labels, sorted.
        network_: the network.
        time_: the training time.
        flow_: the solved training, an `ntkit.dynamics.GradientFlow`.
        stopping_: the cross-validated loss over time, for `time="best"`; else None.
        selection_: the result of `select`; else None.
        n_features_in_: number of features seen at fit (for images the first of their pixel axes).
        input_shape_: shape of one input seen at fit.
        feature_names_in_: their names, where the inputs had names.

    Example:
        >>> import numpy as np
        >>> from ntkit.estimators import NTKClassifier
        >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> classifier = NTKClassifier(depth=1).fit(x, ["low", "low", "high", "high"])
        >>> classifier.predict([[-1.5], [1.5]])
        array(['low', 'high'], dtype='<U4')
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
        self.select = select
        self.criterion = criterion
        self.ard = ard
        self.time_limit = time_limit
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "NTKClassifier":
        """Solve the training of the wide network on X, shape (n, d) or (n, *S, c), and labels y, shape (n,)."""
        X, y = self._training_inputs(X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"NTKClassifier needs at least two classes in y, got one class: {self.classes_[0]!r}. "
                "There is nothing to tell apart."
            )
        targets = np.eye(len(self.classes_))[codes]
        self.frequencies_ = targets.mean(axis=0)
        self._train(X, targets - self.frequencies_[None, :])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest mean output, shape (m,)."""
        mean, _ = self._scores(X)
        return self.classes_[np.argmax(mean, axis=1)]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "m k"]:
        """The probability over the ensemble that each class, in the order of `classes_`, has the largest output."""
        return np.asarray(class_probabilities(*self._scores(X)))

    def _scores(self, X: Any) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """The mean outputs, class frequencies added back, and their common standard deviation."""
        X = self._new_inputs(X)
        trained = self._trained()
        return np.asarray(trained.mean(X)) + self.frequencies_[None, :], np.asarray(trained.std(X))
