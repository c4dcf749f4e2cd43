"""One library's process of `gram.py`: evaluates the case that a line of JSON on standard input describes.

The answer is a line of JSON: wall and processor seconds of one evaluation; the error of a few entries where the library
approximates; or the memory beyond inputs and outputs. It runs in the peer's environment too, so it imports little.
"""

import json
import resource
import sys
import time

ERROR_POINTS = 40
evaluators: dict = {}


def points(settings: dict):
    import numpy as np

    def draw(seed: int, count: int):
        return (
            np.random.default_rng(seed)
            .standard_normal((count, settings["features"]))
            .astype(settings["dtype"])
        )

    return draw(0, settings["points"]), None if settings["other"] is None else draw(1, settings["other"])


def ntkit_evaluator(engine: str):
    def build(settings: dict):
        from ntkit.kernels import nngp_and_ntk

        network = ntkit_network(settings)
        return lambda x1, x2: tuple(nngp_and_ntk(network, x1, x2, engine=engine))

    return build


def ntkit_network(settings: dict, **options):
    from ntkit.nn import Dense, Erf, Gelu, Relu, Serial, Silu, Tanh

    activation = {"relu": Relu, "erf": Erf, "gelu": Gelu, "tanh": Tanh, "silu": Silu}[settings["activation"]]
    return stacked(
        settings, lambda: Dense(1, 2.0**0.5, settings["bias"]), lambda: activation(**options), Serial
    )


def peer_evaluator(settings: dict):
    import jax

    jax.config.update("jax_enable_x64", settings["dtype"] == "float64")
    from neural_tangents import stax

    activation = {
        "relu": stax.Relu,
        "erf": stax.Erf,
        "gelu": stax.Gelu,
        "tanh": lambda: stax.ElementwiseNumerical(jax.numpy.tanh, deg=25),
        "silu": lambda: stax.ElementwiseNumerical(jax.nn.silu, deg=25),
    }[settings["activation"]]
    network = stacked(
        settings, lambda: stax.Dense(1, 2.0**0.5, settings["bias"] or None), activation, stax.serial
    )
    kernel = jax.jit(network[2], static_argnames="get")
    return lambda x1, x2: jax.block_until_ready(kernel(x1, x2, get=("nngp", "ntk")))


def stacked(settings: dict, dense, activation, serial):
    layers = [layer for _ in range(settings["depth"]) for layer in (dense(), activation())]
    return serial(*layers, dense())


def product_evaluator(settings: dict):
    return lambda x1, x2: (x1 @ (x1 if x2 is None else x2).T,)


def rbf_evaluator(settings: dict):
    from sklearn.metrics.pairwise import rbf_kernel

    return lambda x1, x2: (rbf_kernel(x1, x2),)


EVALUATORS = {
    "ntkit fused": ntkit_evaluator("fused"),
    "ntkit reference": ntkit_evaluator("reference"),
    "neural-tangents": peer_evaluator,
    "product": product_evaluator,
    "rbf": rbf_evaluator,
}


def error(library: str, settings: dict, evaluate) -> float | None:
    """The largest error of the NTK of a few points, relative to the diagonal, for networks of expansions.

    Beside ntkit's own expansion with its certificate set to 1e-13; in the peer's environment, which lacks it, the
    entries are sent along by `truth` instead.
    """
    import numpy as np

    x, _ = points(settings | {"points": ERROR_POINTS, "dtype": "float64"})
    found = np.asarray(evaluate(x.astype(settings["dtype"]), None)[1], np.float64)
    exact = np.asarray(truth(settings, x))
    scale = np.sqrt(np.diag(exact))
    return float((np.abs(found - exact) / (scale[:, None] * scale)).max())


def truth(settings: dict, x):
    import os
    import subprocess
    import tempfile

    import numpy as np

    try:
        from ntkit.kernels import nngp_and_ntk
    except ImportError:
        # The peer's environment: ask the interpreter that started the benchmark.
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/truth.npy"
            request = json.dumps(settings | {"truth": path})
            command = [os.environ["NTKIT_PYTHON"], __file__, "ntkit reference"]
            subprocess.run(command, input=request + "\n", text=True, check=True, stdout=subprocess.DEVNULL)
            return np.load(path)
    return nngp_and_ntk(ntkit_network(settings, tolerance=1e-13), x, engine="reference").ntk


def answer(library: str, settings: dict) -> dict:
    if "truth" in settings:
        import numpy as np

        x, _ = points(settings | {"points": ERROR_POINTS, "dtype": "float64"})
        np.save(settings["truth"], truth(settings, x))
        return {}
    key = json.dumps({name: value for name, value in settings.items() if name not in ("keep", "memory")})
    if key not in evaluators:
        evaluators.clear()
        evaluators[key] = (EVALUATORS[library](settings), *points(settings))
    evaluate, x1, x2 = evaluators[key]
    if settings.get("memory"):
        small = x1[:100].copy()
        evaluate(small, None)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grams = evaluate(x1, x2)
        outputs = sum(gram.nbytes for gram in grams)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"beyond": float((peak - before) * 1024 - outputs)}
    wall, cpu = time.perf_counter(), time.process_time()
    evaluate(x1, x2)
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    if (
        not settings["keep"]
        and settings["activation"] in ("tanh", "silu")
        and "product" not in library + "rbf"
    ):
        found["error"] = error(library, settings, evaluate)
    return found


def main() -> None:
    library = sys.argv[1]
    for line in sys.stdin:
        try:
            reply = answer(library, json.loads(line))
        except Exception as failure:
            reply = {"failed": f"{type(failure).__name__}: {failure}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
