"""Heavy-ball momentum in closed form, per eigendirection: its flow, a damped oscillator, and its discrete steps."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.filters import SpectralFilter

SERIES_REACH = 1.0
"""Up to this size of `max(γ, ω) t` the flow's power series is used, whose terms fall faster than 1 / n!."""

SERIES_TERMS = 26
"""After these the first neglected term is below `2^26 / 28!`, 1e-21 of the first."""

WELL_OVERDAMPED = 0.125
"""Below this value of `ω² / γ²` the two decay rates differ by a factor above 5 and are used separately."""


@dataclass(frozen=True, eq=False)
class HeavyBallFlowFilter(SpectralFilter):
    """The flow with inertia, `θ̈ + γ θ̇ = -η ∇L` from rest: `r̈ + γ ṙ + ω² r = 0`, `ω² = η λ`.

    `r = e^{-at} (cosh wt + a sinh(wt) / w)` with `a = γ/2`, `w² = a² - ω²`; below critical damping w is imaginary.

    Args:
        rate: η, already divided by the loss's reduction.
        friction: γ, positive.
        times: t, shape (t,), at least 0; infinity is training to convergence.

    Source:
        Polyak (1964), Some methods of speeding up the convergence of iteration methods, section 2.
    """

    rate: float
    friction: float
    times: Float[np.ndarray, " t"]

    @property
    def distance(self) -> Float[np.ndarray, " t"]:
        damped = self.friction * self.times
        # (γt - 1 + e^{-γt}) / γ²; early on its series, t²/2 (1 - γt/3 + ...), in the one place that has it.
        early = _series(np.minimum(self.times, SERIES_REACH / self.friction), self.friction, np.zeros(1))[
            :, 0
        ]
        with np.errstate(invalid="ignore"):
            late = (damped + np.expm1(-damped)) / self.friction**2
        return self.rate * np.where(damped <= SERIES_REACH, early, late)

    def response(self, eigenvalues: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        half, squared = self.friction / 2.0, self.rate * eigenvalues
        remaining = np.zeros((len(self.times), len(eigenvalues)))
        gained = np.ones_like(remaining)
        finite = np.isfinite(self.times)
        times = self.times[finite][:, None]
        decay, cosine, sine = _oscillation(half, squared, times)
        left = decay * cosine + half * sine
        late = 1.0 - left
        slow = squared < WELL_OVERDAMPED * self.friction**2
        late[:, slow] = _overdamped(self.friction, squared[slow], times)
        early = np.maximum(self.friction, np.sqrt(squared))[None, :] * times <= SERIES_REACH
        reach = SERIES_REACH / np.maximum(self.friction, np.sqrt(squared))
        series = _series(np.minimum(times, reach[None, :]), self.friction, squared) * squared[None, :]
        gained[finite] = np.where(early, series, late)
        remaining[finite] = left
        return remaining, gained / eigenvalues[None, :]

    def speed(self, eigenvalues: Float[np.ndarray, " n"]) -> Float[np.ndarray, "t n"]:
        """How fast the weight of each direction grows, `η e^{-at} sinh(wt) / w`."""
        squared = self.rate * (eigenvalues + self.ridge)
        finite = np.where(np.isfinite(self.times), self.times, 0.0)
        return self.rate * _oscillation(self.friction / 2.0, squared, finite[:, None])[2]


def _oscillation(half: float, squared: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, ...]:
    """`e^{-at}` (1 where the others contain it), `cosh wt` or `cos`, and `e^{-at} sinh(wt) / w`; w² of either sign."""
    discriminant = half**2 - squared
    over = (discriminant > 0)[None, :]
    frequency = np.sqrt(np.abs(discriminant))[None, :]
    phase = np.where(over, 0.0, frequency * times)
    decay = np.exp(-half * times) * np.ones_like(phase)
    # e^{-at} cosh wt = (e^{-(a-w)t} + e^{-(a+w)t}) / 2 cannot overflow; a - w = ω² / (a + w) does not cancel.
    fast = half + np.where(over, frequency, 0.0)
    slow = squared[None, :] / fast
    cosine = np.where(over, 0.5 * (np.exp(-slow * times) + np.exp(-fast * times)), np.cos(phase))
    narrow = np.where(over, 2.0 * frequency, 1.0)
    hyperbolic = np.exp(-slow * times) * -np.expm1(-narrow * times) / narrow
    circular = decay * times * np.sinc(phase / np.pi)
    return np.where(over, 1.0, decay), cosine, np.where(over, hyperbolic, circular)


def _overdamped(friction: float, squared: np.ndarray, times: np.ndarray) -> np.ndarray:
    """`1 - r` for two well separated decay rates: nothing cancels but where the series serves."""
    fast = friction / 2.0 + np.sqrt(friction**2 / 4.0 - squared)[None, :]
    slow = squared[None, :] / fast
    return (-fast * np.expm1(-slow * times) + slow * np.expm1(-fast * times)) / (fast - slow)


def _series(times: np.ndarray, friction: float, squared: np.ndarray) -> np.ndarray:
    """`(1 - r) / ω²` by its power series in t: `Σ_m (-1)^m h_m t^{m+2} / (m+2)!`, `h_m = γ h_{m-1} - ω² h_{m-2}`."""
    times = times if times.ndim == 2 else times[:, None]
    before, homogeneous = np.zeros_like(squared), np.ones_like(squared)
    power = times**2 / 2.0
    total = np.zeros(np.broadcast_shapes(times.shape, (1, len(squared))))
    for m in range(SERIES_TERMS):
        total = total + homogeneous[None, :] * power
        before, homogeneous = homogeneous, friction * homogeneous - squared * before
        power = -power * times / (m + 3)
    return total


@dataclass(frozen=True, eq=False)
class HeavyBallFilter(SpectralFilter):
    """Steps with momentum, `θ_{k+1} = θ_k - η ∇L + β (θ_k - θ_{k-1})`: `r_{k+1} = (1 + β - ηλ) r_k - β r_{k-1}`.

    With the roots `z₁, z₂` of `z² - (1 + β - ηλ) z + β`: `r_k = z₁^k + (z₁ - 1 + ηλ) (z₂^k - z₁^k) / (z₁ - z₂)`.
    They are real and positive for `ηλ <= (1 - √β)²`, complex of size √β up to `(1 + √β)²`, and negative beyond.

    Args:
        rate: η, already divided by the loss's reduction; below `2 (1 + β) / (λ_max + ρ)`.
        momentum: β, in (0, 1).
        steps: k, shape (t,), whole numbers of at least 0 or infinity, as floats.
        odd: whether each k is odd, shape (t,).

    Source:
        Polyak (1964), section 3.
    """

    rate: float
    momentum: float
    steps: Float[np.ndarray, " t"]
    odd: np.ndarray

    @property
    def distance(self) -> Float[np.ndarray, " t"]:
        beta = self.momentum
        finite = np.where(np.isfinite(self.steps), self.steps, 0.0)
        travelled = (finite + beta * np.expm1(finite * np.log(beta)) / (1.0 - beta)) / (1.0 - beta)
        return self.rate * np.where(np.isfinite(self.steps), travelled, np.inf)

    def response(self, eigenvalues: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        moved, root = self.rate * eigenvalues, np.sqrt(self.momentum)
        # Factored, the discriminant (1 + β - m)² - 4β keeps its digits near both critical dampings.
        discriminant = ((1.0 - root) ** 2 - moved) * ((1.0 + root) ** 2 - moved)
        remaining = np.zeros((len(self.steps), len(moved)))
        gained = np.ones_like(remaining)
        steps = np.isfinite(self.steps)
        kinds = (
            (self._positive, (discriminant >= 0) & (moved <= 1.0)),
            (self._complex, discriminant < 0),
            (self._negative, (discriminant >= 0) & (moved > 1.0)),
        )
        for formula, chosen in kinds:
            where = np.ix_(steps, chosen)
            left, learnt = formula(moved[chosen], np.abs(discriminant[chosen]), self.steps[steps][:, None])
            remaining[where], gained[where] = left, learnt
        return remaining, gained / eigenvalues[None, :]

    def _positive(self, moved: np.ndarray, discriminant: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, ...]:
        beta, width = self.momentum, np.sqrt(discriminant)
        trace = 1.0 + beta - moved
        small = 2.0 * beta / (trace + width)
        # (1 - z₁)(1 - z₂) = ηλ: the slow root's distance from 1, without subtraction.
        slow = np.log1p(-moved / (1.0 - small))
        large = np.exp(slow)
        carried = (moved * small / (1.0 - small))[None, :] * _divided_power(large, slow, width, k)
        return np.exp(k * slow[None, :]) + carried, -np.expm1(k * slow[None, :]) - carried

    def _complex(self, moved: np.ndarray, discriminant: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, ...]:
        beta, width = self.momentum, np.sqrt(discriminant)
        angle = np.arctan2(width, 1.0 + beta - moved)[None, :]
        size = np.exp(0.5 * k * np.log(beta))
        left = size * (np.cos(k * angle) + ((1.0 - beta - moved) / width)[None, :] * np.sin(k * angle))
        return left, 1.0 - left

    def _negative(self, moved: np.ndarray, discriminant: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, ...]:
        beta, width = self.momentum, np.sqrt(discriminant)
        small = 2.0 * beta / (moved - 1.0 - beta + width)
        # (1 + z₁)(1 + z₂) = 2 (1 + β) - ηλ: how far from divergence.
        slow = np.log1p(-(2.0 * (1.0 + beta) - moved) / (1.0 - small))
        large = np.exp(slow)
        # r_k = z₁^k + (z₁ - 1 + ηλ)(z₂^k - z₁^k) / (z₁ - z₂) with z = -|z|.
        carried = (moved - 1.0 - large)[None, :] * _divided_power(large, slow, width, k)
        odd = self.odd[np.isfinite(self.steps)][:, None]
        left = np.where(odd, -1.0, 1.0) * (np.exp(k * slow[None, :]) + carried)
        return left, 1.0 - left


def _divided_power(large: np.ndarray, log_large: np.ndarray, width: np.ndarray, k: np.ndarray) -> np.ndarray:
    """`(z₁^k - z₂^k) / (z₁ - z₂)` for positive roots, also where they coincide."""
    ratio = np.log1p(-np.minimum(width / large, 1.0))  # log(z₂ / z₁)
    wide = width > 0
    apart = -np.expm1(k * np.where(wide, ratio, 0.0)[None, :]) / np.where(wide, width, 1.0)[None, :]
    return np.exp(k * log_large[None, :]) * np.where(wide[None, :], apart, k / large[None, :])
