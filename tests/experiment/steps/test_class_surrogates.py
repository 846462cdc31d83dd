"""Surrogates of an attacker who knows one class, and victims who are tested with their own setup's trigger."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from poison_and_defend.attacks import Narcissus
from poison_and_defend.attacks.threat.additive_trigger import AdditiveTrigger
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.datamodules.base import Split
from poison_and_defend.experiment.run import run
from poison_and_defend.experiment.steps.surrogates import class_models
from poison_and_defend.experiment.steps.tested import triggered_inputs
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.launch import Launch


class Turned(DigitsDataModule):
    """Public classes that are no digits: four of them, turned by a quarter and in negative."""

    num_classes = 4
    name = "turned"

    def load(self, name) -> Split:
        split = DigitsDataModule().split(name)
        split = split.subset((split.labels < 4).nonzero()[:, 0].numpy())
        return Split(255 - split.images.rot90(1, (2, 3)), split.labels)


def narcissus(**rest) -> Narcissus:
    options = {"steps": 8, "max_shift": 0.0, "flip": False, "learning_rate": 0.05, "eps": "64/255", "warm_up_epochs": 1}
    return Narcissus(**options | {"warm_up_rate": 0.01, "image_batch": 30} | rest)


@pytest.fixture
def small(plan):
    def build(**changes):
        options = {"attack": narcissus(), "scenario": "from_scratch", "pretraining": Turned(), "classes_in_turn": True}
        return plan(**options | {"num_setups": 3, "feature_recipe": Recipe(epochs=2, learning_rate=0.02)} | changes)

    return build


@pytest.mark.parametrize("together", [True, False])
def test_one_surrogate_for_each_adversarial_class_on_public_data_and_that_class(small, together: bool) -> None:
    own = small(attack=narcissus(class_in_training=together), num_setups=2)
    train = own.data.split("train")
    for label in range(2):
        (spec,) = own.class_networks.surrogates(label)
        known = train.images[train.labels == label]
        assert torch.equal(spec.split.images, known) and (spec.split.labels == 4).all() and spec.num_classes == 5
        assert (spec.recipe.optimizer, spec.recipe.epochs, spec.recipe.learning_rate) == ("radam", 1, 0.01)
        first = spec.start
        public = Turned().split("train")
        assert torch.equal(first.split.images[: len(public)], public.images) and first.num_classes == 5
        assert torch.equal(first.split.labels[: len(public)], public.labels)
        assert torch.equal(first.split.images[len(public) :], known if together else known[:0])
        assert (first.split.labels[len(public) :] == 4).all() and first.recipe.epochs == 2
    names = [own.class_networks.surrogates(label)[0].start.file_name for label in range(2)]
    assert len(set(names)) == (2 if together else 1)


def test_without_a_warm_up_the_first_training_is_all(small) -> None:
    (spec,) = small(attack=narcissus(warm_up_epochs=0)).class_networks.surrogates(1)
    assert spec.start is None and spec.recipe.optimizer == "sgd"


def test_networks_are_kept_by_content_and_shared(small) -> None:
    own = small(num_setups=3, surrogates=2)
    found = class_models(own, Ranks())
    assert sorted(found) == [0, 1, 2] and [len(models) for models in found.values()] == [2, 2, 2]
    times = {path: path.stat().st_mtime_ns for path in own.models.iterdir()}
    assert len(times) == 12
    again = class_models(small(num_setups=2, surrogates=2, num_poisons=3, name="other"), Ranks())
    assert {path: path.stat().st_mtime_ns for path in own.models.iterdir()} == times
    for label, models in again.items():
        for one, other in zip(models, found[label], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    (spec, _) = own.class_networks.surrogates(1)
    assert spec.file_name != replace(spec, start=None).file_name
    class_models(small(attack=narcissus(warm_up_rate=0.02), num_setups=1, name="warmer"), Ranks())
    assert len(list(own.models.iterdir())) == 13


def test_the_warm_up_goes_on_from_the_kept_network(small) -> None:
    own = small(num_setups=1)
    (models,) = class_models(own, Ranks()).values()
    (spec,) = own.class_networks.surrogates(0)
    from safetensors.torch import load_file

    begun = load_file(own.models / spec.start.file_name)
    warmed = dict(models[0].state_dict())
    assert all(torch.equal(spec.begin(own.models, spec.seed).state_dict()[name], value) for name, value in begun.items())
    moved = max(float((warmed[name] - value).abs().max()) for name, value in begun.items() if value.is_floating_point())
    assert 0 < moved < 0.1
    assert not torch.equal(spec.build().state_dict()["head.weight"], begun["head.weight"])


def test_without_public_data_it_is_refused_at_once(plan) -> None:
    with pytest.raises(InputError, match=r"narcissus needs public images of other classes.*\(--pretraining") as error:
        plan(attack=narcissus(), scenario="from_scratch")
    assert "\n" not in str(error.value)


def test_what_does_not_go_together_is_refused(small, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"narcissus is an attack on from_scratch, not on transfer \(--scenario"):
        small(scenario="transfer")
    with pytest.raises(InputError, match=r"trains surrogates for every adversarial class itself \(--surrogate_weights\)"):
        small(surrogate_weights=[str(tmp_path / "any.safetensors")])
    with pytest.raises(InputError, match=r"classes_in_turn goes with setups drawn by seed.*--classes_in_turn"):
        small(setups=str(tmp_path / "setups.json"))


def test_settings_tell_apart_what_poisons_depend_on(small) -> None:
    plans = [small(), small(attack=narcissus(test_scale=2.0)), small(attack=narcissus(warm_up_rate=0.02))]
    plans += [small(classes_in_turn=False), small(feature_recipe=Recipe(epochs=3))]
    assert len({own.crafted_with for own in plans}) == len(plans)


def sets_with_triggers(own) -> list[PoisonSet]:
    generator = torch.Generator().manual_seed(1)
    train, test = own.data.split("train"), own.data.split("test")
    made = []
    for setup in own.setups:
        trigger = AdditiveTrigger(torch.randint(-40, 41, (1, 32, 32), generator=generator).to(torch.int16), 3.0)
        bases = train.images[torch.from_numpy(setup.base_indices)]
        target = test.images[setup.target_index]
        budget = own.attack.budget
        made.append(PoisonSet(setup, trigger.poison(bases), bases, target, budget, trigger=trigger, goal="others"))
    return made


def test_every_victim_is_tested_with_its_own_setups_trigger(small, digits) -> None:
    own = small()
    sets = sets_with_triggers(own)
    test = own.data.split("test").images
    tested = triggered_inputs(own, sets, None, torch.device("cpu"))
    data = EnsembleData(test[:8], torch.zeros(8, dtype=torch.int64), torch.arange(8).expand(3, -1))

    def build(seed: int):
        return build_network("convnet", in_channels=1, num_classes=10, seed=seed)

    ensemble = EnsembleModule(build, [5, 6, 7], data, Recipe(epochs=1), members_per_block=2)
    members = [2, 0, 1]  # setups, in another order than theirs
    found = ensemble.member_predictions(test, tested.of(members))
    for place, setup in enumerate(members):
        images = sets[setup].trigger.stamp(test, torch.arange(len(test)))
        with torch.no_grad():
            wanted = build(5 + place).eval()(images.float() / 255).argmax(1)
        assert (found[place] == wanted).float().mean() > 0.99
    assert not torch.equal(found, ensemble.member_predictions(test))
    same = ensemble.member_predictions(test, lambda member, part, rows: test[rows])
    assert torch.equal(same, ensemble.member_predictions(test))


def test_heads_are_tested_on_features_of_their_own_setups_trigger(small) -> None:
    own = small()
    sets = sets_with_triggers(own)
    extractor = build_network("convnet", in_channels=1, num_classes=10, seed=5).eval()
    test = own.data.split("test").images
    change = triggered_inputs(own, sets, extractor, torch.device("cpu")).of([1])
    rows = torch.arange(4, 9)
    wanted = extract_features(extractor, sets[1].trigger.stamp(test, torch.arange(len(test))), torch.device("cpu"))
    assert torch.equal(change(0, torch.zeros(5, wanted.shape[1]), rows), wanted[rows])


def test_one_trigger_for_all_is_put_on_once(small) -> None:
    own = small()
    first = sets_with_triggers(own)[0]
    shared = triggered_inputs(own, [first, first], None, torch.device("cpu")).of([0, 1])
    test = own.data.split("test").images
    assert torch.equal(shared, first.trigger.stamp(test, torch.arange(len(test))))


def test_a_whole_experiment_has_every_class_in_its_report(small, capsys) -> None:
    own = small()
    folder = run(own, Launch(), "none: yet\n")
    page = (folder / "report.html").read_text()
    assert "Every adversarial class" in page and "adversarial class" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "poisons").iterdir())[-1] == "setup_002.safetensors"
    again = run(own, Launch(), "none: yet\n")
    assert again == folder
