"""Independent mathematics of the sphere: slow quadrature in many digits, random points."""

import mpmath
import numpy as np


def degree_average(function, dimension, degree):
    """`∫ f(θ) P_l(cos θ) sin^(d-2) θ dθ / ∫ sin^(d-2) θ dθ` to 30 digits, with mpmath's own Gegenbauer polynomials."""
    with mpmath.workdps(30):
        index = mpmath.mpf(dimension - 2) / 2

        def polynomial(t):
            if dimension == 2:
                return mpmath.chebyt(degree, t)
            return mpmath.gegenbauer(degree, index, t) / mpmath.gegenbauer(degree, index, 1)

        def weighted(theta):
            return function(theta) * polynomial(mpmath.cos(theta)) * mpmath.sin(theta) ** (dimension - 2)

        pieces = mpmath.linspace(0, mpmath.pi, 4)
        total = mpmath.quad(lambda theta: mpmath.sin(theta) ** (dimension - 2), pieces)
        return mpmath.quad(weighted, pieces) / total


def random_on_sphere(generator, points, dimension):
    """Independent uniform points on the unit sphere."""
    x = generator.normal(size=(points, dimension))
    return x / np.linalg.norm(x, axis=1)[:, None]
