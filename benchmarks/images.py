"""Time of convolutional kernels (NNGP and NTK in one pass) per pair of images: ntkit beside neural-tangents.

    python benchmarks/images.py [--peer PYTHON] [--repeats 3] [--out FOLDER]

PYTHON is as for `gram.py`. Every library runs in a process of its own and they take turns within one run; each gets as
many images as suit it, and what is printed is milliseconds per pair, float32, two different sets of images. The first
evaluation compiles and is not counted. Beside it the largest error of both of ntkit's kernels, in float32 and float64,
between four images of which two are the same, relative to the float64 reference engine. `images.json`, `images.md` and
`images.svg` are written to the folder.
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
    "1 conv + global average pooling, 16x16x3": {"side": 16, "network": "pooled", "depth": 1},
    "3 conv + global average pooling, 16x16x3": {"side": 16, "network": "pooled"},
    "6 conv + global average pooling, 16x16x3": {"side": 16, "network": "pooled", "depth": 6},
    "3 conv + global average pooling, 16x16x3, 64 images": {"side": 16, "network": "pooled", "images": 64},
    "3 conv + global average pooling, 32x32x3": {"side": 32, "network": "pooled"},
    "3 conv + flatten, 32x32x3": {"side": 32, "network": "flat"},
    "Myrtle-5 with average pooling, 16x16x3": {"side": 16, "network": "myrtle"},
    "Myrtle-5 with average pooling, 32x32x3": {"side": 32, "network": "myrtle"},
    "2 residual blocks + global average pooling, 16x16x3": {"side": 16, "network": "residual"},
}
IMAGES = {"ntkit": {"flat": 256}, "neural-tangents": {"flat": 16}}
"""Images in each of the two sets, where it is not what `USUAL` says."""

USUAL = {"ntkit": 32, "neural-tangents": 2}


def build(nn, case: str, depth: int):
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
        layers = [*block * depth, nn["flatten"]() if case == "flat" else nn["global"]()]
    return nn["serial"](*layers, nn["dense"]())


def ntkit_network(case: str, depth: int):
    from ntkit.nn import AvgPool, Conv, Dense, Flatten, GlobalAvgPool, Relu, Residual, Serial

    return build(
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
        depth,
    )


def ntkit_evaluator(case: str, depth: int):
    from ntkit.kernels import nngp_and_ntk

    network = ntkit_network(case, depth)
    return lambda x1, x2: tuple(nngp_and_ntk(network, x1, x2))


def ntkit_errors(case: str, depth: int, side: int) -> dict:
    """The largest relative error of the fused engine's kernels in both precisions."""
    import numpy as np

    from ntkit import NNGP, NTK

    network = ntkit_network(case, depth)
    x = np.random.default_rng(2).standard_normal((4, side, side, 3)).astype("float32")
    x[3] = x[0]
    errors = {}
    exact = [
        kernel(network, engine="reference")(x[:2].astype(float), x[1:].astype(float))
        for kernel in (NNGP, NTK)
    ]
    for dtype in ("float32", "float64"):
        part = x.astype(dtype)
        found = [kernel(network, engine="fused")(part[:2], part[1:]) for kernel in (NNGP, NTK)]
        errors[dtype] = max(float((abs(a - b) / abs(b)).max()) for a, b in zip(found, exact, strict=True))
    return errors


def peer_evaluator(case: str, depth: int):
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
        depth,
    )
    kernel = jax.jit(network[2], static_argnames="get")
    return lambda x1, x2: jax.block_until_ready(kernel(x1, x2, get=("nngp", "ntk")))


def worker(library: str) -> None:
    """Answer each line of JSON, a case, with milliseconds per pair and a few entries of the NTK."""
    import numpy as np

    evaluators: dict = {}
    for line in sys.stdin:
        case = json.loads(line)
        network, side, depth = case["network"], case["side"], case.get("depth", 3)
        if case.get("errors"):
            print(json.dumps(ntkit_errors(network, depth, side)), flush=True)
            continue
        key = (network, side, depth)
        count = IMAGES[library].get(network, USUAL[library])
        if library == "ntkit":
            count = case.get("images", count)
        x1, x2 = (
            np.random.default_rng(seed).standard_normal((count, side, side, 3)).astype("float32")
            for seed in (0, 1)
        )
        if key not in evaluators:
            evaluate = {"ntkit": ntkit_evaluator, "neural-tangents": peer_evaluator}[library](network, depth)
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
        "| case | " + " | ".join(interpreters) + " | ratio | error, float32 | error, float64 |",
        "|---|" + "---|" * (len(interpreters) + 3),
    ]
    for name, case in CASES.items():
        found: dict = {library: [] for library in processes}
        for _ in range(options.repeats):
            for library, process in processes.items():
                time.sleep(0.3)
                ask(process, case)
                found[library].append(answer(process) | {"load": os.getloadavg()[0]})
        ask(processes["ntkit"], case | {"errors": True})
        errors = answer(processes["ntkit"])
        measured[name] = found | {"errors": errors}
        middle = {
            library: statistics.median(r["wall"] for r in results) for library, results in found.items()
        }
        ratio = f"{middle['neural-tangents'] / middle['ntkit']:.0f}" if options.peer else "-"
        times = " | ".join(f"{value:.2g}" if value < 0.1 else f"{value:.2f}" for value in middle.values())
        lines.append(f"| {name} | {times} | {ratio} | {errors['float32']:.0e} | {errors['float64']:.0e} |")
        print(lines[-1], {library: results[0]["ntk"] for library, results in found.items()}, flush=True)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "images.json").write_text(json.dumps(measured, indent=1))
    (options.out / "images.md").write_text("\n".join(lines) + "\n")
    draw(measured, options.out / "images.svg")


def ask(process, case: dict) -> None:
    process.stdin.write(json.dumps(case) + "\n")
    process.stdin.flush()


def answer(process) -> dict:
    return json.loads(process.stdout.readline())


def draw(measured: dict, path: Path) -> None:
    """Milliseconds per pair of images as a picture, SVG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from gram_picture import COLOURS

    figure, axes = plt.subplots(figsize=(9, 0.4 * len(measured) + 1.2), layout="constrained")
    names = list(measured)[::-1]
    for library, colour in (
        ("ntkit", COLOURS["ntkit fused"]),
        ("neural-tangents", COLOURS["neural-tangents"]),
    ):
        turns = [(measured[name].get(library), place) for place, name in enumerate(names)]
        kept = [(statistics.median(r["wall"] for r in found), place) for found, place in turns if found]
        if kept:
            axes.plot(*zip(*kept, strict=True), "o", color=colour, label=library)
    axes.set(
        xscale="log", xlabel="milliseconds per pair of images", yticks=range(len(names)), yticklabels=names
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path)


if __name__ == "__main__":
    main()
