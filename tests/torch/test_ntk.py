"""The tangent kernel of PyTorch modules against explicit Jacobians, and what is refused or left untouched."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'ntkit[torch]'")

from tests.torch import modules  # noqa: E402
from tests.torch.modules import close, make, points  # noqa: E402
from torch import nn  # noqa: E402

from ntkit import GaussianProcess, gradient_flow  # noqa: E402
from ntkit.torch import EmpiricalNTK  # noqa: E402
from ntkit.torch.network import derivatives, make_problem  # noqa: E402
from ntkit.torch.probe import probe  # noqa: E402


def normed():
    """Batch norm in evaluation mode with statistics that are not 0 and 1."""
    module = modules.cnn()
    module[1].running_mean.uniform_(-1, 1)
    module[1].running_var.uniform_(0.5, 2)
    return module


CASES = {
    "mlp": (modules.mlp, (), (4,)),
    "cnn": (normed, (), (3, 9, 8)),
    "encoder": (modules.Encoder, (True,), (6, 5)),
    "encoder, sequence first": (modules.Encoder, (False,), (6, 5)),
    "lstm": (modules.Recurrent, (), (6, 5)),
    "tied": (modules.Tied, (), (6, 5)),
    "used directly": (modules.Direct, (), (6, 5)),
    "folded": (modules.Folded, (True,), (6, 5)),
    "folded, position first": (modules.Folded, (False,), (6, 5)),
    "volume": (modules.Volume, (), (6, 5)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_form_is_that_of_the_explicit_jacobian(case):
    build, arguments, shape = CASES[case]
    module = make(build, *arguments)
    kernel, x1, x2 = EmpiricalNTK(module), points(4, *shape), points(3, *shape, seed=1)
    for second in (x2, None):
        full = modules.blocks_by_brute_force(module, x1, second)
        each = full.diagonal(dim1=2, dim2=3)
        traced = each.mean(-1)
        close(kernel.full(x1, second), full)
        close(kernel.per_output(x1, second), each)
        close(kernel(x1, second), traced)
        close(sum(kernel.blocks(x1, second).values()), traced)
    close(kernel.diag(x1), traced.diagonal())
    close(EmpiricalNTK(module, method="jacobian")(x1), traced)


@pytest.mark.parametrize("case", ["mlp", pytest.param("cnn", marks=pytest.mark.slow), "tied"])
def test_the_contraction_chosen_does_not_change_the_result(case, monkeypatch):
    """Costs are turned around so that every layer takes the other way, and temporaries are cut small."""
    from ntkit.torch import factors, plan

    build, arguments, shape = CASES[case]
    module = make(build, *arguments)
    x1, x2 = points(5, *shape), points(3, *shape, seed=1)
    kernel = EmpiricalNTK(module)
    forms = (kernel, kernel.full, kernel.per_output)
    expected = [form(x1, second) for form in forms for second in (x2, None)]
    diagonal = kernel.diag(x1)
    monkeypatch.setattr(factors, "NARROW", 1)
    seen = set()
    for weight, slab in ((-(10**9), 20), (10**9, 20), (10**9, 1 << 20)):
        monkeypatch.setattr(plan, "ELEMENTWISE", weight)
        monkeypatch.setattr(factors, "SLAB", slab)
        seen |= {line.method for line in kernel.plan(x1, x2).lines}
        found = [form(x1, second) for form in forms for second in (x2, None)]
        for ours, value in zip([*found, kernel.diag(x1)], [*expected, diagonal], strict=True):
            close(ours, value)
    assert "pairs" in seen
    assert seen & {"gradients", "whole"}


@pytest.mark.parametrize(
    ("method", "symmetric"),
    [
        ("auto", True),
        pytest.param("auto", False, marks=pytest.mark.slow),
        pytest.param("jacobian", True, marks=pytest.mark.slow),
        ("jacobian", False),
    ],
)
def test_tiles_do_not_change_the_result(method, symmetric):
    module = make(modules.Encoder, True)
    x1, x2 = points(7, 6, 5), None if symmetric else points(5, 6, 5, seed=3)
    whole = EmpiricalNTK(module, method=method)
    with pytest.raises(ValueError, match=r"memory_limit >= \d+ bytes for one example") as refusal:
        EmpiricalNTK(module, method=method, memory_limit=1000)(x1, x2)
    smallest = int(str(refusal.value).split(">= ")[1].split()[0])
    tiled = EmpiricalNTK(module, method=method, memory_limit=4 * smallest)
    assert tiled.plan(x1, x2).tile < 5
    for form in ("__call__", "full") if symmetric else ("per_output",):
        close(getattr(tiled, form)(x1, x2), getattr(whole, form)(x1, x2))
    close(tiled.diag(x1), whole.diag(x1))
    if symmetric:
        gram, full = tiled(x1), tiled.full(x1)
        assert torch.equal(gram, gram.T)
        assert torch.equal(full, full.permute(1, 0, 3, 2))


@pytest.mark.parametrize("case", ["cnn", "encoder", "folded, position first", "tied"])
def test_one_output_after_another_finds_the_same(case, monkeypatch):
    """As for large arrays: derivatives are put in their place output by output and block by block."""
    from ntkit.torch import plan

    build, arguments, shape = CASES[case]
    module = make(build, *arguments)
    kernel, x1, x2 = EmpiricalNTK(module), points(5, *shape), points(3, *shape, seed=1)
    forms = (kernel, kernel.full)
    expected = [form(x1, second) for form in forms for second in (x2, None)]
    assert kernel.plan(x1).together
    with derivatives(module):
        problem = make_problem("a test", module, None, [name for name, _ in module.named_parameters()], x1)
        structure = probe(problem.network, problem.first, True)
    monkeypatch.setattr(plan, "SWEEP", 2 * structure.activations)
    assert not kernel.plan(x1).together
    assert kernel.plan(x1).block == 2
    for ours, value in zip(
        [form(x1, second) for form in forms for second in (x2, None)], expected, strict=True
    ):
        close(ours, value)


class Flat(nn.Module):
    """Ends in a `view`, which refuses images with their channels last in memory."""

    def __init__(self):
        super().__init__()
        self.filter, self.head = nn.Conv2d(2, 3, 3), nn.Linear(3 * 4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.filter(x)).view(len(x), -1))


def test_a_module_that_insists_on_its_layout_of_images_gets_it():
    module, x = make(Flat), points(4, 2, 4, 4)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        module(x.contiguous(memory_format=torch.channels_last))
    close(EmpiricalNTK(module).full(x), modules.blocks_by_brute_force(module, x))


def test_layers_are_taken_layer_by_layer():
    """What falls back to torch.func is exact but slow: only raw parameters, and uses outside of layers, may."""
    found = {}
    for case, (build, arguments, shape) in CASES.items():
        plan = EmpiricalNTK(make(build, *arguments)).plan(points(4, *shape))
        found[case] = {line.name for line in plan.lines if line.method == "jacobian"}
        assert case != "tied" or {line.name for line in plan.lines if line.method == "none"} == {
            "idle.weight",
            "idle.bias",
        }
    assert {case: names for case, names in found.items() if names} == {
        "encoder": {"position"},
        "encoder, sequence first": {"position"},
        "lstm": {"memory.weight_ih_l0", "memory.weight_hh_l0", "memory.bias_ih_l0", "memory.bias_hh_l0"},
        "used directly": {"left.weight"},
    }
    text = str(EmpiricalNTK(make(modules.mlp)).plan(points(4, 4)))
    assert "4.weight" in text
    assert "3 outputs; 4 examples a tile" in text


def test_a_linear_last_layer_has_the_kernel_of_its_features():
    """f = W h + b: `Θ = (h·h' + 1) I`, whatever W is; the subset is found by the submodule's name."""
    module = make(modules.mlp)
    x = points(5, 4)
    h = module[:4](x).detach()
    expected = h @ h.T + 1
    kernel = EmpiricalNTK(module, parameters=["4"])
    close(kernel(x), expected)
    close(kernel.full(x), expected[:, :, None, None] * torch.eye(3))
    chosen = EmpiricalNTK(module, parameters=lambda name: name == "4.weight")
    close(chosen(x), h @ h.T)
    groups = EmpiricalNTK(module).blocks(x, by=lambda name: name.split(".")[0])
    assert set(groups) == {"0", "2", "4"}
    close(groups["4"], expected)


