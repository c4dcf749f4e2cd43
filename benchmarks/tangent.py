"""Time and memory of the tangent kernel of finite networks: ntkit beside neural-tangents and plain JAX.

    python benchmarks/tangent.py [--peer PYTHON] [--repeats 5] [--points 32 128 512] [--limit 400] [--out FOLDER]

PYTHON is an interpreter that has neural-tangents 0.6.5 and a JAX it imports on (0.4.23). An MLP 784-512-512-10, a
convolutional network on 32x32x3 and a 2-layer transformer encoder (32 tokens, 128 features), float32, 10 outputs: the
kernel of N points with themselves, traced over outputs and with all pairs of outputs. Every case runs in a process of
its own, and the libraries take turns; the first evaluation compiles and is not counted; short ones
are repeated for a second. Printed are medians in
milliseconds, and in brackets the peak memory in MiB of the process during an evaluation above what it held before, less
the result. A case that would take more than 12 GiB for Jacobians, or more than `--limit` seconds (400), or that fails,
is left out. `tangent.json`, `tangent.md` and `tangent.svg` are written to the folder.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIBRARIES = ("ntkit", "JAX Jacobian contraction", "NT structured derivatives", "NT Jacobian contraction")
MODELS = ("mlp", "cnn", "transformer")
KINDS = ("traced", "full")


def status(field: str) -> int:
    """A memory field of this process in bytes, as Linux counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def evaluator(library: str, model: str, kind: str, points: int):
    """A function of nothing that computes the kernel and waits for it."""
    import jax
    import numpy as np
    from tangent_models import MODELS as TABLE

    f, make_params, shape = TABLE[model]
    params = make_params(jax.random.PRNGKey(0))
    x = np.asarray(jax.random.normal(jax.random.PRNGKey(1), (points, *shape)))
    size = sum(leaf.size for leaf in jax.tree_util.tree_leaves(params))
    if "Jacobian" in library and 2 * points * 10 * size * 4 > 12 * 2**30:
        raise MemoryError("Jacobians beyond 12 GiB")
    if library == "ntkit":
        from ntkit import EmpiricalNTK

        kernel = EmpiricalNTK(f, params)
        return lambda: (kernel if kind == "traced" else kernel.full)(x)
    if library == "JAX Jacobian contraction":

        def gram(p, inputs):
            jacobian = jax.vmap(lambda point: jax.jacrev(lambda q: f(q, point[None])[0])(p))(inputs)
            total = 0.0
            for leaf in jax.tree_util.tree_leaves(jacobian):
                rows = leaf.reshape(points, 10, -1)
                if kind == "traced":
                    flat = rows.reshape(points, -1)
                    total += flat @ flat.T / 10
                else:
                    flat = rows.reshape(points * 10, -1)
                    total += (flat @ flat.T).reshape(points, 10, points, 10).transpose(0, 2, 1, 3)
            return total

        compiled = jax.jit(gram)
        return lambda: np.asarray(compiled(params, x))
    import neural_tangents as nt

    method = {
        "NT structured derivatives": nt.NtkImplementation.STRUCTURED_DERIVATIVES,
        "NT Jacobian contraction": nt.NtkImplementation.JACOBIAN_CONTRACTION,
    }[library]
    kernel = nt.empirical_ntk_fn(
        f, trace_axes=(-1,) if kind == "traced" else (), vmap_axes=0, implementation=method
    )
    compiled = jax.jit(lambda p, inputs: kernel(inputs, None, p))
    return lambda: np.asarray(compiled(params, x))


def work(library: str, model: str, kind: str, points: int, repeats: int) -> None:
    """Measure one case in this process and print it."""
    evaluate = evaluator(library, model, kind, points)
    evaluate()
    ctypes.CDLL(None).malloc_trim(0)  # what the first evaluation freed must not count as held before
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    result = evaluate()
    peak = status("VmHWM") - before - result.nbytes
    seconds = []
    begin = time.perf_counter()
    spent = 0.0
    # Short evaluations for a second, since the first few after a start are slower; long ones for half a minute.
    while len(seconds) < 2 or (spent < 30 and len(seconds) < repeats) or spent < 1:
        start = time.perf_counter()
        evaluate()
        seconds.append(time.perf_counter() - start)
        spent = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "peak": max(peak, 0)}))


