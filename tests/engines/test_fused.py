"""The fused engine against the reference engine, from the same definitions, and what it promises about compiling."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from numba import njit
from tests.table import CLOSED, named

from ntkit import NNGP, NTK, nn
from ntkit.engines import choice, reference
from ntkit.engines.fused import elementary, engine, modules
from ntkit.engines.fused.bits import power_of_two
from ntkit.errors import FusionError

EXPANDED = (
    nn.Tanh(),
    nn.Sigmoid(),
    nn.Silu(),
    nn.Softplus(),
    nn.Mish(),
    nn.Elu(tolerance=1e-4),
    nn.Selu(tolerance=1e-3),
)
FUSED = tuple(value for value in CLOSED + EXPANDED if value != nn.HardTanh())
QUICK = (nn.Relu(), nn.Erf(0.9, 1.1, 0.2), nn.Tanh(degree=24))


def inputs(count, features, dtype, seed=0):
    """Points with duplicates, near-duplicates, opposites, multiples and a zero row."""
    x = np.random.default_rng(seed).normal(size=(count, features))
    x[1], x[2], x[3], x[4], x[5] = x[0], -x[0], 2 * x[0], x[0] * (1 + 1e-6), x[0] + 1e-5
    x[6] = 0
    return x.astype(dtype)


def check_same(network, x1, x2=None, *, ntk=True):
    """Fused and reference agree to a few roundings of each entry's natural scale."""
    fused = choice.concrete(network, x1, x2, ntk=ntk, engine="fused")
    plain = reference.concrete(network, x1, x2, ntk=ntk)
    assert (fused.ntk is None) == (not ntk)
    for name in ("nngp", "ntk")[: 1 + ntk]:
        ours, theirs = getattr(fused, name), getattr(plain, name)
        assert ours.dtype == x1.dtype
        diagonal = getattr(reference.concrete_diagonal(network, x1, ntk=ntk), name)
        other = diagonal if x2 is None else getattr(reference.concrete_diagonal(network, x2, ntk=ntk), name)
        one, two = np.sqrt(diagonal), np.sqrt(other)
        # Both engines round the same operations, in other orders: a few dozen an entry.
        allowed = 64 * np.finfo(x1.dtype).eps * one[:, None] * two[None, :]
        assert (np.abs(ours.astype(float) - theirs) <= allowed).all()
        if x2 is None:
            np.testing.assert_array_equal(ours, ours.T)
            np.testing.assert_array_equal(np.diag(ours), diagonal)


def two_layers(activation):
    return nn.Serial(nn.Dense(8, 1.2, 0.1), activation, nn.Dense(16, 1.1, 0.2), activation, nn.Dense(1, 1.3))


@pytest.mark.parametrize(
    "activation",
    [QUICK[0], *(pytest.param(value, marks=pytest.mark.slow) for value in QUICK[1:])],
    ids=named(QUICK),
)
def test_both_engines_agree(activation):
    x = inputs(40, 5, np.float64)
    check_same(two_layers(activation), x)
    check_same(two_layers(activation), x[:9], x[3:])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ntkit.errors.AccuracyWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", FUSED, ids=named(FUSED))
def test_both_engines_agree_for_every_activation(activation, dtype):
    check_same(two_layers(activation), inputs(300, 7, dtype))


@pytest.mark.slow
def test_the_nngp_alone_is_the_same_and_defined_through_steps():
    x = inputs(30, 4, np.float32)
    check_same(two_layers(nn.Sign()), x, ntk=False)


@pytest.mark.slow
def test_networks_of_many_tiles_mixed_layers_and_widths_agree():
    layers = [nn.Scale([1.0, 2.0, 0.5]), nn.Dense(16, 1.3, 0.2, "standard"), nn.Relu()]
    layers += [nn.Dense(64, 0.9, 0.3, "standard"), nn.Erf(), nn.Dense(1, 1.1, 0.0, "standard")]
    x = inputs(600, 3, np.float64)
    check_same(nn.Serial(*layers), x)
    check_same(nn.Serial(*layers), np.asfortranarray(x[::2]), x[1::3])


