"""Draws the pictures of docs/finite_networks.md: kernels and functions of finite networks, before and after training.

Run it as `python docs/figures/finite_figures.py`; it takes about ten minutes on two cores. Name pictures to draw only
those: `python docs/figures/finite_figures.py track gap motion kernel functions`. Prints the figures' numbers.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from sklearn.datasets import load_digits

from ntkit import KernelTracker
from ntkit.nn import Dense, Erf, Relu, Serial
from ntkit.plotting import (
    plot_functions_on_circle,
    plot_kernel_on_circle,
    plot_kernel_track,
    plot_linearization_gap,
    plot_width_decay,
)
from ntkit.theory import functions_on_circle, kernel_motion, kernel_on_circle, linearization_gap

matplotlib.use("Agg")

ASSETS = Path(__file__).parent.parent / "assets"
STEPS = 2000
GENERATOR = np.random.default_rng(0)
X, Y, X_TEST = (GENERATOR.normal(size=shape).astype(np.float32) for shape in ((8, 3), (8, 1), (20, 3)))


def save(figure, name: str) -> None:
    """Write one picture into docs/assets."""
    figure.savefig(ASSETS / f"finite_{name}.png", dpi=110)


def smooth(width: int) -> Serial:
    """Two hidden layers, erf."""
    return Serial(Dense(width, 1.5, 0.1), Erf(), Dense(width, 1.5, 0.1), Erf(), Dense(1))


def kinked(width: int) -> Serial:
    """Two hidden layers, ReLU."""
    return Serial(Dense(width, 1.5, 0.1), Relu(), Dense(width, 1.5, 0.1), Relu(), Dense(1))


def draw_track() -> None:
    """The kernel of a classifier of digits, trained by Adam."""
    pixels, digits = load_digits(return_X_y=True)
    pixels = ((pixels - pixels.mean(axis=0)) / 8.0).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(digits))
    train, test, watched = order[:1200], order[1200:], order[:200]
    hidden = [layer for _ in range(2) for layer in (Dense(128, 2**0.5, 0.1, "standard"), Relu())]
    network = Serial(*hidden, Dense(10, 1.0, 0.1, "standard"))
    params = network.init(jax.random.key(0), pixels.shape)
    optimizer = optax.adam(1e-3)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, x, labels):
        def loss(params):
            return optax.softmax_cross_entropy_with_integer_labels(network.apply(params, x), labels).mean()

        changes, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, changes), state

    record = [0, *np.geomspace(1, STEPS, 24)]
    tracker = KernelTracker(network.apply, pixels[watched], np.eye(10)[digits[watched]], every=record)
    batches = np.random.default_rng(1)
    for step in range(STEPS + 1):
        tracker(step, params)
        batch = batches.choice(train, 100)
        params, state = update(params, state, jnp.asarray(pixels[batch]), jnp.asarray(digits[batch]))
    track = tracker.result()
    save(plot_kernel_track(track), "track")
    found = np.asarray(network.apply(params, jnp.asarray(pixels[test]))).argmax(axis=1)
    half = int(np.searchsorted(track.distance[0] / track.distance[0, -1], 0.5))
    print("track: test accuracy", round(float((found == digits[test]).mean()), 3))
    print(
        "track: relative change",
        track.relative_change[-1].round(2),
        "distance",
        track.distance[0, -1].round(3),
    )
    print("track: half of that distance by step", track.steps[half])
    print(
        "track: alignment",
        track.alignment[[0, -1]].round(3),
        "effective rank",
        track.effective_rank[[0, -1]].round(2),
    )


def draw_motion() -> None:
    """The drift of the kernel in training against width."""
    motion = kernel_motion(smooth, X, Y, widths=(32, 64, 128, 256, 512), steps=100, key=jax.random.key(0))
    decay = motion.decay()
    save(
        plot_width_decay(
            motion.widths,
            motion.mean,
            motion.standard_error,
            decay(motion.widths),
            decay.exponent,
            decay.standard_error,
            "relative motion of the kernel",
        ),
        "motion",
    )
    print(f"motion: slope {decay.exponent:.3f} +- {decay.standard_error:.3f}", motion.mean.round(4))


def draw_gap() -> None:
    """Networks against their linearisation, against time and width."""
    for name, build in (("erf", smooth), ("relu", kinked)):
        gap = linearization_gap(
            build, X, Y, (32, 64, 128, 256, 512), watch=X_TEST, steps=200, key=jax.random.key(0)
        )
        decay = gap.decay()
        print(f"gap, {name}: slope {decay.exponent:.3f} +- {decay.standard_error:.3f}", gap.mean.round(4))
        if name == "erf":
            save(plot_linearization_gap(gap), "gap_paths")
            save(
                plot_width_decay(
                    gap.widths,
                    gap.mean,
                    gap.standard_error,
                    decay(gap.widths),
                    decay.exponent,
                    decay.standard_error,
                    "largest RMS of  f − f_lin",
                ),
                "gap",
            )


def draw_kernel() -> None:
    """Figure 1 of Jacot et al. (2018)."""
    found = kernel_on_circle(widths=(500, 2000), key=jax.random.key(0))
    save(plot_kernel_on_circle(found), "kernel_on_circle")
    for width, *numbers in zip(found.widths, found.spread, found.motion, found.inflation, strict=True):
        print(
            f"kernel: width {width:g}: spread {numbers[0]:.3f}, motion {numbers[1]:.3f}, inflation {numbers[2]:.3f}"
        )


def draw_functions() -> None:
    """Figure 2 of Jacot et al. (2018)."""
    found = functions_on_circle(widths=(50, 1000), key=jax.random.key(0))
    save(plot_functions_on_circle(found), "functions_on_circle")
    for width, outputs, inside in zip(found.widths, found.outputs, found.inside, strict=True):
        error = np.abs(outputs.mean(axis=0) - found.mean).max()
        print(f"functions: width {width:g}: inside 10 to 90 % {inside:.2f}, mean off by at most {error:.3f}")
    print("functions: largest standard deviation of the limit", found.std.max().round(3))


PICTURES = {
    "track": draw_track,
    "motion": draw_motion,
    "gap": draw_gap,
    "kernel": draw_kernel,
    "functions": draw_functions,
}

if __name__ == "__main__":
    for picture in sys.argv[1:] or PICTURES:
        PICTURES[picture]()
