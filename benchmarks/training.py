"""Time of what follows a Gram matrix: closed-form training, other losses, leave-one-out stopping, the certificate.

    python benchmarks/training.py [--points 1000 5000] [--seconds 600]

Data are the digits of scikit-learn, repeated with noise beyond 1,797 rows; one target (even or odd) and a ReLU
network of two hidden layers. Printed per case: wall and processor seconds of one call, and the load. A case is
left out where the one before it took longer than --seconds.
"""

import argparse
import os
import time

import numpy as np
import optax
from sklearn.datasets import load_digits

from ntkit import NNGP, NTK, gradient_flow
from ntkit.dynamics import best_stopping_time
from ntkit.nn import Dense, Relu, Serial
from ntkit.theory import convergence_certificate, eigensystem, learning_curve_on

NETWORK = Serial(Dense(1, 1.4, 0.1), Relu(), Dense(1, 1.4, 0.1), Relu(), Dense(1, 1.4, 0.1))
NTK_KERNEL = NTK(NETWORK)


def data(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised pixels and the parity of the digit, as 0 and 1."""
    pixels, digits = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rng.integers(len(pixels), size=points) if points > len(pixels) else np.arange(points)
    x = pixels[rows] / 16.0
    x = x + (0.1 * rng.normal(size=x.shape) if points > len(pixels) else 0.0)
    return x, (digits[rows] % 2).astype(float)[:, None]


def cases(x: np.ndarray, y: np.ndarray) -> dict:
    """Name to a call that does the work from the beginning, the Gram matrix included."""
    times = np.geomspace(1e-3, 1e3, 40)
    return {
        "gram (NTK)": lambda: NTK_KERNEL(x),
        "flow, 40 times, 100 points": lambda: gradient_flow(NTK_KERNEL, x, y, prior=NNGP(NETWORK)).trajectory(
            times, x[:100] + 0.1
        ),
        "leave-one-out stopping": lambda: best_stopping_time(NTK_KERNEL, x, y, folds="leave-one-out"),
        "certificate": lambda: convergence_certificate(NTK_KERNEL, x),
        "eigensystem": lambda: eigensystem(NTK_KERNEL, x),
        "learning curve, theory": lambda: learning_curve_on(NTK_KERNEL, x, y, [50, 100, 200, 400]),
        "logistic loss to t = 10": lambda: gradient_flow(
            NTK_KERNEL, x, y, loss=optax.sigmoid_binary_cross_entropy, reduction="mean_points"
        ).loss(10.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--seconds", type=float, default=600.0)
    arguments = parser.parse_args()
    slow: set[str] = set()
    NTK_KERNEL(data(50)[0])  # compile
    for points in arguments.points:
        x, y = data(points)
        for name, call in cases(x, y).items():
            if name in slow:
                continue
            wall, processor = time.perf_counter(), time.process_time()
            call()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            if wall > arguments.seconds:
                slow.add(name)
            load = os.getloadavg()[0]
            print(
                f"{points:6d}  {name:28s} {wall:8.2f} s wall {processor:8.2f} s cpu  load {load:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
