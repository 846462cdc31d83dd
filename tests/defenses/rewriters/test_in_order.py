"""Several rewriters as one: each acts on what the one before it left, under noise of its own."""

import pytest
import torch

from poison_and_defend.defenses import Jpeg, NoiseOnly
from poison_and_defend.defenses.rewriters.in_order import InOrder, in_order

KEYS = torch.tensor([4, 9])
IMAGES = torch.randint(60, 190, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_what_one_makes_of_a_row_is_what_the_next_is_given() -> None:
    noise, jpeg = NoiseOnly(0.1, seed=3), Jpeg(20)
    assert torch.equal(in_order([noise, jpeg])(IMAGES, KEYS), jpeg(noise(IMAGES, KEYS), KEYS))
    assert not torch.equal(in_order([jpeg, noise])(IMAGES, KEYS), in_order([noise, jpeg])(IMAGES, KEYS))


def test_draws_reach_all_of_them() -> None:
    chain, draws = in_order([NoiseOnly(0.1, seed=3), Jpeg(20)]), torch.tensor([5, 6])
    assert torch.equal(chain(IMAGES, KEYS, draws), Jpeg(20)(NoiseOnly(0.1, seed=3)(IMAGES, KEYS, draws), KEYS))
    assert not torch.equal(chain(IMAGES, KEYS, draws), chain(IMAGES, KEYS))


def test_none_is_none_and_one_is_itself() -> None:
    jpeg = Jpeg(20)
    assert in_order([]) is None and in_order([jpeg]) is jpeg
    assert isinstance(in_order([jpeg, jpeg]), InOrder)


def test_noise_of_the_same_seed_is_drawn_apart_by_place_and_the_first_keeps_its_seed() -> None:
    chain = InOrder([NoiseOnly(0.1, seed=3), NoiseOnly(0.2, seed=3), NoiseOnly(0.1, seed=3)])
    seeds = [one.seed for one in chain.rewriters]
    assert seeds[0] == 3 and len(set(seeds)) == 3 and all(0 <= seed < 2**63 for seed in seeds)
    grey = torch.full_like(IMAGES, 128)
    first, second, third = (one.add_noise(grey, KEYS) - 128 / 255 for one in chain.rewriters)
    correlations = torch.corrcoef(torch.stack([first.flatten(), second.flatten(), third.flatten()]))
    assert (correlations - torch.eye(3)).abs().max() < 0.1
    # Another seed of the run gives other noise at every place, and the same seed the same.
    again = InOrder([NoiseOnly(0.1, seed=3), NoiseOnly(0.2, seed=3), NoiseOnly(0.1, seed=3)])
    assert torch.equal(again(IMAGES, KEYS), chain(IMAGES, KEYS))
    assert {one.seed for one in InOrder([NoiseOnly(0.1, seed=4)] * 3).rewriters}.isdisjoint(seeds)


@pytest.mark.parametrize("seed", [2**63 - 1, 0])
def test_seeds_stay_in_their_range(seed: int) -> None:
    assert all(0 <= one.seed < 2**63 for one in InOrder([NoiseOnly(0.1, seed=seed)] * 9).rewriters)


def test_a_secret_seed_stays_one_and_settings_are_those_of_all() -> None:
    chain = InOrder([Jpeg(30), NoiseOnly(0.25)])
    assert chain.rewriters[1].seed is None and chain.sigma == 0.25
    assert InOrder([NoiseOnly(0.5, seed=1), NoiseOnly(0.1, seed=1)]).sigma == 0.5
    wanted = {"steps": [Jpeg(30).settings(), NoiseOnly(0.25).settings()]}
    assert chain.settings() == wanted == chain.settings_for((3, 16, 16))
