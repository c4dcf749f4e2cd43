"""Training: gradient flow and descent of infinitely wide networks, and of finite ones by steps."""

from ntkit.dynamics.ensemble import EnsembleHistory, train_ensemble
from ntkit.dynamics.finite import TrainingHistory, max_learning_rate, train
from ntkit.dynamics.gradient_descent import GradientDescent, gradient_descent
from ntkit.dynamics.gradient_flow import GradientFlow, gradient_flow
from ntkit.dynamics.linearized import LinearizedModel, TrainedLinearizedModel
from ntkit.dynamics.loss_flow import LossFlow, LossTrained
from ntkit.dynamics.schedule import PiecewiseConstant
from ntkit.dynamics.stopping import StoppingTime, best_stopping_time
from ntkit.dynamics.trained import Trained
from ntkit.dynamics.trajectory import Trajectory

__all__ = [
    "EnsembleHistory",
    "GradientDescent",
    "GradientFlow",
    "LinearizedModel",
    "LossFlow",
    "LossTrained",
    "PiecewiseConstant",
    "StoppingTime",
    "Trained",
    "TrainedLinearizedModel",
    "TrainingHistory",
    "Trajectory",
    "best_stopping_time",
    "gradient_descent",
    "gradient_flow",
    "max_learning_rate",
    "train",
    "train_ensemble",
]
