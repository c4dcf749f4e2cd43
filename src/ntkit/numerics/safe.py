"""Square roots and angles that stay exact at the diagonal and whose derivatives stay finite there.

Everything about two directions is computed from the *defect* `1 - rho` and the *surplus* `1 + rho` of
their correlation, never from `rho`: near the diagonal `arccos(1 - eps)` has lost half the digits, the
defect none; near opposite directions the same holds of the surplus.
"""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
    """`sqrt(max(x, 0))` with derivative 0 instead of infinity at 0."""
    return jnp.sqrt(jnp.maximum(x, 0.0))


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    positive = x > 0
    slope = jnp.where(positive, 0.5 / jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
    return safe_sqrt(x), slope * dx


def safe_divide(numerator: jax.Array, denominator: jax.Array, otherwise: float) -> jax.Array:
    """`numerator / denominator` where the denominator is positive, else the constant `otherwise`."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1.0), otherwise)


@jax.custom_jvp
def angle(defect: jax.Array, surplus: jax.Array) -> jax.Array:
    """The angle `theta = arccos(rho)` in [0, pi] from `1 - rho` and `1 + rho`, accurate near both ends.

    The derivative `1 / sin(theta)` is infinite where two points coincide; there, every one-sided
    slope has its mirror image, and the symmetric choice 0 is taken.
    """
    return 2.0 * jnp.arctan2(safe_sqrt(defect), safe_sqrt(surplus))


@angle.defjvp
def _angle_jvp(primals, tangents):
    (defect, surplus), (d_defect, d_surplus) = primals, tangents
    slope = safe_divide(jnp.ones_like(defect), sine(defect, surplus), 0.0)
    # The two arguments move oppositely; their mean motion is rounding-free at either end.
    return angle(defect, surplus), slope * (d_defect - d_surplus) / 2.0


def sine(defect: jax.Array, surplus: jax.Array) -> jax.Array:
    """`sin(theta) = sqrt((1 - rho) (1 + rho))`."""
    return safe_sqrt(defect * surplus)


@jax.custom_jvp
def arc_excess(defect: jax.Array, surplus: jax.Array) -> jax.Array:
    """`sin(theta) - theta cos(theta) >= 0`, the part of the arc-cosine kernel that is curved at 0.

    As a function of the defect its derivative is `theta`: finite everywhere, unlike its parts'.
    """
    return sine(defect, surplus) - angle(defect, surplus) * (1.0 - defect)


@arc_excess.defjvp
def _arc_excess_jvp(primals, tangents):
    (defect, surplus), (d_defect, d_surplus) = primals, tangents
    return arc_excess(defect, surplus), angle(defect, surplus) * (d_defect - d_surplus) / 2.0
