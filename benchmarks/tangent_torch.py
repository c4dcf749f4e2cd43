"""Time and memory of tangent kernels of PyTorch modules: ntkit.torch beside torch.func and nngeometry.

    python benchmarks/tangent_torch.py [--peer PYTHON] [--points 32 128] [--repeats 5] [--threads 1]
        [--only TEXT] [--out FOLDER]

PYTHON is the interpreter of an environment with `pip install nngeometry`; without one that part is left out. Every
library runs in a process of its own, float32, and they take turns, so that a busy machine is equally busy for all.
Times are processor seconds, which another program's load moves little; wall seconds are in the JSON file. The first
evaluation is not counted. `torch.func` is the Jacobian contraction of PyTorch's tutorial on tangent kernels;
nngeometry has the full kernel only, so it is not in the traced table's place but its own. Written to the folder:
`tangent_torch.json` and `tangent_torch.md`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import nn

MODELS = ("mlp", "cnn", "transformer")
LIBRARIES = {
    "traced": ("ntkit", "torch.func"),
    "full": ("ntkit", "torch.func", "nngeometry"),
}
OUTPUTS = 10


class Attention(nn.Module):
    """Self-attention from dense layers, since nngeometry does not know `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.inward, self.outward = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = (
            part.reshape(n, length, self.heads, -1).transpose(1, 2) for part in self.inward(x).chunk(3, -1)
        )
        weights = torch.softmax(q @ k.mT / (width // self.heads) ** 0.5, -1)
        return self.outward((weights @ v).transpose(1, 2).reshape(n, length, width))


class Block(nn.Module):
    """A post-norm encoder layer, the same function as `nn.TransformerEncoderLayer` in evaluation mode."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.second(torch.relu(self.first(x))))


class Encoder(nn.Module):
    """Two encoder layers on 32 tokens of 128 numbers, averaged, ten classes."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        layers = [
            Block(128, 4, 512) if plain else nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
            for _ in "12"
        ]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(128, OUTPUTS)

    def forward(self, x):
        return self.head(self.layers(x).mean(1))


def module(name: str, plain: bool) -> tuple[nn.Module, tuple[int, ...]]:
    """A model in evaluation mode and the shape of one input."""
    torch.manual_seed(0)
    if name == "mlp":
        layers = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, OUTPUTS)]
        return nn.Sequential(*layers).eval(), (784,)
    if name == "cnn":
        layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
        layers += [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, OUTPUTS)).eval(), (3, 32, 32)
    return Encoder(plain).eval(), (32, 128)


def evaluator(library: str, form: str, net: nn.Module):
    """A call from inputs to the kernel: (n, n) traced, (n, n, k, k) full."""
    if library == "ntkit":
        import ntkit.torch

        kernel = ntkit.torch.EmpiricalNTK(net)
        return kernel if form == "traced" else kernel.full
    if library == "nngeometry":
        from nngeometry.backend import TorchHooksJacobianBackend
        from nngeometry.object import FMatDense
        from torch.utils.data import DataLoader, TensorDataset

        def geometry(x):
            loader = DataLoader(TensorDataset(x), batch_size=len(x))
            gram = FMatDense(TorchHooksJacobianBackend(net), examples=loader).to_torch()
            return gram.detach().permute(1, 3, 0, 2)

        return geometry
    from torch.func import functional_call, jacrev, vmap

    parameters = {name: value.detach() for name, value in net.named_parameters()}

    def single(weights, point):
        return functional_call(net, weights, (point[None],))[0]

    def contraction(x):
        jacobian = vmap(jacrev(single), (None, 0))(parameters, x)
        rows = [value.flatten(2) for value in jacobian.values()]
        if form == "traced":
            return sum(torch.einsum("naf,maf->nm", row, row) for row in rows) / OUTPUTS
        return sum(torch.einsum("naf,mbf->nmab", row, row) for row in rows)

    return contraction


def work(library: str, threads: int) -> None:
    """Answer lines of JSON {model, form, points} with {wall, cpu, memory, sum}."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        case = json.loads(line)
        net, shape = module(case["model"], plain=library == "nngeometry")
        x = torch.randn(case["points"], *shape, generator=torch.Generator().manual_seed(1))
        call = evaluator(library, case["form"], net)
        before = _peak(reset=True)
        wall, usage = time.perf_counter(), time.process_time()
        gram = call(x)
        result = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - usage}
        result |= {"memory": (_peak() - before) / 2**20, "trace": float(torch.diagonal(gram).double().mean())}
        del gram
        print(json.dumps(result), flush=True)


def _peak(reset: bool = False) -> int:
    """The largest resident memory so far, bytes; with `reset`, counted anew from now on (Linux)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return (
        next(int(row.split()[1]) for row in status.read_text().splitlines() if row.startswith("VmHWM")) * 1024
    )


def ask(process: subprocess.Popen, case: dict) -> dict:
    """What a worker measured; nothing where its library failed at the case, with which its process ended."""
    if process.poll() is not None:
        return {}
    process.stdin.write(json.dumps(case) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        process.wait()
        return {}
    return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker")
    parser.add_argument("--peer")
    parser.add_argument("--points", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.threads)
        return
    lines = [
        "| CPU s: case | ntkit | torch.func | nngeometry | ratio | ntkit MiB | torch.func MiB | nngeometry MiB |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    print(*lines, sep="\n", flush=True)
    measured = {}
    for form, model, points in ((f, m, p) for f in LIBRARIES for m in MODELS for p in options.points):
        name = f"{model}, {form}, N = {points}"
        if options.only not in name:
            continue
        case = {"model": model, "form": form, "points": points}
        workers = {
            library: subprocess.Popen(
                [
                    *(options.peer if library == "nngeometry" else sys.executable, __file__),
                    *("--worker", library, "--threads", str(options.threads)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for library in LIBRARIES[form]
            if library != "nngeometry" or options.peer
        }
        turns: dict[str, list[dict]] = {library: [] for library in workers}
        for turn in range(options.repeats + 1):
            for library, process in workers.items():
                found = ask(process, case)
                if turn and found:
                    turns[library].append(found)
        for process in workers.values():
            process.stdin.close()
            process.wait()
        measured[name] = turns
        lines.append(row(name, turns))
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "tangent_torch.json").write_text(json.dumps(measured, indent=1))
    (options.out / "tangent_torch.md").write_text("\n".join(lines) + "\n")


def row(name: str, turns: dict[str, list[dict]]) -> str:
    """Medians of the turns, and the fastest peer's time over ntkit's."""

    def cell(library: str, what: str) -> str:
        found = turns.get(library)
        return f"{statistics.median(result[what] for result in found):.3g}" if found else "-"

    middles = {
        library: statistics.median(r["cpu"] for r in found) for library, found in turns.items() if found
    }
    peers = [seconds for library, seconds in middles.items() if library != "ntkit"]
    ratio = f"{min(peers) / middles['ntkit']:.1f}" if peers else "-"
    names = ("ntkit", "torch.func", "nngeometry")
    seconds, memory = ([cell(library, what) for library in names] for what in ("cpu", "memory"))
    return "| " + " | ".join([name, *seconds, ratio, *memory]) + " |"


if __name__ == "__main__":
    main()
