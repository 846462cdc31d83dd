"""Voters must be independent given the set, and each must see nothing but its own noisy subsample."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from poison_and_defend.certificate.voters import MOST_MEMBERS, Voters, member_rows, member_seed, noise_seed
from poison_and_defend.certification import FixedSize, Poisson
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import DigitsDataModule, Split
from poison_and_defend.defenses import NoiseOnly
from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.countermeasures import rewriter

RECIPE = Recipe(epochs=20, batch_size=1024, learning_rate=0.05)


@pytest.fixture(scope="module")
def split() -> Split:
    return DigitsDataModule().split("train")


def pixels(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).float() / 255


def voters(split: Split, sampling=None, seed: int = 0, sigma: float = 0.3) -> Voters:
    test = DigitsDataModule().split("test")
    return Voters(
        split=split,
        sampling=sampling or FixedSize(len(split), 60),
        defense=rewriter("noise_only", sigma=sigma, seed=noise_seed(seed)),
        build=lambda own: fresh_head(1024, 10, own),
        recipe=RECIPE,
        seed=seed,
        tested=pixels(test.images),
        features=pixels,
        batch_size=50,
        threads=1,
    )


def test_voters_learn_from_their_subsamples(split):
    labels = DigitsDataModule().split("test").labels.numpy()
    votes, marks = voters(split).train(range(20), Ranks())
    assert votes.shape == (20, len(labels)) and votes.dtype == np.uint16
    assert 0.6 < (votes == labels).mean() < 0.95
    assert (np.stack([np.bincount(v, minlength=10) for v in votes.T]).argmax(1) == labels).mean() > (votes == labels).mean()
    assert len(np.unique(marks)) == 20
    # They differ from one another: each saw something else.
    assert all((votes[i] != votes[j]).any() for i in range(20) for j in range(i))


def test_no_two_models_share_noise_subsample_or_seed(split, monkeypatch):
    """Looks at every image that training is given: the same row under two models differs in its noise, everywhere."""
    seen = {}
    made = voters(split, FixedSize(len(split), 200))
    sanitize = NoiseOnly.__call__

    def spy(self, images, rows, draws=None):
        result = sanitize(self, images, rows, draws)
        for row, draw, image in zip(rows.tolist(), draws.tolist(), result, strict=True):
            seen[draw, row] = image.flatten().float()
        return result

    monkeypatch.setattr(NoiseOnly, "__call__", spy)
    made.train(range(6), Ranks())
    rows = {m: {row for draw, row in seen if draw == m} for m in range(6)}
    assert all(len(own) == 200 for own in rows.values())
    assert len({frozenset(own) for own in rows.values()}) == 6
    compared = 0
    for one in range(6):
        for other in range(one):
            for row in rows[one] & rows[other]:
                first, second = seen[one, row], seen[other, row]
                # Clipping hides half of the noise on black and white pixels, not the rest.
                assert (first != second).float().mean() > 0.25
                compared += 1
    assert compared > 500
    seeds = [member_seed(0, m) for m in range(6)]
    assert len(set(seeds)) == 6


def test_seeds_stay_apart_through_all_of_training():
    """torch's generators take the lowest 32 bits of seed + epoch, and of seed * 1000003 + step."""
    seeds = np.array([member_seed(3, m) for m in range(4000)], np.uint64)
    for reach, factor in ((16_000, 1), (16_000, 1_000_003)):
        first = np.sort(seeds * np.uint64(factor) % np.uint64(2**32))
        gaps = np.diff(np.append(first, first[0] + np.uint64(2**32)))
        assert gaps.min() >= reach
    assert member_seed(3, MOST_MEMBERS - 1) != member_seed(3, 0) != member_seed(4, 0)


def test_subsamples_of_models_are_independent_draws():
    """Two models share as many rows as independent draws do, and follow no pattern from one model to the next."""
    sampling = FixedSize(600, 60)
    rows = [set(member_rows(sampling, 0, m).tolist()) for m in range(1500)]
    for lag in (1, 2, 7):
        shared = np.array([len(a & b) for a, b in zip(rows, rows[lag:], strict=False)])
        # Hypergeometric: mean 6, standard deviation 2.21; five standard errors.
        assert abs(shared.mean() - 6) < 5 * 2.21 / np.sqrt(len(shared))
        assert abs(shared.std() - 2.21) < 0.3


def test_a_model_is_the_same_whoever_its_neighbours_are(split):
    made = voters(split)
    together, marks = made.train(range(12), Ranks())
    alone, mark = made.train([7], Ranks())
    assert marks[7] == mark[0]
    assert (together[7] != alone[0]).mean() < 0.01


def test_what_is_not_drawn_is_not_seen(split):
    """Replacing every image outside a model's subsample changes nothing; replacing one inside does."""
    made = voters(split)
    votes, marks = made.train(range(3), Ranks())
    own = torch.from_numpy(member_rows(made.sampling, 0, 1))
    other = torch.ones(len(split), dtype=torch.bool)
    other[own] = False
    images = split.images.clone()
    images[other] = 255 - images[other]
    moved, same = replace(made, split=Split(images, split.labels)).train(range(3), Ranks())
    assert same[1] == marks[1] and (moved[1] == votes[1]).all()
    assert same[0] != marks[0] and same[2] != marks[2]
    images = split.images.clone()
    images[own[0]] = 255 - images[own[0]]
    assert replace(made, split=Split(images, split.labels)).train([1], Ranks())[1][0] != marks[1]


def test_poisson_subsamples_train_for_a_fixed_length_and_empty_ones_vote_for_nothing_seen(split):
    sampling = Poisson(len(split), 0.002)
    empty = [m for m in range(40) if len(member_rows(sampling, 0, m)) == 0]
    assert 3 < len(empty) < 30
    votes, _ = voters(split, sampling).train(range(40), Ranks())
    for member in set(range(40)) - set(empty):
        known = set(split.labels[torch.from_numpy(member_rows(sampling, 0, member))].tolist())
        assert np.isin(votes[member], list(known)).mean() > 0.7
    # A blank image of class 0 is all that they saw.
    assert all((votes[member] == 0).mean() > 0.5 for member in empty)


def test_models_may_vote_as_they_were_at_their_best(split):
    """A rate that wrecks a model in the end: what is watched says when to stop, for each model apart."""
    test = DigitsDataModule().split("test")
    wild = replace(voters(split), recipe=Recipe(epochs=30, batch_size=1024, learning_rate=3.0, milestones=[], weight_decay=0.3))
    watched = (pixels(test.images), test.labels)
    last, _ = wild.train(range(10), Ranks())
    best, _ = replace(wild, watched=watched).train(range(10), Ranks())
    accuracies = [(votes == test.labels.numpy()).mean(1) for votes in (last, best)]
    assert (accuracies[1] >= accuracies[0]).all() and accuracies[1].mean() > accuracies[0].mean() + 0.005


def test_whole_networks_vote_too(split):
    test = DigitsDataModule().split("test")
    recipe = Recipe(epochs=12, batch_size=32, optimizer="adam", learning_rate=0.005)
    made = replace(
        voters(split, FixedSize(len(split), 150), sigma=0.1),
        build=lambda seed: build_network("convnet", in_channels=1, num_classes=10, seed=seed),
        recipe=recipe,
        features=None,
        tested=test.images[:100],
    )
    votes, _ = made.train(range(3), Ranks())
    assert (votes == test.labels[:100].numpy()).mean() > 0.6