def test_numpy_stays_numpy_and_float64_inputs_make_a_float64_kernel():
    torch.manual_seed(0)
    module = modules.mlp().eval()
    x = points(5, 4).numpy()
    expected = modules.blocks_by_brute_force(copy.deepcopy(module).double(), torch.from_numpy(x))
    expected = expected.diagonal(dim1=2, dim2=3).mean(-1)
    kernel = EmpiricalNTK(module)
    double = kernel(x)
    assert isinstance(double, np.ndarray)
    assert double.dtype == np.float64
    close(double, expected.numpy())
    assert module[0].weight.dtype == torch.float32
    single = kernel(x.astype(np.float32))
    assert single.dtype == np.float32
    # A few hundred products in float32.
    np.testing.assert_allclose(single, double, rtol=0, atol=100 * 1.2e-7 * double.max())
    half = EmpiricalNTK(copy.deepcopy(module).bfloat16())(torch.from_numpy(x).bfloat16())
    assert half.dtype == torch.float32


def test_it_serves_as_a_kernel_everywhere():
    kernel = EmpiricalNTK(make(modules.mlp))
    x, y = points(6, 4).numpy(), np.arange(6.0)[:, None]
    gram = kernel(x)
    posterior = GaussianProcess(kernel, noise=0.1).condition(x, y)
    np.testing.assert_allclose(
        posterior.mean(x), gram @ np.linalg.solve(gram + 0.1 * np.eye(6), y), atol=1e-8
    )
    flow = gradient_flow(kernel, x, y)
    values, vectors = np.linalg.eigh(gram)
    expected = vectors @ ((1 - np.exp(-0.3 * values))[:, None] * (vectors.T @ y))
    np.testing.assert_allclose(flow.at(0.3).mean(x), expected, atol=1e-8)
    close((2.0 * kernel + kernel * kernel)(x), 2 * gram + gram * gram)
    assert kernel == kernel
    assert repr(kernel) == "EmpiricalNTK(Sequential, 152 parameters)"


