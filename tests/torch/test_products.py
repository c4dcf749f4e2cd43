"""Products with the Jacobian, the linearised module and the kernel of the outputs, against explicit Jacobians."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'ntkit[torch]'")

from tests.torch import modules  # noqa: E402

from ntkit.torch import EmpiricalNNGP, EmpiricalNTK, linearize  # noqa: E402


def setting(build=modules.mlp, *shape):
    torch.manual_seed(0)
    module = build().double().eval()
    return module, torch.randn(5, *(shape or (4,)), dtype=torch.float64)


@pytest.mark.parametrize(("build", "shape"), [(modules.mlp, (4,)), (modules.Recurrent, (6, 5))])
def test_products_are_those_of_the_jacobian(build, shape):
    module, x = setting(build, *shape)
    jacobian = modules.jacobian(module, x)
    kernel = EmpiricalNTK(module)
    v = {name: torch.randn_like(value) for name, value in module.named_parameters()}
    flat = torch.cat([value.flatten() for value in v.values()]).detach()
    torch.testing.assert_close(kernel.jacobian_vector_product(x, v), jacobian @ flat)
    u = torch.randn(5, jacobian.shape[1], dtype=torch.float64)
    back = kernel.vector_jacobian_product(x, u)
    found = torch.cat([value.flatten() for value in back.values()])
    expected = torch.einsum("nkp,nk->p", jacobian, u)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(kernel.kernel_vector_product(x[:2], u, x), jacobian[:2] @ expected)
    numpy = kernel.kernel_vector_product(x.numpy(), u.numpy())
    np.testing.assert_allclose(numpy, (jacobian @ expected).numpy(), rtol=1e-10)


def test_the_linearised_module_is_its_tangent():
    module, x = setting()
    fixed = copy.deepcopy(module)
    linearized = linearize(module)
    moved = {name: value + 0.1 for name, value in module.state_dict().items()}
    change = torch.full((152,), 0.1, dtype=torch.float64)
    with torch.no_grad():
        module[0].weight.zero_()  # training the module does not move the expansion
    expected = fixed(x).detach() + modules.jacobian(fixed, x) @ change
    torch.testing.assert_close(linearized(moved, x), expected)
    assert isinstance(linearized(moved, x.numpy()), np.ndarray)
    with pytest.raises(ValueError, match="one tensor for each of the 6"):
        linearized({"0.weight": moved["0.weight"]}, x)
    with pytest.raises(ValueError, match="'0.weight' of shape"):
        EmpiricalNTK(fixed).jacobian_vector_product(x, moved | {"0.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="vector of the outputs' shape"):
        EmpiricalNTK(fixed).vector_jacobian_product(x, torch.zeros(3, 3))


def test_the_kernel_of_the_outputs_is_their_gram():
    module, x = setting()
    f = module(x).detach()
    kernel = EmpiricalNNGP(module)
    torch.testing.assert_close(kernel(x), f @ f.T / 3)
    torch.testing.assert_close(kernel(x, x[:2]), f @ f[:2].T / 3)
    torch.testing.assert_close(kernel.diag(x), f.square().mean(1))
    assert torch.equal(kernel(x), kernel(x).T)
    hidden = EmpiricalNNGP(module, outputs=lambda result: result[:, :2])
    torch.testing.assert_close(hidden(x), f[:, :2] @ f[:, :2].T / 2)
    assert kernel(x.numpy()).dtype == np.float64
