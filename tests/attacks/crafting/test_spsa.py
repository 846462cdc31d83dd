"""Gradients from values alone."""

import pytest
import torch

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.crafting.spsa import BlackBox, spsa_gradient
from poison_and_defend.attacks.threat.sanitizing import Realisation, Sanitizing
from poison_and_defend.core.errors import InputError

IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_one_sample_is_the_formula() -> None:
    signs = (torch.randint(0, 2, IMAGES.shape, generator=generator()) * 2 - 1).double()
    change = ((IMAGES + 0.1 * signs) ** 3).sum((1, 2, 3)) - ((IMAGES - 0.1 * signs) ** 3).sum((1, 2, 3))
    found = spsa_gradient(lambda x: (x**3).sum((1, 2, 3)), IMAGES, samples=1, generator=generator(), step=0.1)
    torch.testing.assert_close(found, (change / 0.2)[:, None, None, None] / signs)


def test_the_mean_over_many_samples_is_the_gradient_of_every_image() -> None:
    found = spsa_gradient(lambda x: (x**2).sum((1, 2, 3)), IMAGES, samples=20_000, generator=generator())
    torch.testing.assert_close(found, 2 * IMAGES, rtol=0, atol=0.1)


class Wavy(Sanitizing):
    """Not linear, and without a gradient where one is asked for."""

    def __init__(self, masked: bool = False) -> None:
        self.masked, self.draws = masked, 2

    def draw(self, keys, image_shape, generators) -> Realisation:
        noise = torch.stack([torch.randn(keys.shape[1], *image_shape, generator=g) for g in generators])

        def rewrite(images, own):
            seen = (images + 0.05 * own).sin()
            return images * 0 + seen.detach() if self.masked else seen

        return Realisation(rewrite, noise)


def test_a_defence_whose_gradient_is_masked_has_one_as_a_black_box() -> None:
    keys, images = torch.arange(3)[None], IMAGES.float()
    weights = torch.randn(IMAGES.shape, generator=generator())
    found = {}
    for masked in (False, True):
        for black in (False, True):
            defence = BlackBox(Wavy(masked), samples=4000) if black else Wavy(masked)
            assert defence.draws == 2 and defence.random
            own = images[None].clone().requires_grad_()
            seen = defence.draw(keys, (1, 4, 4), [generator()]).of(own)
            (found[masked, black],) = torch.autograd.grad((seen * weights[None]).sum(), [own])
    assert found[True, False].abs().max() == 0
    torch.testing.assert_close(found[False, True], found[False, False], rtol=0, atol=0.25)
    assert torch.equal(found[True, True], found[False, True])


def test_an_attack_goes_through_a_black_box_as_through_any_defence(craft) -> None:
    told = []
    attack = BullseyePolytope(0.2, steps=8, learning_rate=0.02)
    craft(attack, sanitizing=BlackBox(Wavy(True), 16), progress=lambda values: told.append(values.mean().item()))
    assert told[-1] < 0.95 * told[0]
    masked = []
    craft(attack, sanitizing=Wavy(True), progress=lambda values: masked.append(values.mean().item()))
    assert masked[-1] > 0.97 * masked[0]


def test_no_sample_is_refused() -> None:
    with pytest.raises(InputError, match=r"^spsa_samples is 0.*--spsa_samples 8"):
        BlackBox(Wavy(), 0)