def test_its_tokens_are_left_as_they_are_by_those_who_ask_the_kernel():
    kernel = EmpiricalNTK(make(lambda: nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 1))))
    x, y = np.array([[0, 1], [2, 2], [4, 3]]), np.arange(3.0)[:, None]
    gram = kernel(x)
    mean = GaussianProcess(kernel, noise=0.1).condition(x, y).mean(x)
    assert mean.dtype == np.float64
    np.testing.assert_allclose(mean, gram @ np.linalg.solve(gram + 0.1 * np.eye(3), y), atol=1e-10)


def state(module):
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        [part.training for part in module.modules()],
        [(value.requires_grad, value.grad) for value in module.parameters()],
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
    )


def same(before, after):
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert before[1:] == after[1:]


def test_the_module_is_left_as_it_was():
    module = normed().eval()
    module[0].weight.requires_grad_(False)
    before = state(module)
    x = points(3, 3, 9, 8, dtype=torch.float32)
    gram = EmpiricalNTK(module)(x)
    same(before, state(module))
    with torch.no_grad():
        assert torch.equal(EmpiricalNTK(module)(x), gram)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert torch.equal(EmpiricalNTK(module)(x.clone()), gram)
    with pytest.raises(RuntimeError):
        EmpiricalNTK(module)(x[:, :2])  # two channels instead of three
    same(before, state(module))


def test_a_hook_of_the_users_is_part_of_the_function():
    module = make(modules.mlp)
    x = points(4, 4)
    module[0].register_forward_hook(lambda part, arguments, output: 2 * output)
    full = modules.blocks_by_brute_force(module, x)
    close(EmpiricalNTK(module).full(x), full)


class Mixing(nn.Linear):
    def forward(self, x):
        return super().forward(x) + x.mean()


class Random(nn.Linear):
    def forward(self, x):
        return super().forward(x + torch.rand(len(x), 1, dtype=x.dtype))


class Whole(nn.Linear):
    def forward(self, x):
        return {"logits": super().forward(x)}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
            r"BatchNorm1d '1' that normalises.*module.eval\(\)",
        ),
        (nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)).eval(), "track_running_stats=True"),
        (
            nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)),
            r"Dropout '1' in training mode. Call module.eval\(\)",
        ),
        (Mixing(4, 3), "example treated alone, got outputs of the first example that differ"),
        (Random(4, 3), "example treated alone"),
        (Whole(4, 3), "outputs=lambda result: result.logits"),
        (nn.Sequential(nn.Linear(4, 3), nn.Flatten(0)), r"outputs of shape \(points, outputs\), got \(6,\)"),
    ],
)
def test_what_has_no_kernel_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        EmpiricalNTK(module)(points(4, 4, dtype=torch.float32))


@pytest.mark.parametrize(
    ("arguments", "x", "message"),
    [
        ({"parameters": ["5"]}, points(3, 4), "got '5', which fits none of 0.weight"),
        ({"parameters": "4"}, points(3, 4), r"Use \['4'\]"),
        ({"parameters": lambda name: False}, points(3, 4), "at least one floating-point parameter"),
        ({"method": "fast"}, points(3, 4), "'auto', 'layerwise' or 'jacobian'"),
        ({}, [[1.0]], "NumPy arrays or as tensors"),
        ({}, points(0, 4), "one number of examples"),
        ({}, points(3, 4) * float("nan"), "finite values in x1"),
        ({"memory_limit": 10}, points(3, 4), "pick fewer outputs"),
    ],
)
def test_bad_arguments_are_refused_with_a_remedy(arguments, x, message):
    with pytest.raises(ValueError, match=message):
        EmpiricalNTK(make(modules.mlp), **arguments)(x)


def test_only_a_module_with_known_layers_is_taken_by_layers():
    with pytest.raises(ValueError, match="Use method='auto'"):
        EmpiricalNTK(make(nn.PReLU), method="layerwise")(points(3, 4))


def test_numbers_that_are_not_finite_are_refused():
    module = make(modules.mlp)
    with torch.no_grad():
        module[4].weight.fill_(float("inf"))
    with pytest.raises(ValueError, match="finite outputs"):
        EmpiricalNTK(module)(points(3, 4))

    class Root(nn.Linear):
        def forward(self, x):
            return super().forward(x).abs().sqrt()

    root = make(Root, 2, 1)
    torch.nn.init.zeros_(root.weight), torch.nn.init.zeros_(root.bias)
    with pytest.raises(ValueError, match="finite derivatives"):
        EmpiricalNTK(root)(points(3, 2))
