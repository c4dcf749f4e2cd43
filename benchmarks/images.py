"""Time of convolutional kernels (NNGP and NTK in one pass) per pair of images: ntkit beside neural-tangents.

    python benchmarks/images.py [--peer PYTHON] [--repeats 3] [--out FOLDER]

PYTHON is as for `gram.py`. Every library runs in a process of its own and they take turns within one run; each gets as
many images as suit it, and what is printed is milliseconds per pair, float32, two different sets of images. The first
evaluation compiles and is not counted. `images.json` and `images.md` are written to the folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = {
    "3 conv + global average pooling, 16x16x3": {"side": 16, "network": "pooled"},
    "3 conv + global average pooling, 32x32x3": {"side": 32, "network": "pooled"},
    "3 conv + flatten, 32x32x3": {"side": 32, "network": "flat"},
    "Myrtle-5 with average pooling, 16x16x3": {"side": 16, "network": "myrtle"},
    "Myrtle-5 with average pooling, 32x32x3": {"side": 32, "network": "myrtle"},
    "2 residual blocks + global average pooling, 16x16x3": {"side": 16, "network": "residual"},
}
IMAGES = {"ntkit": {"flat": 256}, "neural-tangents": {"flat": 16}}
"""Images in each of the two sets, where it is not what `USUAL` says."""

USUAL = {"ntkit": 32, "neural-tangents": 2}


def build(nn, case: str):
    """The network of a case from a library's layers, given as a dictionary of functions."""
    conv, relu = nn["conv"], nn["relu"]
    block = [conv(), relu()]
    if case == "myrtle":
        layers = [*block, *block, nn["pool"](), *block, nn["pool"](), *block, nn["pool"](), nn["global"]()]
    elif case == "residual":
        layers = [conv()]
        for _ in range(2):
            layers += [nn["residual"](nn["serial"](relu(), conv(), relu(), conv()))]
        layers += [relu(), nn["global"]()]
    else:
        layers = [*block * 3, nn["flatten"]() if case == "flat" else nn["global"]()]
    return nn["serial"](*layers, nn["dense"]())


def ntkit_evaluator(case: str):
    from ntkit.kernels import nngp_and_ntk
    from ntkit.nn import AvgPool, Conv, Dense, Flatten, GlobalAvgPool, Relu, Residual, Serial

    network = build(
        {
            "conv": lambda: Conv(1, (3, 3), w_std=2.0**0.5, b_std=0.1),
            "relu": Relu,
            "pool": lambda: AvgPool((2, 2)),
            "global": GlobalAvgPool,
            "flatten": Flatten,
            "dense": lambda: Dense(1, 2.0**0.5, 0.1),
            "residual": Residual,
            "serial": Serial,
        },
        case,
    )
    return lambda x1, x2: tuple(nngp_and_ntk(network, x1, x2))


def peer_evaluator(case: str):
    import jax
    from neural_tangents import stax

    network = build(
        {
            "conv": lambda: stax.Conv(1, (3, 3), padding="SAME", W_std=2.0**0.5, b_std=0.1),
            "relu": stax.Relu,
            "pool": lambda: stax.AvgPool((2, 2), strides=(2, 2)),
            "global": stax.GlobalAvgPool,
            "flatten": stax.Flatten,
            "dense": lambda: stax.Dense(1, 2.0**0.5, 0.1),
            "residual": lambda body: stax.serial(
                stax.FanOut(2), stax.parallel(body, stax.Identity()), stax.FanInSum()
            ),
            "serial": stax.serial,
        },
        case,
    )
    kernel = jax.jit(network[2], static_argnames="get")
    return lambda x1, x2: jax.block_until_ready(kernel(x1, x2, get=("nngp", "ntk")))


def worker(library: str) -> None:
    """Answer each line of JSON, a case, with milliseconds per pair and a few entries of the NTK."""
    import numpy as np

    evaluators: dict = {}
    for line in sys.stdin:
        case = json.loads(line)
        key = (case["network"], case["side"])
        count = IMAGES[library].get(case["network"], USUAL[library])
        x1, x2 = (
            np.random.default_rng(seed)
            .standard_normal((count, case["side"], case["side"], 3))
            .astype("float32")
            for seed in (0, 1)
        )
        if key not in evaluators:
            evaluate = {"ntkit": ntkit_evaluator, "neural-tangents": peer_evaluator}[library](case["network"])
            evaluators[key] = evaluate
            evaluate(x1, x2)
        start, cpu = time.perf_counter(), time.process_time()
        result = evaluators[key](x1, x2)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        reply = {
            "wall": 1e3 * wall / count**2,
            "cpu": 1e3 * cpu / count**2,
            "ntk": float(np.asarray(result[1])[0, 0]),
        }
        print(json.dumps(reply), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", help="interpreter with neural-tangents")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--worker", choices=IMAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    interpreters = {"ntkit": sys.executable} | ({"neural-tangents": options.peer} if options.peer else {})
    processes = {
        library: subprocess.Popen(
            [interpreter, __file__, "--worker", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for library, interpreter in interpreters.items()
    }
    measured: dict = {}
    lines = [
        "| case | " + " | ".join(interpreters) + " | ratio |",
        "|---|" + "---|" * (len(interpreters) + 1),
    ]
    for name, case in CASES.items():
        found: dict = {library: [] for library in processes}
        for _ in range(options.repeats):
            for library, process in processes.items():
                time.sleep(0.3)
                process.stdin.write(json.dumps(case) + "\n")
                process.stdin.flush()
                found[library].append(json.loads(process.stdout.readline()) | {"load": os.getloadavg()[0]})
        measured[name] = found
        middle = {
            library: statistics.median(r["wall"] for r in results) for library, results in found.items()
        }
        ratio = f"{middle['neural-tangents'] / middle['ntkit']:.0f}" if options.peer else "-"
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in middle.values())} | {ratio} |")
        print(lines[-1], {library: results[0]["ntk"] for library, results in found.items()}, flush=True)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "images.json").write_text(json.dumps(measured, indent=1))
    (options.out / "images.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