def test_the_depth_and_the_numbers_of_a_network_do_not_recompile_it():
    x = inputs(20, 3, np.float64)

    def network(depth, w_std):
        return nn.Serial(
            *[layer for _ in range(depth) for layer in (nn.Dense(8, w_std, 0.1), nn.Relu())], nn.Dense(1)
        )

    first = engine.fuse(network(2, 1.0), 3, np.float64, True)
    second = engine.fuse(network(9, 1.7), 3, np.float64, True)
    assert first.module is second.module
    for fused_network in (network(2, 1.0), network(9, 1.7)):
        check_same(fused_network, x)
        check_same(fused_network, x[:5], x)
    assert len(first.module.strip.signatures) == 1


@pytest.mark.slow
def test_a_residual_branch_that_ends_in_an_activation_is_fused_where_its_shortcut_is_centred():
    dense = nn.Dense(8, 1.1, 0.2)
    network = nn.Serial(dense, nn.Residual(nn.Serial(dense, nn.Relu())), dense, nn.Relu(), nn.Dense(1))
    check_same(network, inputs(40, 3, np.float64))


def test_small_matrices_take_the_reference_engine_and_large_ones_are_fused():
    network = two_layers(nn.Relu())
    small = reference.prepare(network, inputs(20, 3, np.float64), None, ntk=True)
    large = reference.prepare(network, inputs(1024, 3, np.float64), None, ntk=True)
    assert choice.choose(small, "auto").engine == "reference"
    assert "do not repay compiling" in choice.choose(small, "auto").reason
    assert choice.choose(large, "auto").engine == "fused"
    assert choice.choose(large, "reference").engine == "reference"


def test_what_cannot_be_fused_says_so_and_takes_the_reference_engine():
    network, x = two_layers(nn.HardTanh()), inputs(1024, 3, np.float32)
    prepared = reference.prepare(network, x, None, ntk=True)
    chosen = choice.choose(prepared, "auto")
    assert chosen.engine == "reference"
    assert "layer 1, HardTanh(), has a scan loop over pairs" in chosen.reason
    with pytest.raises(FusionError, match='engine="fused" cannot run this network: layer 1, HardTanh'):
        NTK(network, engine="fused")(x[:10])
    with pytest.raises(ValueError, match='engine "auto", "reference" or "fused", got'):
        choice.choose(prepared, "fast")


def test_kernels_take_the_engine_they_are_told():
    x = inputs(12, 3, np.float64)
    network = two_layers(nn.Relu())
    for kernel in (NNGP, NTK):
        np.testing.assert_allclose(
            kernel(network, engine="fused")(x), kernel(network)(x), rtol=1e-12, atol=1e-14
        )
        assert kernel(network, engine="fused") != kernel(network)


