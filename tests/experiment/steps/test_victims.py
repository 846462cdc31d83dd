import json
import time
from dataclasses import replace

import pytest
import torch

from poison_and_defend.attacks import HiddenTrigger
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.trigger import Trigger
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import (
    Chain,
    Partition,
    SpectralSignatures,
)
from poison_and_defend.defenses.voting.partition import part_of
from poison_and_defend.experiment.steps.judge import Judgement
from poison_and_defend.experiment.steps.protect import sanitize_all
from poison_and_defend.experiment.steps.surrogates import extractor
from poison_and_defend.experiment.steps.training_sets import Member, training_sets
from poison_and_defend.experiment.steps.victim_networks import VictimNetworks
from poison_and_defend.experiment.steps.victims import Cohort, train_victims
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.countermeasures import arms
from tests.small_experiments import blank_poisons, scored


def test_the_control_trains_on_the_bases(plan) -> None:
    own = plan()
    sets = blank_poisons(own)
    sanitized = sanitize_all(own, sets, Ranks())
    data = training_sets(own, [Member(1, "no_attack", 0), Member(1, "none", 0)], sets, sanitized)
    clean, poisoned = data.pool[data.rows[0]], data.pool[data.rows[1]]
    train = own.data.split("train")
    assert torch.equal(clean, train.images)
    changed = (poisoned != clean).flatten(1).any(1).nonzero()[:, 0]
    assert changed.tolist() == sorted(sets[1].setup.base_indices.tolist())
    assert torch.equal(data.labels[data.rows[1]], train.labels)


def test_both_victims_of_an_experiment_are_scored(plan) -> None:
    own = plan(victims=["convnet", "patchnet"])
    own.folder.mkdir(parents=True)
    sets = blank_poisons(own)
    sanitized = sanitize_all(own, sets, Ranks())
    for victim in own.victims:
        scores = scored(own, victim, sets, sanitized)
        assert [(s.setup, s.defense) for s in scores] == [(0, "no_attack"), (1, "no_attack"), (0, "none"), (1, "none")]
    assert len(list(own.models.iterdir())) == 2
    assert json.dumps([score.clean_accuracy for score in scores])


@pytest.mark.slow
def test_fine_tuning_starts_from_the_extractor_and_keeps_its_statistics(plan) -> None:
    recipe = Recipe(epochs=6, learning_rate=0.01, milestones=[])
    own = plan(
        scenario="fine_tune",
        network=Network("convnet_wide"),
        victim_recipe=recipe,
        feature_recipe=Recipe(epochs=6),
        num_setups=1,
    )
    own.folder.mkdir(parents=True)
    base = extractor(own, "convnet_wide", Ranks())
    before = {name: value.clone() for name, value in base.state_dict().items()}
    start = VictimNetworks(own, "convnet_wide", base).build(5)
    assert torch.equal(start.body[0][0].weight, base.body[0][0].weight)
    assert not torch.equal(start.head.weight, base.head.weight)
    sets = blank_poisons(own)
    from poison_and_defend.experiment.steps import victims as module

    seen = {}
    original = module.save_feature_space
    module.save_feature_space = lambda plan, model, *rest: seen.update(model=model)
    try:
        scores = scored(own, "convnet_wide", sets, sanitize_all(own, sets, Ranks()))
    finally:
        module.save_feature_space = original
    assert min(score.clean_accuracy for score in scores) > 0.8
    trained = seen["model"]
    assert not torch.equal(trained.body[0][0].weight, before["body.0.0.weight"])
    assert torch.equal(trained.body[0][1].running_mean, before["body.0.1.running_mean"])
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def triggered_sets(plan) -> list[PoisonSet]:
    """Blank poisons of a backdoor whose trigger leaves little of an image."""
    trigger = Trigger(torch.full((1, 24, 24), 255, dtype=torch.uint8), "bottom_right")
    return [replace(one, trigger=trigger, goal="source") for one in blank_poisons(plan)]


