"""How far tangent kernels are from explicit Jacobians: ntkit by each method, in PyTorch, and neural-tangents.

    python benchmarks/tangent_agreement.py [--peer PYTHON] [--points 6] [--out FOLDER]

The models of `tangent.py` on N points, their parameters drawn once. The reference is `jax.jacrev`, one example at a
time, in float64, multiplied in NumPy: all pairs of outputs. Printed is the largest error of an entry, relative to the
largest entry, with everything in float64 and in float32. PyTorch takes the MLP's weights. `tangent_agreement.md` is
written to the folder.
"""

import argparse
import os
import pickle
import subprocess
import tempfile
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"

MODELS = ("mlp", "cnn", "transformer")
DTYPES = ("float64", "float32")
METHODS = ("layerwise", "jacobian", "products")


def explicit(f, params, x):
    """(n, n, k, k) from Jacobians of single examples."""
    import jax
    import numpy as np

    jacobian = jax.jit(jax.jacrev(lambda p, point: f(p, point[None])[0]))
    rows = [
        np.concatenate(
            [
                np.asarray(leaf).reshape(leaf.shape[0], -1)
                for leaf in jax.tree_util.tree_leaves(jacobian(params, point))
            ],
            axis=1,
        )
        for point in x
    ]
    stacked = np.stack(rows)
    flat = stacked.reshape(-1, stacked.shape[-1])
    n, k = stacked.shape[:2]
    return (flat @ flat.T).reshape(n, k, n, k).transpose(0, 2, 1, 3)


def of_peer(path: str) -> None:
    """In the peer's interpreter: read parameters and points, write kernels."""
    import jax
    import neural_tangents as nt
    import numpy as np
    from tangent_models import MODELS as TABLE

    name, params, x = jax.tree_util.tree_map(
        lambda leaf: leaf if isinstance(leaf, str) else jax.numpy.asarray(leaf),
        pickle.loads(Path(path).read_bytes()),
    )
    results = {}
    for label, method in (
        ("neural-tangents, structured derivatives", nt.NtkImplementation.STRUCTURED_DERIVATIVES),
        ("neural-tangents, Jacobian contraction", nt.NtkImplementation.JACOBIAN_CONTRACTION),
    ):
        kernel = nt.empirical_ntk_fn(TABLE[name][0], trace_axes=(), vmap_axes=0, implementation=method)
        results[label] = np.asarray(kernel(x, None, params))
    Path(path).write_bytes(pickle.dumps(results))


def of_torch(params, x):
    """The MLP in PyTorch, with the same weights."""
    import torch
    from torch import nn

    import ntkit.torch

    layers = []
    for w, b in params:
        layer = nn.Linear(*w.shape).to(torch.float64 if w.dtype == "float64" else torch.float32)
        layer.weight.data, layer.bias.data = torch.tensor(w.T.copy()), torch.tensor(b)
        layers += [layer, nn.ReLU()]
    return ntkit.torch.EmpiricalNTK(nn.Sequential(*layers[:-1])).full(x)


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer")
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--of-peer")
    arguments = parser.parse_args()
    if arguments.of_peer:
        of_peer(arguments.of_peer)
        return
    import jax
    import numpy as np
    from tangent_models import MODELS as TABLE

    from ntkit import EmpiricalNTK

    errors: dict[str, dict[tuple[str, str], float]] = {}
    for name in MODELS:
        f, make_params, shape = TABLE[name]
        drawn = jax.tree_util.tree_map(np.asarray, make_params(jax.random.PRNGKey(0)))
        points = np.random.default_rng(1).normal(size=(arguments.points, *shape))
        for dtype in DTYPES:
            params = jax.tree_util.tree_map(
                lambda leaf, dtype=dtype: leaf.astype("float32").astype(dtype), drawn
            )
            x = points.astype("float32").astype(dtype)
            wide = jax.tree_util.tree_map(lambda leaf: jax.numpy.array(leaf, "float64"), params)
            expected = explicit(f, wide, x.astype("float64"))
            kernels = {
                f"ntkit, {method}": EmpiricalNTK(f, params, method=method).full(x) for method in METHODS
            }
            if name == "mlp":
                kernels["ntkit.torch"] = of_torch(params, x)
            if arguments.peer:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "kernels"
                    path.write_bytes(pickle.dumps((name, params, x)))
                    subprocess.run([arguments.peer, __file__, "--of-peer", str(path)], check=True)
                    kernels |= pickle.loads(path.read_bytes())
            for label, kernel in kernels.items():
                error = np.abs(kernel - expected).max() / np.abs(expected).max()
                errors.setdefault(label, {})[name, dtype] = float(error)
    columns = [(name, dtype) for name in MODELS for dtype in DTYPES]
    lines = [
        f"| | {' | '.join(f'{name}, {dtype}' for name, dtype in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for label, found in errors.items():
        cells = [f"{found[column]:.0e}" if column in found else "-" for column in columns]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "tangent_agreement.md").write_text(text)


if __name__ == "__main__":
    main()
