"""Layers and activations of networks: finite functions and their infinite-width limits in one value."""

from ntkit.nn.activations.erf import Erf, Gelu
from ntkit.nn.activations.exponential import Exp, Gaussian
from ntkit.nn.activations.kinked import Elu, HardTanh, Selu
from ntkit.nn.activations.piecewise_linear import Abs, Identity, LeakyRelu, PiecewiseLinear, Relu
from ntkit.nn.activations.polynomial import Hermite, Monomial, Polynomial
from ntkit.nn.activations.rectified_monomial import RectifiedMonomial
from ntkit.nn.activations.smooth import Elementwise, Mish, Sigmoid, Silu, Softplus, Tanh
from ntkit.nn.activations.step import Sign, Step
from ntkit.nn.activations.trigonometric import Cos, Rbf, Sin
from ntkit.nn.aggregate import Aggregate
from ntkit.nn.attention import GlobalSelfAttention
from ntkit.nn.batch_norm import BatchNorm
from ntkit.nn.convolution import Conv
from ntkit.nn.dense import Dense
from ntkit.nn.dropout import Dropout
from ntkit.nn.flatten import Flatten
from ntkit.nn.layer_norm import LayerNorm
from ntkit.nn.linear_map import LinearMap
from ntkit.nn.mask import Mask
from ntkit.nn.other_convolutions import ConvLocal, ConvTranspose
from ntkit.nn.parallel import Parallel, Repeat, Residual
from ntkit.nn.pooling import AvgPool, GlobalAvgPool, GlobalSumPool, SumPool
from ntkit.nn.positions import PositionalEmbedding
from ntkit.nn.recurrent import Recurrent
from ntkit.nn.scale import Scale
from ntkit.nn.selection import ImageResize, Index
from ntkit.nn.serial import Serial

__all__ = [
    "Abs",
    "Aggregate",
    "AvgPool",
    "BatchNorm",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Cos",
    "Dense",
    "Dropout",
    "Elementwise",
    "Elu",
    "Erf",
    "Exp",
    "Flatten",
    "Gaussian",
    "Gelu",
    "GlobalAvgPool",
    "GlobalSelfAttention",
    "GlobalSumPool",
    "HardTanh",
    "Hermite",
    "Identity",
    "ImageResize",
    "Index",
    "LayerNorm",
    "LeakyRelu",
    "LinearMap",
    "Mask",
    "Mish",
    "Monomial",
    "Parallel",
    "PiecewiseLinear",
    "Polynomial",
    "PositionalEmbedding",
    "Rbf",
    "RectifiedMonomial",
    "Recurrent",
    "Relu",
    "Repeat",
    "Residual",
    "Scale",
    "Selu",
    "Serial",
    "Sigmoid",
    "Sign",
    "Silu",
    "Sin",
    "Softplus",
    "Step",
    "SumPool",
    "Tanh",
]