@pytest.mark.parametrize("scenario", ["transfer", "fine_tune", "from_scratch"])
def test_accuracy_is_that_on_clean_images_and_success_that_on_triggered_ones(plan, scenario: str) -> None:
    recipe = Recipe(epochs=4, optimizer="adam", learning_rate=0.01)
    attack = HiddenTrigger("64/255", steps=2)
    own = plan(
        scenario=scenario, attack=attack, victim_recipe=recipe, feature_recipe=recipe, outside_threat_model=True,
        network=Network("patchnet"), num_setups=1,
    )  # fmt: skip
    base = None if scenario == "from_scratch" else extractor(own, "patchnet", Ranks())
    networks, sets = VictimNetworks(own, "patchnet", base), triggered_sets(own)
    arms = list(own.arms.values())
    cohort = Cohort(networks, sets, arms, sanitize_all(own, sets, Ranks()), {arm.name: [] for arm in arms})
    scores, states = cohort.fit(Ranks(), None)
    test = own.data.split("test")
    stamped = test.images.clone()
    stamped[:, :, -24:, -24:] = 255
    assert len(scores) == len(states) == 2
    found = {(score.setup, score.defense): score for score in scores}
    for number, state in states.items():
        member = cohort.members[number]
        setup, score = sets[member.setup].setup, found[sets[member.setup].setup.index, member.arm]
        with torch.no_grad():
            clean, marked = (networks.with_state(state)(images.float() / 255).argmax(1) for images in (test.images, stamped))
        right, wrong = ((answers == test.labels).float().mean().item() for answers in (clean, marked))
        assert right > wrong + 0.2, "the trigger must tell the two apart"
        source = test.labels == setup.target_label
        assert score.clean_accuracy == pytest.approx(right, abs=1e-6)
        assert score.source_accuracy == pytest.approx((clean[source] == setup.target_label).float().mean().item(), abs=1e-6)
        assert (score.successes, score.trials) == (int((marked[source] == setup.adversarial_label).sum()), int(source.sum()))
        assert (score.predicted, score.success) == (
            int(marked[setup.target_index]),
            int(marked[setup.target_index]) == setup.adversarial_label,
        )


