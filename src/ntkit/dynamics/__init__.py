"""Training: gradient flow and descent of infinitely wide networks in closed form, and of finite ones by steps."""

from ntkit.dynamics.gradient_descent import GradientDescent, gradient_descent
from ntkit.dynamics.gradient_flow import GradientFlow, gradient_flow
from ntkit.dynamics.trained import Trained
from ntkit.dynamics.trajectory import Trajectory

__all__ = ["GradientDescent", "GradientFlow", "Trained", "Trajectory", "gradient_descent", "gradient_flow"]