def main() -> None:
    """Run every case in turn and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--points", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--work", nargs=4)
    arguments = parser.parse_args()
    if arguments.work:
        library, model, kind, points = arguments.work
        work(library, model, kind, int(points), arguments.repeats)
        return
    found: dict[str, dict] = {}
    for model in arguments.models:
        for kind in arguments.kinds:
            for points in arguments.points:
                row = found[f"{model}, {kind}, N = {points}"] = {}
                for library in LIBRARIES:
                    python = arguments.peer if library.startswith("NT") else sys.executable
                    if python is None:
                        continue
                    command = [python, __file__, "--repeats", str(arguments.repeats)]
                    try:
                        done = subprocess.run(
                            [*command, "--work", library, model, kind, str(points)],
                            capture_output=True,
                            text=True,
                            timeout=arguments.limit,
                        )
                        row[library] = json.loads(done.stdout.splitlines()[-1])
                    except (subprocess.TimeoutExpired, IndexError, json.JSONDecodeError):
                        row[library] = None
                print(line(f"{model}, {kind}, N = {points}", row), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "tangent.json").write_text(json.dumps(found, indent=1))
    head = f"| case | {' | '.join(LIBRARIES)} | ratio to the fastest | memory, fastest / ours |\n"
    rule = "|---" * (len(LIBRARIES) + 3) + "|\n"
    body = "".join(line(case, row) + "\n" for case, row in found.items())
    (arguments.out / "tangent.md").write_text(head + rule + body)
    draw(found, arguments.out / "tangent.svg")


def draw(found: dict[str, dict], path: Path) -> None:
    """Milliseconds and peak memory of every case as a picture, SVG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (times, memory) = plt.subplots(
        1, 2, figsize=(12, 0.3 * len(found) + 1.2), layout="constrained", sharey=True
    )
    names = list(found)[::-1]
    for library, colour in zip(LIBRARIES, ("#0072B2", "#CCBB44", "#D55E00", "#999999"), strict=True):
        kept = [(place, found[name][library]) for place, name in enumerate(names) if found[name].get(library)]
        places = [place for place, _ in kept]
        middles = [statistics.median(value["seconds"]) * 1e3 for _, value in kept]
        times.plot(middles, places, "o", color=colour, label=library)
        memory.plot([max(value["peak"] / 2**20, 1) for _, value in kept], places, "o", color=colour)
    times.set(xscale="log", xlabel="milliseconds", yticks=range(len(names)), yticklabels=names)
    memory.set(xscale="log", xlabel="MiB at the peak (1 or less: 1)")
    for axes in (times, memory):
        axes.grid(axis="x", alpha=0.3)
    times.legend(fontsize="small", loc="lower right")
    figure.savefig(path)


def line(case: str, row: dict) -> str:
    """A row of the table: milliseconds (and MiB) of each library, and our ratios to the fastest other one."""
    cells = []
    for library in LIBRARIES:
        value = row.get(library)
        if value is None:
            cells.append("-")
        else:
            cells.append(f"{statistics.median(value['seconds']) * 1e3:.4g} ({value['peak'] / 2**20:.0f})")
    others = [value for name, value in row.items() if name != "ntkit" and value is not None]
    if row.get("ntkit") is None or not others:
        return f"| {case} | {' | '.join(cells)} | - | - |"
    ours, fastest = row["ntkit"], min(others, key=lambda value: statistics.median(value["seconds"]))
    ratio = statistics.median(fastest["seconds"]) / statistics.median(ours["seconds"])
    memory = fastest["peak"] / max(ours["peak"], 1)
    return f"| {case} | {' | '.join(cells)} | {ratio:.2f} | {memory:.2f} |"


if __name__ == "__main__":
    main()
