"""The quick form of a denoiser: its estimates and its gradients, and the normalization that it has of its own."""

import copy

import pytest
import torch
from torch import nn

from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.gradient_form import GroupNorm, gradient_form


@pytest.mark.parametrize(("shape", "groups"), [((3, 8, 5, 4), 2), ((2, 6, 3, 3), 6), ((2, 6, 1, 7), 1), ((2, 4, 9), 2)])
def test_results_and_gradients_of_a_normalization_are_pytorchs(shape, groups) -> None:
    norm = nn.GroupNorm(groups, shape[1]).double().requires_grad_(False)
    norm.weight.uniform_(0.5, 2.0)
    norm.bias.uniform_(-1.0, 1.0)
    images = (3 * torch.randn(shape, dtype=torch.float64) + 2).requires_grad_()
    given = torch.randn(shape, dtype=torch.float64)
    results = [(one(images), torch.autograd.grad(one(images), images, given)[0]) for one in (norm, GroupNorm(norm))]
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["photos-32", "digits"])
def test_estimates_and_gradients_are_the_denoisers_up_to_half_precision(name, capfd) -> None:
    denoiser = load_denoiser(name)
    before = copy.deepcopy(denoiser.state_dict())
    form = gradient_form(denoiser)
    generator = torch.Generator().manual_seed(0)
    noisy = torch.rand(4, denoiser.channels, *denoiser.size, generator=generator)
    noisy = (noisy + 0.1 * torch.randn(noisy.shape, generator=generator)).requires_grad_()
    weights = torch.randn(noisy.shape, generator=generator)
    pairs = []
    for one in (denoiser, form):
        found = one(noisy, 0.1)
        pairs.append((found.detach(), torch.autograd.grad((found * weights).sum(), noisy)[0]))
    (estimate, gradient), (quick, quick_gradient) = pairs
    assert quick.dtype == quick_gradient.dtype == torch.float32
    assert 0 < (quick - estimate).abs().max() < 0.02
    assert (quick_gradient - gradient).norm() < 0.02 * gradient.norm()
    # The denoiser itself stays as it was, and nothing is told that is of no use to anybody.
    assert denoiser.unet.dtype == torch.float32 and all(map(torch.equal, before.values(), denoiser.state_dict().values()))
    assert not any(type(module) is nn.GroupNorm for module in form.unet.modules())
    assert capfd.readouterr().err == ""
