"""Function space: expansions, functionals of them, their gradients, and random models and features of kernels."""

from ntkit.rkhs.composed_sketch import ComposedSketch
from ntkit.rkhs.compression import Compressed
from ntkit.rkhs.descent import DescentDivergedError, FunctionalDescent, functional_gradient_descent
from ntkit.rkhs.element import Element
from ntkit.rkhs.expansion import Expansion, representer
from ntkit.rkhs.feature_map import FeatureMap
from ntkit.rkhs.functional import Differential, Functional
from ntkit.rkhs.functional_algebra import Composition
from ntkit.rkhs.functionals import EmpiricalRisk, Evaluation, InnerProduct, SquaredNorm
from ntkit.rkhs.input_distribution import InputDistribution, KernelGradient, kernel_gradient
from ntkit.rkhs.nystrom import Nystrom
from ntkit.rkhs.random_functions import (
    LinearModel,
    ParameterDescent,
    RandomFunctionKernel,
    RandomFunctionModel,
)
from ntkit.rkhs.stability import largest_stable_step

__all__ = [
    "ComposedSketch",
    "Composition",
    "Compressed",
    "DescentDivergedError",
    "Differential",
    "Element",
    "EmpiricalRisk",
    "Evaluation",
    "Expansion",
    "FeatureMap",
    "Functional",
    "FunctionalDescent",
    "InnerProduct",
    "InputDistribution",
    "KernelGradient",
    "LinearModel",
    "Nystrom",
    "ParameterDescent",
    "RandomFunctionKernel",
    "RandomFunctionModel",
    "SquaredNorm",
    "functional_gradient_descent",
    "kernel_gradient",
    "largest_stable_step",
    "representer",
]
