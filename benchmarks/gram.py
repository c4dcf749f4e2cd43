"""Time and memory of Gram matrices (NNGP and NTK in one pass): ntkit beside neural-tangents and what cannot be saved.

    python benchmarks/gram.py [--peer PYTHON] [--repeats 5] [--only TEXT] [--out FOLDER]

PYTHON is the interpreter of an environment with neural-tangents 0.6.5 (`pip install "neural-tangents==0.6.5"
"jax==0.4.23" "jaxlib==0.4.23" "scipy<1.13" "numpy<2"`). Every library runs in a process of its own, and the libraries
take turns within one run, so that a busy machine is equally busy for all. The first evaluation of a case compiles and
is not counted. Written to the folder: `gram.json` (everything measured), `gram.md` (the table) and `gram.svg` (the
picture). The yardsticks: `product` is the matrix product `x @ x2.T` alone, `rbf` is scikit-learn's `rbf_kernel`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

CASES: dict[str, dict] = {}
"""Name: {activation, depth, bias, points, other (columns, None for the points themselves), features, dtype}."""


def case(name: str, **changes) -> None:
    plain = {"activation": "relu", "depth": 3, "bias": 0.1, "points": 4000, "other": None, "features": 784}
    for dtype in changes.pop("dtypes", ("float32", "float64")):
        CASES[f"{name}, {dtype}"] = plain | {"dtype": dtype} | changes


for depth in (1, 3, 10):
    case(f"ReLU, depth {depth}", depth=depth)
case("ReLU, depth 50", depth=50, dtypes=("float32",))
case("ReLU, depth 50, no bias", depth=50, bias=0.0, dtypes=("float32",))
case("ReLU, depth 3, d = 10", features=10)
case("ReLU, depth 3, d = 3072", features=3072, dtypes=("float32",))
case("ReLU, depth 3, N = 1000", points=1000)
case("ReLU, depth 3, N = 10000", points=10_000, dtypes=("float32",))
case("ReLU, depth 3, 1000 test x 4000 train", points=1000, other=4000)
case("erf, depth 3", activation="erf")
case("GELU, depth 3", activation="gelu")
case("tanh, depth 3, N = 1000", activation="tanh", points=1000)
case("SiLU, depth 3, N = 1000", activation="silu", points=1000)

MEMORY = {"activation": "relu", "depth": 3, "bias": 0.1, "points": 10_000, "other": None, "features": 784}
LIBRARIES = ("ntkit fused", "ntkit reference", "neural-tangents", "product", "rbf")


class Worker:
    """A library's process: answers a line of JSON with a line of JSON."""

    def __init__(self, library: str, interpreter: str) -> None:
        command = [interpreter, str(Path(__file__).with_name("gram_worker.py")), library]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "NTKIT_PYTHON": sys.executable,
        }
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def __call__(self, request: dict) -> dict:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": "the process ended"}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(interpreters: dict[str, str], repeats: int, only: str) -> dict:
    """Every case on every library in turn: seconds of each repeat, and the load before it."""
    workers = {library: Worker(library, interpreter) for library, interpreter in interpreters.items()}
    measured: dict = {}
    for name, settings in CASES.items():
        if only not in name:
            continue
        found: dict = {library: {"wall": [], "cpu": [], "load": []} for library in workers}
        for turn in range(repeats + 1):
            for library, worker in workers.items():
                times = found[library]
                slow = times.get("first", 0.0) > 30.0 and len(times["wall"]) >= 1
                if "failed" in times or slow:
                    continue
                # Threads of the library before may still be waiting for work, busily.
                time.sleep(0.3)
                load = os.getloadavg()[0]
                answer = worker(settings | {"keep": turn > 0})
                if "failed" in answer:
                    times["failed"] = answer["failed"]
                elif turn == 0:
                    times |= {"first": answer["wall"], "error": answer.get("error")}
                else:
                    for key, value in (("wall", answer["wall"]), ("cpu", answer["cpu"]), ("load", load)):
                        times[key].append(value)
        measured[name] = {library: times for library, times in found.items() if times["wall"]}
        print(row(name, measured[name]), flush=True)
    for worker in workers.values():
        worker.close()
    return measured