@pytest.mark.parametrize("scenario", ["fine_tune", "from_scratch"])
def test_batch_normalization_keeps_its_statistics_in_fine_tuning_alone(plan, scenario: str) -> None:
    own = plan(scenario=scenario, network=Network("convnet_wide"), victim_recipe=Recipe(epochs=2), num_setups=1,
               outside_threat_model=True, arms=arms(["none"]))  # fmt: skip
    base = None
    if scenario == "fine_tune":
        # Statistics that no new network has.
        base = build_network("convnet_wide", in_channels=1, num_classes=10, seed=1)
        base.train()(torch.rand(20, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
        base.eval()
    networks, sets = VictimNetworks(own, "convnet_wide", base), blank_poisons(own)
    cohort = Cohort(networks, sets, list(own.arms.values()), sanitize_all(own, sets, Ranks()), {"none": []})
    before = networks.build(cohort.members[0].seed).state_dict()
    _, states = cohort.fit(Ranks(), None)
    assert not torch.equal(states[0]["body.0.0.weight"], before["body.0.0.weight"])
    for name in ("running_mean", "running_var"):
        same = torch.equal(states[0][f"body.0.1.{name}"], before[f"body.0.1.{name}"])
        assert same == (scenario == "fine_tune")


def test_every_arm_is_handed_on_with_the_time_of_one_victim_and_the_first_setups_features(plan) -> None:
    own = plan(victims=["convnet", "patchnet"], arms=arms(["no_attack", "none", "jpeg"]))
    own.folder.mkdir(parents=True)
    sets, found = blank_poisons(own), []
    sanitized = sanitize_all(own, sets, Ranks())
    for victim in own.victims:
        began = time.perf_counter()
        train_victims(own, victim, sets, list(own.arms.values()), sanitized, Ranks(), keep=found.append)
        elapsed = time.perf_counter() - began
        assert [one.arm.name for one in found] == ["no_attack", "none", "jpeg"]
        for one in found:
            assert [(score.setup, score.defense) for score in one.scores] == [(0, one.arm.name), (1, one.arm.name)]
            # All six victims are trained together, and each is said to have taken a sixth.
            assert elapsed / 60 < one.seconds <= elapsed / 6
            assert one.judgements == []
        found.clear()
        # Of the first architecture alone.
        shown = {path.name: path.stat().st_mtime_ns for path in (own.folder / "figures").iterdir()}
        assert set(shown) == {f"features_{name}.npz" for name in own.arms}
        if victim == own.victims[0]:
            first = shown
    assert shown == first


@pytest.mark.parametrize("scenario", ["transfer", "fine_tune", "from_scratch"])
def test_a_trained_victim_is_put_together_frozen_and_leaves_the_extractor_alone(plan, scenario: str) -> None:
    own = plan(scenario=scenario, outside_threat_model=True, network=Network("patchnet"))
    base = None
    if scenario != "from_scratch":
        base = build_network("patchnet", in_channels=1, num_classes=10, seed=1).eval()
    before = None if base is None else base.head.weight.clone()
    networks = VictimNetworks(own, "patchnet", base)
    one, two = networks.build(5), networks.build(6)
    whole = networks.with_state(one.state_dict())
    head = one.state_dict()["weight" if scenario == "transfer" else "head.weight"]
    assert torch.equal(whole.head.weight, head) and not whole.training
    assert not any(parameter.requires_grad for parameter in whole.parameters())
    assert not torch.equal(head, two.state_dict()["weight" if scenario == "transfer" else "head.weight"])
    if base is not None:
        assert torch.equal(base.head.weight, before)
        pairs = zip(whole.body.parameters(), base.body.parameters(), strict=True)
        assert all(torch.equal(ours, theirs) and ours is not theirs for ours, theirs in pairs)
    else:
        assert not torch.equal(next(one.body.parameters()), next(two.body.parameters()))


def test_the_models_of_a_vote_train_on_their_parts_of_what_filters_left_by_seeds_of_their_own(plan) -> None:
    own = plan(arms={"vote": Partition(3, key=8), "filtered": Chain([SpectralSignatures(), Partition(3, key=8)])})
    sets, sanitized = blank_poisons(own), sanitize_all(own, blank_poisons(own), Ranks())
    networks = VictimNetworks(own, "convnet", None)
    count = len(own.data.split("train"))
    left = torch.arange(0, count, 2)
    judgement = Judgement(left, torch.zeros(count), torch.zeros(count, dtype=torch.bool))
    both = Cohort(networks, sets, list(own.arms.values()), sanitized, {"vote": [], "filtered": []})
    assert both._text() == "train 12 convnet models of votes (2 setups x 2 arms)"
    for name, kept, judged in (("vote", torch.arange(count), []), ("filtered", left, [judgement] * 2)):
        members = Cohort(networks, sets, [own.arms[name]], sanitized, {name: judged}).members
        assert [(member.setup, member.part) for member in members] == [(setup, part) for setup in range(2) for part in range(3)]
        for member in members:
            assert torch.equal(member.positions, kept[part_of(kept, 3, 8) == member.part])
            seed = sets[member.setup].setup.seed
            assert member.seed == (seed + (member.part + 1) * 2**14) % 2**62
        # A victim that is one model trains on what is left by the setup's own seed.
        cohort = Cohort(networks, sets, [replace(own.arms[name], steps=())], sanitized, {name: judged})
        assert cohort._text() == f"train 2 convnet victims (2 setups, {name})"
        single = cohort.members
        assert [(one.seed, one.part) for one in single] == [(poisons.setup.seed, None) for poisons in sets]
        assert all((one.positions is None) if not judged else torch.equal(one.positions, left) for one in single)