@pytest.mark.slow
def test_a_read_only_cache_is_survived(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv(modules.FOLDER, str(blocked / "inside"))
    modules.load.cache_clear()
    check_same(two_layers(nn.Relu()), inputs(10, 3, np.float32), ntk=False)
    modules.load.cache_clear()


@pytest.mark.slow
def test_another_process_finds_the_compiled_module(tmp_path):
    program = (
        "import numpy as np\n"
        "from ntkit import NTK, nn\n"
        "from ntkit.engines.fused import engine\n"
        "network = nn.Serial(nn.Dense(8, 1.0, 0.1), nn.Relu(), nn.Dense(1))\n"
        "NTK(network, engine='fused')(np.arange(6.0).reshape(3, 2))\n"
        "stats = engine.fuse(network, 2, np.float64, True).module.strip.stats\n"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))\n"
    )
    environment = os.environ | {modules.FOLDER: str(tmp_path), "JAX_PLATFORMS": "cpu"}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert [output.stdout.split() for output in outputs] == [["0", "1"], ["1", "0"]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_elementary_functions_are_right_to_a_few_roundings_and_vectorise(dtype):
    names = {"np": np, "njit": njit, "f": dtype, "power_of_two": power_of_two}
    exec("import math\n" + elementary.source(np.dtype(dtype)), names)
    angle = np.linspace(-np.pi, np.pi, 20_001)
    cases = {
        "exp": (np.linspace(-80, 80, 20_001),),
        "expm1": (
            np.concatenate(
                [np.linspace(-5, 5, 20_001), np.geomspace(1e-12, 1, 50), -np.geomspace(1e-12, 1, 50)]
            ),
        ),
        "atan2": (np.sin(angle), np.cos(angle)),
    }
    for name, arguments in cases.items():
        rounded = [argument.astype(dtype) for argument in arguments]
        places = ", ".join(f"a{k}[i]" for k in range(len(rounded)))
        arrays = ", ".join(f"a{k}" for k in range(len(rounded)))
        exec(
            f"def loop({arrays}, out):\n    for i in range(out.size):\n        out[i] = {name}({places})",
            names,
        )
        loop = njit(error_model="numpy", fastmath={"contract"})(names["loop"])
        out = np.empty_like(rounded[0])
        loop(*rounded, out)
        exact = {"exp": np.exp, "expm1": np.expm1, "atan2": np.arctan2}[name](
            *(r.astype(np.longdouble) for r in rounded)
        )
        # Coefficients are fitted in float64: a few of its roundings more than float32 shows.
        allowed = (2 if dtype == np.float32 else 32) * np.finfo(dtype).eps
        assert (np.abs(out - exact) <= allowed * np.abs(exact)).all(), name
        assert "call" not in _inner_loop(loop), name


def _inner_loop(loop) -> str:
    """The names of functions that the compiled code calls, the runtime's bookkeeping aside."""
    (text,) = loop.inspect_llvm().values()
    body = text[text.index("define") : text.index("\n}", text.index("define"))]
    return " ".join(word for word in ("@exp", "@expm1", "@atan2", "@floor(") if f"call double {word}" in body)


def test_a_plan_can_be_printed_and_is_what_happens():
    x = inputs(1100, 3, np.float32)
    plan = NTK(two_layers(nn.Relu())).plan(x)
    assert (plan.engine, plan.rows, plan.columns, plan.symmetric) == ("fused", 1100, 1100, True)
    assert plan.result_bytes == 2 * 4 * 1100**2
    assert 0 < plan.working_bytes < plan.result_bytes
    assert plan.seconds > 0
    said = str(plan).splitlines()
    assert said[:2] == ["1100 x 1100 entries, one triangle of it", "fused engine: every layer can be fused"]
    assert said[2] == f"tiles of {plan.tile} x {plan.tile} on {plan.threads} threads"
    small = NNGP(two_layers(nn.Relu()), engine="reference").plan(x[:20], x[:30])
    assert (small.engine, small.reason, small.result_bytes) == ("reference", "asked for", 4 * 20 * 30)


def test_plans_are_made_for_numbers_only():
    kernel = NTK(two_layers(nn.Relu()))
    with pytest.raises(ValueError, match="plan needs concrete inputs, got values traced by JAX"):
        jax.jit(lambda x: kernel.plan(x).seconds)(inputs(10, 3, np.float32))


@pytest.mark.parametrize(
    "depth", [3, pytest.param(10, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("bias", [0.0, 0.1, 0.5])
def test_near_duplicates_in_float32_keep_their_digits(bias, depth):
    """Every layer may open an angle of a few roundings, and the NTK's slope in the angle grows with the depth."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((20, 100))
    near = [base + size * rng.standard_normal(base.shape) for size in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)]
    x = np.concatenate([base, *near, 1.001 * base]).astype(np.float32)
    layers = [layer for _ in range(depth) for layer in (nn.Dense(8, 2**0.5, bias), nn.Relu())]
    network = nn.Serial(*layers, nn.Dense(1, 2**0.5, bias))
    found = choice.concrete(network, x, None, ntk=True, engine="fused")
    exact = reference.concrete(network, x.astype(np.float64), None, ntk=True)
    for ours, theirs in zip(found, exact, strict=True):
        root = np.sqrt(np.diag(theirs))
        allowed = (8 + depth**2 / 4) * np.finfo(np.float32).eps
        assert (np.abs(ours - theirs) <= allowed * root[:, None] * root).all()