def memory(interpreters: dict[str, str]) -> dict:
    """Peak memory beyond inputs and outputs of one evaluation at N = 10,000, in a fresh process each, by dtype."""
    peaks: dict = {}
    for dtype in ("float32", "float64"):
        for library, interpreter in interpreters.items():
            worker = Worker(library, interpreter)
            answer = worker(MEMORY | {"dtype": dtype, "keep": False, "memory": True})
            worker.close()
            peaks.setdefault(dtype, {})[library] = answer.get("beyond", answer.get("failed"))
    return peaks


def row(name: str, times: dict) -> str:
    """A line of the table: median (minimum) wall and median processor seconds, and the ratios that matter."""

    def cell(library: str) -> str:
        if library not in times:
            return "-"
        found = times[library]
        middle, least = statistics.median(found["wall"]), min(found["wall"])
        return f"{middle:.3f} ({least:.3f}), {statistics.median(found['cpu']):.2f}"

    def ratio(above: str, below: str, key: str) -> str:
        if above not in times or below not in times:
            return "-"
        return f"{statistics.median(times[above][key]) / statistics.median(times[below][key]):.2f}"

    cells = [cell(library) for library in LIBRARIES]
    cells += [ratio("neural-tangents", "ntkit fused", key) for key in ("wall", "cpu")]
    cells += [ratio("ntkit fused", "product", "wall")]
    errors = [
        f"{library} {times[library]['error']:.0e}"
        for library in ("ntkit fused", "neural-tangents")
        if library in times and times[library].get("error") is not None
    ]
    return f"| {name} | {' | '.join(cells)} | {'; '.join(errors) or '-'} |"


def table(measured: dict, peaks: dict) -> str:
    """The results in Markdown."""
    heads = [
        "case",
        *LIBRARIES,
        "peer / fused, wall",
        "peer / fused, CPU",
        "fused / product",
        "largest error",
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [row(name, times) for name, times in measured.items()]
    loads = [load for times in measured.values() for found in times.values() for load in found["load"]]
    lines += ["", "Seconds: median (minimum) of wall time, then the median of processor time."]
    if loads:
        lines += [
            f"Load of the machine while it ran: median {statistics.median(loads):.1f}, most {max(loads):.1f}."
        ]
    for dtype, found in peaks.items():
        cells = ", ".join(
            f"{library} {value / 2**20:.0f} MiB" if isinstance(value, float) else f"{library}: {value}"
            for library, value in found.items()
        )
        lines += ["", f"Peak memory beyond inputs and outputs, N = 10,000, depth 3, {dtype}: {cells}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", help="interpreter with neural-tangents")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--only", default="", help="cases whose name contains this; the folder's others are kept"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory at N = 10,000")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    interpreters = dict.fromkeys(LIBRARIES, sys.executable)
    if options.peer:
        interpreters["neural-tangents"] = options.peer
    else:
        del interpreters["neural-tangents"]
    measured = measure(interpreters, options.repeats, options.only)
    kernels = {name: path for name, path in interpreters.items() if name not in ("product", "rbf")}
    peaks = {} if options.no_memory else memory(kernels)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only and (options.out / "gram.json").exists():
        before = json.loads((options.out / "gram.json").read_text())
        measured = {
            name: (before["times"] | measured)[name] for name in CASES if name in before["times"] | measured
        }
        peaks = before["memory"] | peaks
    (options.out / "gram.json").write_text(json.dumps({"times": measured, "memory": peaks}, indent=1))
    (options.out / "gram.md").write_text(table(measured, peaks))
    print(table(measured, peaks))
    from gram_picture import draw

    draw(measured, options.out / "gram.svg")


if __name__ == "__main__":
    main()
