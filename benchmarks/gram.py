"""Time of a Gram matrix (NNGP and NTK), ntkit beside neural-tangents and the matrix product alone.

    python benchmarks/gram.py [--peer PYTHON] [--repeats 7]

PYTHON is the interpreter of an environment with neural-tangents 0.6.5 (`pip install
"neural-tangents==0.6.5" "jax==0.4.23" "jaxlib==0.4.23" "scipy<1.13" "numpy<2"`). Every library runs in
a process of its own; the libraries take turns within one run, so that a busy machine is equally busy for
all. Printed per case: median and minimum wall seconds, median processor seconds, and the load.
"""

import argparse
import os
import subprocess
import sys
import time

CASES = [
    (points, depth, dtype) for points in (4000,) for depth in (3, 10) for dtype in ("float32", "float64")
]
FEATURES = 784


def worker(library: str) -> None:
    """Answer each line `points depth dtype` on standard input with `wall cpu` of one evaluation."""
    import numpy as np

    evaluators: dict = {}
    for line in sys.stdin:
        points, depth, dtype = line.split()
        key = (int(points), int(depth), dtype)
        if key not in evaluators:
            x = np.random.default_rng(0).standard_normal((key[0], FEATURES)).astype(dtype)
            evaluators[key] = EVALUATORS[library](x, key[1])
            evaluators[key]()
        wall, cpu = time.perf_counter(), time.process_time()
        evaluators[key]()
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def ntkit_evaluator(x, depth):
    from ntkit.kernels import nngp_and_ntk
    from ntkit.nn import Dense, Relu, Serial

    network = Serial(
        *[layer for _ in range(depth) for layer in (Dense(1, 1.4, 0.1), Relu())], Dense(1, 1.4, 0.1)
    )
    return lambda: nngp_and_ntk(network, x)


def peer_evaluator(x, depth):
    import jax

    jax.config.update("jax_enable_x64", x.dtype == "float64")
    from neural_tangents import stax

    layers = [layer for _ in range(depth) for layer in (stax.Dense(1, 1.4, 0.1), stax.Relu())]
    kernel = jax.jit(stax.serial(*layers, stax.Dense(1, 1.4, 0.1))[2], static_argnames="get")
    return lambda: jax.block_until_ready(kernel(x, None, get=("nngp", "ntk")))


def product_evaluator(x, depth):
    return lambda: x @ x.T


EVALUATORS = {"ntkit": ntkit_evaluator, "neural-tangents": peer_evaluator, "product": product_evaluator}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", help="interpreter with neural-tangents")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--worker", choices=EVALUATORS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return

    interpreters = {"ntkit": sys.executable, "product": sys.executable}
    if options.peer:
        interpreters["neural-tangents"] = options.peer
    processes = {
        library: subprocess.Popen(
            [interpreter, __file__, "--worker", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for library, interpreter in interpreters.items()
    }
    print(f"{'case':28s} {'library':16s} {'median s':>9s} {'minimum s':>9s} {'cpu s':>7s}   load")
    for points, depth, dtype in CASES:
        results: dict = {library: [] for library in processes}
        for _ in range(options.repeats):
            for library, process in processes.items():
                process.stdin.write(f"{points} {depth} {dtype}\n")
                process.stdin.flush()
                results[library].append([float(value) for value in process.stdout.readline().split()])
        for library, times in results.items():
            wall, cpu = (sorted(values) for values in zip(*times, strict=True))
            case = f"N={points} depth={depth} {dtype}"
            middle = len(wall) // 2
            print(
                f"{case:28s} {library:16s} {wall[middle]:9.3f} {wall[0]:9.3f} {cpu[middle]:7.2f}   "
                f"{os.getloadavg()[0]:.1f}",
                flush=True,
            )
    for process in processes.values():
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
