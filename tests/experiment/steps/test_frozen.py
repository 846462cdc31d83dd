import pytest
import torch

from poison_and_defend.attacks import WitchesBrew
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import (
    Chain,
    Diffusion,
    Hybrid,
    Mixup,
    Neighbours,
    Rows,
    RunOff,
    SpectralSignatures,
    TrustedOnly,
)
from poison_and_defend.experiment.steps.frozen import head_inputs
from poison_and_defend.experiment.steps.protect import Sanitized, sanitize_all
from poison_and_defend.experiment.steps.surrogates import extractor
from poison_and_defend.experiment.steps.training_sets import Member, training_sets
from poison_and_defend.experiment.steps.victim_networks import VictimNetworks
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.features import extract_features
from tests.small_experiments import blank_poisons, scored


def test_cached_views_are_the_augmented_images_features(plan) -> None:
    own = plan(victim_recipe=Recipe(max_shift=0.1, flip=True), head_views=3)
    base = extractor(own, "convnet", Ranks())
    sets = blank_poisons(own)
    clean = own.data.split("train").images
    data = training_sets(own, [Member(0, "none", 0)], sets, {"none": Sanitized(clean, torch.cat([p.images for p in sets]))})
    features = VictimNetworks(own, "convnet", base).kept_features(Ranks())
    lengths = [len(clean), len(data.pool) - len(clean)]
    found = head_inputs(own, features, data, lengths)
    assert found.views == 3 and len(found.pool) == 3 * len(data.labels)
    first, second, third = found.pool.chunk(3)
    plain = extract_features(base, data.pool, torch.device("cpu"))
    distances = [(view - plain).norm(dim=1).mean() for view in (first, second, third)]
    assert min(distances) > 0 and not torch.equal(first, second)
    none = head_inputs(plan(victim_recipe=Recipe()), features, data, lengths)
    assert none.views == 1 and torch.equal(none.pool, plain)


@pytest.mark.parametrize("augmented", [False, True])
def test_heads_are_trained_on_every_draw_of_a_rewriter(plan, augmented) -> None:
    recipe = Recipe(max_shift=0.1, flip=True) if augmented else Recipe()
    own = plan(victim_recipe=recipe, head_views=3, arms={"two": Diffusion(draws=2)})
    base, sets = extractor(own, "convnet", Ranks()), blank_poisons(own)
    clean = own.data.split("train").images
    poisons = torch.cat([p.images for p in sets])
    further = Sanitized(255 - clean, 255 - poisons)
    data = training_sets(own, [Member(0, "two", 0)], sets, {"two": Sanitized(clean, poisons, (further,))})
    assert data.views == 2 and data.pool.equal(torch.cat([clean, poisons, 255 - clean, 255 - poisons]))
    features = VictimNetworks(own, "convnet", base).kept_features(Ranks())
    found = head_inputs(own, features, data, [len(clean), len(poisons)])
    assert found.views == (4 if augmented else 2) and len(found.pool) == found.views * len(data.labels)
    plain = [extract_features(base, images, torch.device("cpu")) for images in data.pool.chunk(2)]
    for view, seen in enumerate(found.pool.chunk(found.views)):
        # Views come from the draws in turn: each is nearest to its own.
        distances = [(seen - one).norm(dim=1).mean() for one in plain]
        assert distances[view % 2] < distances[1 - view % 2]


def test_votes_in_two_rounds_and_of_training_rows_are_scored_as_others_are(plan) -> None:
    arms = {"two": RunOff(3), "near": Neighbours(0.9), "filtered": Chain([SpectralSignatures(), Neighbours(0.9)])}
    arms |= {"hybrid": Hybrid(20, 100), "alone": TrustedOnly(100)}
    own = plan(arms=arms, feature_recipe=Recipe(epochs=6), num_setups=1)
    own.folder.mkdir(parents=True)
    sets = blank_poisons(own)
    scores = {score.defense: score for score in scored(own, "convnet", sets, sanitize_all(own, sets, Ranks()))}
    assert set(scores) == set(arms)
    # What is certified is less than what is right, and less for more changed rows.
    for name, score in scores.items():
        assert score.clean_accuracy > 0.6, name
        assert score.clean_accuracy + 1e-6 >= score.certified["1"] >= score.certified["5"], name
    assert scores["near"].certified["5"] > scores["two"].certified["5"] == 0 and scores["two"].models == 3
    # The public images, which no victim trains on, help received ones, and stand whatever these are.
    alone = scores["alone"]
    assert alone.certified["25"] == pytest.approx(alone.clean_accuracy, abs=1e-6) and scores["hybrid"].certified["5"] > 0.9
    # Once more by hand: features of the frozen network, of the rows that the setup's victim gets.
    base = extractor(own, "convnet", Ranks())
    train, test = own.data.split("train"), own.data.split("test")
    images = train.images.clone()
    images[torch.from_numpy(sets[0].setup.base_indices)] = sets[0].images
    features, tested = (extract_features(base, one, torch.device("cpu")) for one in (images, test.images))
    answers, held = Neighbours(0.9).read(Rows(features, train.labels), Rows(features[:0], train.labels[:0]), tested, 10)
    assert scores["near"].clean_accuracy == pytest.approx(float((answers == test.labels).float().mean()))
    assert scores["near"].withstands == int(held[sets[0].setup.target_index])


def test_a_vote_of_training_rows_is_refused_where_there_are_no_frozen_features(plan) -> None:
    with pytest.raises(InputError, match=r"the vote neighbours reads features of a frozen network, and in from_scratch"):
        plan(arms={"near": Neighbours()}, scenario="from_scratch", attack=WitchesBrew(max_shift=0.0, flip=False))
    with pytest.raises(InputError, match=r"the arm both has the training recipe mixup before the vote neighbours"):
        plan(arms={"both": Chain([Mixup(), Neighbours()])})
    with pytest.raises(
        InputError, match=r"5000 trusted rows are asked for, 500 of class 0, of which \d+ are out.*arms.trusted"
    ):
        plan(arms={"trusted": TrustedOnly(5000)})
