import torch

from poison_and_defend.core.clip import clipped


def test_it_is_clamp_and_its_gradient_passes_at_the_bounds_themselves() -> None:
    values = torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.1, float("nan")], dtype=torch.float64, requires_grad=True)
    found = clipped(values)
    assert torch.equal(found[:5], values[:5].clamp(0, 1)) and found[5].isnan()
    (gradient,) = torch.autograd.grad(found[:5].sum(), [values])
    assert gradient[:5].tolist() == [0, 1, 1, 1, 0]
    assert clipped(torch.tensor([-3.0, 3.0]), -1, 2).tolist() == [-1, 2]
