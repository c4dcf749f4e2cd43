"""What the tangent kernel of PyTorch modules takes beside its result, and where the result itself is too much."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'ntkit[torch]'")

from tests.torch.modules import close, make, points  # noqa: E402
from torch import nn  # noqa: E402

from ntkit.engines import plan  # noqa: E402
from ntkit.torch import EmpiricalNTK  # noqa: E402


def test_blocks_of_the_result_count_as_memory():
    """Of few parameters and many outputs the derivatives are nothing and the blocks of the result everything."""
    linear, x = make(nn.Linear, 1, 30, False), points(41, 1)
    result, limit = 41 * 41 * 30 * 30 * 8, 2**24 + 41 * 41 * 30 * 30 * 8
    whole, tiled = EmpiricalNTK(linear), EmpiricalNTK(linear, memory_limit=limit)
    assert whole.plan(x, kind="full").tile == tiled.plan(x).tile == 41
    tile = tiled.plan(x, kind="full").tile
    assert tile < 41 and 4 * tile**2 * 30 * 30 * 8 <= limit < 4 * result
    full = torch.einsum("ni,mi,ab->nmab", x, x, torch.eye(30, dtype=x.dtype))
    close(tiled.full(x), full)
    close(whole.full(x), full)


def test_a_kernel_beyond_the_machine(monkeypatch):
    linear, x = make(nn.Linear, 2, 3), points(10, 2)
    monkeypatch.setattr(plan, "physical_memory", lambda: 8 * 10 * 10 * 9)
    assert EmpiricalNTK(linear).full(x).shape == (10, 10, 3, 3)
    monkeypatch.setattr(plan, "physical_memory", lambda: 8 * 10 * 10 * 9 - 1)
    with pytest.raises(MemoryError, match="10 x 10 points and 3 outputs .* Use fewer points"):
        EmpiricalNTK(linear).full(x)
    assert EmpiricalNTK(linear)(x).shape == (10, 10)


def test_what_is_not_finite_is_named_by_its_entry_in_the_kernel():
    """The root of |w x| has no derivative at zero, where only the last of seven inputs is: in another tile."""

    class Root(nn.Linear):
        def forward(self, x):
            return super().forward(x).abs().sqrt()

    root, x = make(Root, 2, 1, False), points(7, 2)
    x[6] = 0
    least = EmpiricalNTK(root, memory_limit=1)
    with pytest.raises(ValueError, match=r"memory_limit >= \d+ bytes") as refusal:
        least(x)
    tiled = EmpiricalNTK(root, memory_limit=2 * int(str(refusal.value).split(">= ")[1].split()[0]))
    assert tiled.plan(x).tile < 7
    with pytest.raises(ValueError, match=r"finite derivatives, got nan at entry \[0, 6\] of the kernel"):
        tiled(x)
    with pytest.raises(ValueError, match=r"finite derivatives, got nan at entry \[6\] of the kernel"):
        tiled.diag(x)
