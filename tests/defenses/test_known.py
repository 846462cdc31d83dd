"""A defence as an attacker has it."""

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Diffusion, Jpeg, NoiseOnly
from poison_and_defend.defenses.known import KnownDefense
from poison_and_defend.defenses.rewriters.base import quantize
from poison_and_defend.defenses.rewriters.in_order import in_order

KEYS = torch.tensor([[5, 0, 99], [3, 7, 2]])


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in (1, 2)]


@pytest.fixture
def poisons(images):
    return (images.float() / 255).view(2, 3, *images.shape[1:])


def seen(known: KnownDefense, poisons, own=None):
    return known.draw(KEYS, tuple(poisons.shape[2:]), own or generators()).of(poisons)


def test_noise_is_fresh_in_every_draw_and_each_setups_own(poisons) -> None:
    known, own = KnownDefense(NoiseOnly(sigma=0.1, seed=4)), generators()
    first, second = seen(known, poisons, own), seen(known, poisons, own)
    assert known.draws == 4 and not torch.equal(first, second)
    assert torch.equal(first, seen(known, poisons))
    # A setup's noise is the same whatever its neighbours are.
    alone = KnownDefense(NoiseOnly(sigma=0.1, seed=4)).draw(KEYS[1:], tuple(poisons.shape[2:]), generators()[1:])
    assert torch.equal(alone.of(poisons[1:])[0], first[1])


def test_who_does_not_know_the_seed_sees_none_of_the_noise_that_victims_get(poisons) -> None:
    """The defence's own seed changes nothing."""
    one, other = (KnownDefense(NoiseOnly(sigma=0.1, seed=seed)) for seed in (4, 5))
    assert torch.equal(seen(one, poisons), seen(other, poisons))


def test_who_knows_the_seed_sees_what_victims_get(images, poisons, denoiser) -> None:
    rewriter = Diffusion(sigma=0.2, denoiser=denoiser, seed=4)
    known = KnownDefense(rewriter, knows_seed=True)
    assert known.draws == 1
    victims = rewriter(images, KEYS.flatten()).view_as(poisons)
    assert (quantize(seen(known, poisons)).int() - victims.int()).abs().max() <= 1


def test_of_several_draws_who_knows_the_seed_sees_each_in_every_step(images, poisons, denoiser) -> None:
    rewriter = Diffusion(sigma=0.2, denoiser=denoiser, seed=4, draws=2)
    known = KnownDefense(rewriter, knows_seed=True)
    assert known.draws == 2
    for number in (0, 1, 0):
        victims = rewriter.version(number)(images, KEYS.flatten()).view_as(poisons)
        assert (quantize(seen(known, poisons)).int() - victims.int()).abs().max() <= 1


def test_what_draws_nothing_is_looked_at_once(poisons) -> None:
    known = KnownDefense(Jpeg(30), draws=8)
    assert known.draws == 1 and not torch.equal(seen(known, poisons), poisons)


def test_an_unknown_sigma_is_another_in_every_draw_within_what_he_reckons_with(denoiser) -> None:
    grey = torch.full((2, 3, 1, 8, 8), 0.5)
    known, own = KnownDefense(NoiseOnly(sigma=9.0, seed=4), sigmas=(0.02, 0.08)), generators()
    spread = torch.stack([(seen(known, grey, own) - 0.5).std() for _ in range(200)])
    assert 0.015 < spread.min() < 0.025 and 0.07 < spread.max() < 0.095
    # Uniform in its logarithm: half lie below the geometric mean.
    assert 0.38 < (spread < 0.04).float().mean() < 0.62


def test_half_precision_is_near_and_gradients_are_single(poisons, denoiser) -> None:
    rewriter = Diffusion(sigma=0.2, denoiser=denoiser, seed=4)
    poisons = poisons.clone().requires_grad_()
    exact, half = (seen(KnownDefense(rewriter, half=half), poisons) for half in (False, True))
    assert half.dtype == torch.float32 and 0 < (exact - half).abs().max() < 0.05
    (gradient,) = torch.autograd.grad(half.sum(), [poisons])
    assert gradient.dtype == torch.float32 and gradient.abs().max() > 0


def test_what_cannot_be_is_refused(denoiser) -> None:
    with pytest.raises(InputError, match=r"^known_draws is 0.*--known_draws 4"):
        KnownDefense(NoiseOnly(sigma=0.1), draws=0)
    with pytest.raises(InputError, match=r"^jpeg has no sigma that an attacker could guess"):
        KnownDefense(Jpeg(30), sigmas=(0.1, 0.2))


def test_in_single_precision_it_is_exact_whatever_it_was(poisons, denoiser) -> None:
    rewriter = Diffusion(sigma=0.2, denoiser=denoiser, seed=4)
    exact, half = (KnownDefense(rewriter, half=half) for half in (False, True))
    assert torch.equal(seen(half.in_single_precision(), poisons), seen(exact, poisons)) and half.half
    assert not torch.equal(seen(half, poisons), seen(exact, poisons))


def test_several_rewriters_in_half_precision_are_near_too(poisons, denoiser) -> None:
    both = in_order([NoiseOnly(sigma=0.05, seed=3), Diffusion(sigma=0.2, denoiser=denoiser, seed=4)])
    exact, half = (seen(KnownDefense(both, half=half), poisons) for half in (False, True))
    assert 0 < (exact - half).abs().max() < 0.05
