"""Attacks in feature space whose attacker knows how victims augment."""

import pytest
import torch
from torch import Tensor

from poison_and_defend.attacks import BullseyePolytope, ConvexPolytope, PoisonFrogs
from poison_and_defend.attacks.base import Attack
from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.errors import InputError
from tests.attacks.test_bullseye_polytope import batch_of

SHIFT = 4 / 32
ATTACKS = [
    lambda steps, **known: BullseyePolytope(0.2, steps=steps, learning_rate=0.02, **known),
    lambda steps, **known: ConvexPolytope(0.2, steps=steps, learning_rate=0.02, **known),
    lambda steps, **known: PoisonFrogs(0.2, steps=steps, learning_rate=1.0, beta=0.0, **known),
]
KNOWN = {"unknown": {}, "known": {"max_shift": SHIFT, "flip": True}}
EACH = pytest.mark.parametrize("make", ATTACKS, ids=["bullseye_polytope", "convex_polytope", "poison_frogs"])


@pytest.fixture
def batch(digits, setups) -> CraftBatch:
    return batch_of(digits, setups)


def silent(_: Tensor) -> None:
    """No progress."""


def seen(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """One random view of each image ``(S, k, C, H, W)``, setup by setup."""
    views = [draw_augmentation((len(own),), g, flip=True) for own, g in zip(images, generators, strict=True)]
    return torch.stack([augment(own, view, SHIFT) for own, view in zip(images, views, strict=True)])


@torch.no_grad()
def distance(images: Tensor, batch: CraftBatch, surrogate) -> Tensor:
    """From the target's feature to the poisons' mean feature, over the target's length, ``(S,)``."""
    target = surrogate.features(batch.targets[:, 0])
    mean = surrogate.features(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(1)
    return (mean - target).norm(dim=-1) / target.norm(dim=-1)


@torch.no_grad()
def collisions(images: Tensor, batch: CraftBatch, surrogate) -> Tensor:
    """Squared distance of the poisons' features to the target's, ``(S,)``: their mean."""
    features = surrogate.features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    return (features - surrogate.features(batch.targets[:, 0])[:, None]).square().sum(-1).mean(1)


def measure(make):
    """What an attack brings down."""
    return collisions if make is ATTACKS[2] else distance


@EACH
def test_what_is_not_asked_for_is_not_in_the_record(make) -> None:
    plain, known = make(1), make(1, max_shift=SHIFT, flip=True)
    assert plain.variant == "" and not {"max_shift", "flip"} & set(plain.arguments())
    assert known.variant == "augmented" and known.arguments() == plain.arguments() | {"max_shift": SHIFT, "flip": True}
    with pytest.raises(InputError, match=r"max_shift is 1.5.*--attack.max_shift"):
        make(1, max_shift=1.5)


def test_the_first_objective_is_that_of_one_random_view_of_every_poison(batch, surrogates) -> None:
    found: list[Tensor] = []
    BullseyePolytope(0.2, steps=1, max_shift=SHIFT, flip=True).perturb(batch, surrogates[:1], found.append)
    expected = distance(seen(batch.bases, batch.generators()), batch, surrogates[0])
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)
    assert (expected - distance(batch.bases, batch, surrogates[0])).abs().max() > 1e-2


@EACH
def test_poisons_survive_the_augmentation_that_they_were_made_for(make, batch, surrogates) -> None:
    model = surrogates[0]
    crafted = {name: make(40, **known).perturb(batch, [model], silent)[0] for name, known in KNOWN.items()}
    generators = [torch.Generator().manual_seed(99) for _ in batch.seeds]
    after = {
        name: torch.stack([measure(make)(seen(images, generators), batch, model) for _ in range(20)]).mean()
        for name, images in crafted.items()
    }
    assert after["known"] < 0.9 * after["unknown"]


@EACH
def test_views_do_not_depend_on_the_neighbours_in_a_batch(make, batch, surrogates) -> None:
    attack: Attack = make(3, **KNOWN["known"])
    together = attack.perturb(batch, surrogates[:1], silent)[0]
    alone = CraftBatch(batch.bases[1:2], batch.base_labels[1:2], batch.targets[1:2], batch.seeds[1:2])
    torch.testing.assert_close(attack.perturb(alone, surrogates[:1], silent)[0][0], together[1], rtol=0, atol=2e-3)


@pytest.mark.parametrize("make", [ATTACKS[0], ATTACKS[2]], ids=["bullseye_polytope", "poison_frogs"])
def test_the_final_objective_is_of_the_poisons_as_they_are(make, batch, surrogates) -> None:
    poisons, objective = make(4, **KNOWN["known"]).perturb(batch, surrogates[:1], silent)
    expected = measure(make)(poisons, batch, surrogates[0])
    torch.testing.assert_close(objective, expected, rtol=1e-3, atol=1e-5)
