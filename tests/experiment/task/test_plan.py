import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from poison_and_defend.attacks import BullseyePolytope, HiddenTrigger, LabelConsistent, PoisonFrogs, SleeperAgent, WitchesBrew
from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.datamodules.base import Split
from poison_and_defend.defenses import (
    Chain,
    CharacteristicVectors,
    DeepKNN,
    PerfectFilter,
    RandomFilter,
    SpectralSignatures,
    Spectre,
)
from poison_and_defend.diffusion.find_denoiser import find_denoiser
from poison_and_defend.experiment.task.claim import claim
from poison_and_defend.images.row_digests import write_training_rows
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.countermeasures import arms


class ManyClasses(DigitsDataModule):
    """Digits that claim to have twenty classes, as a pretraining set of another kind."""

    num_classes = 20


def refused(plan, match: str, **changes) -> None:
    with pytest.raises(InputError, match=match) as error:
        plan(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("attack", [PoisonFrogs, HiddenTrigger, BullseyePolytope])
def test_a_feature_attack_from_scratch_is_refused_unless_asked_for(plan, attack) -> None:
    changes = {"attack": attack(eps="64/255"), "scenario": "from_scratch"}
    refused(plan, r"attack on fine_tune or transfer, not on from_scratch \(--scenario", **changes)
    plan(**changes, outside_threat_model=True)


@pytest.mark.parametrize("attack", [SleeperAgent, WitchesBrew])
def test_gradient_matching_on_frozen_features_is_refused(plan, attack) -> None:
    refused(plan, r"from_scratch.*not on transfer \(--scenario", attack=attack())


def test_an_augmentation_that_victims_do_not_have_is_refused_unless_asked_for(plan) -> None:
    attack = BullseyePolytope("64/255", max_shift=0.125)
    told = r"told of an augmentation \(max_shift 0.125, flip false\) that its victims train without.*--victim_recipe.max_shift"
    refused(plan, told, attack=attack)
    plan(attack=attack, victim_recipe=Recipe(flip=True))
    plan(attack=attack, outside_threat_model=True)


def test_one_target_attacks_refuse_several(plan) -> None:
    refused(plan, r"num_targets is 3.*aims at one target \(--num_targets\)", attack=PoisonFrogs(), num_targets=3)
    plan(num_targets=3)


def test_adversarially_trained_surrogates_need_a_budget(plan) -> None:
    refused(plan, r"--robust_training.eps", attack=LabelConsistent())


def test_a_trigger_larger_than_the_image_is_refused(plan) -> None:
    attack = HiddenTrigger(eps="64/255", trigger=PatchTrigger(size=33))
    refused(plan, r"trigger of 33 pixels.*32 x 32.*--attack.trigger.size", attack=attack)


def test_more_poisons_than_the_class_has_are_refused(plan) -> None:
    refused(plan, r"num_poisons is 80, but class \d has only \d+ training images.*--num_poisons", num_poisons=80)


def test_surrogates_of_other_classes_are_refused_where_logits_count(plan, tmp_path: Path) -> None:
    weights = tmp_path / "other.safetensors"
    save_file(build_network("convnet", in_channels=1, num_classes=20).state_dict(), weights)
    changes = {"attack": WitchesBrew(max_shift=0.0, flip=False), "scenario": "from_scratch"}
    refused(
        plan,
        r"other.safetensors is damaged or no weights of this network: .*--surrogate_weights",
        surrogate_weights=[str(weights)],
        **changes,
    )
    other = {"attack": WitchesBrew(max_shift=0.0, flip=False), "scenario": "fine_tune", "pretraining": ManyClasses()}
    refused(plan, r"data's 10 classes, those pretrained on digits have 20 \(--pretraining\)", **other)
    # A feature attack never looks at them.
    plan(pretraining=ManyClasses())


def test_missing_weights_are_named(plan, tmp_path: Path) -> None:
    refused(plan, r"cannot read .*absent\.safetensors: No such file", surrogate_weights=[str(tmp_path / "absent.safetensors")])
    refused(plan, r"2 weight files for 1 architectures", surrogate_weights=["a", "b"])


@pytest.mark.parametrize("option", ["surrogate_networks", "victims"])
def test_networks_are_named_once_each(plan, option: str) -> None:
    refused(plan, rf"at least one, each once \(--{option}\)", **{option: ["convnet", "convnet"]})
    refused(plan, rf"'resnet19' is no network.*--{option}", **{option: ["resnet19"]})


def test_setups_out_of_range_and_of_the_wrong_class_are_refused(plan, digits, tmp_path: Path) -> None:
    train, test = digits.split("train").labels, digits.split("test").labels
    base, target = int(train[0]), int(test[0])
    entry = {"target_class": target, "target_index": 0, "base_class": base, "base_indices": [0]}
    assert base != target
    for change, match in (
        ({"base_indices": [598]}, "outside 0..597"),
        ({"target_index": 399}, "test image 399"),
        ({"base_class": (base + 1) % 10 if (base + 1) % 10 != target else (base + 2) % 10}, "is not of class"),
    ):
        path = tmp_path / "setups.json"
        path.write_text(json.dumps({"setups": [entry | change]}))
        refused(plan, match, setups=str(path), num_setups=1)


def test_pretraining_images_of_another_shape_are_refused(plan) -> None:
    class Small(DigitsDataModule):
        image_shape = (1, 16, 16)

        def load(self, name) -> Split:
            split = super().load(name)
            return Split(split.images[:, :, ::2, ::2], split.labels)

    refused(plan, r"pretraining images are \(1, 16, 16\).*--pretraining", pretraining=Small())


def test_an_experiment_of_its_own_settings_is_claimed_again_and_of_others_is_not(plan, tmp_path: Path) -> None:
    # 1e-05 is a number in JSON and a word in YAML.
    own = plan(attack=PoisonFrogs(tolerance=1e-5))
    claim(tmp_path, own.settings)
    claim(tmp_path, own.settings)
    with pytest.raises(InputError, match=r"holds an experiment with attack.*--name"):
        claim(tmp_path, plan(attack=PoisonFrogs(tolerance=1e-6)).settings)


def test_a_denoiser_that_has_seen_what_victims_receive_is_named_with_how_many_images(plan, digits, tmp_path) -> None:
    own = tmp_path / "knowing"
    shutil.copytree(find_denoiser("digits")[1], own)
    plan(arms=arms(["diffusion"]), denoiser=str(own))
    received = digits.split("train").images
    write_training_rows(own, torch.cat([received[:3], digits.split("public").images]))
    said = rf"denoiser {own} was trained on 3 of the {len(received)} images that victims receive.*--arms.diffusion\)"
    refused(plan, said, arms=arms(["none", "diffusion"]), denoiser=str(own))
    plan(arms=arms(["none", "jpeg"]), denoiser=str(own))


@pytest.mark.parametrize(
    ("steps", "changes", "said"),
    [
        ([CharacteristicVectors()], {}, r"^convnet has no batch normalization.*--network, --victims"),
        ([DeepKNN()], {"poisons_told": 40}, r"deep_knn asks 80 neighbours, twice the 40 poisons.*--arms.deep_knn.k"),
        ([DeepKNN(70)], {}, r"deep_knn asks 70 neighbours, and class \d has \d\d rows.*--arms.deep_knn.k"),
        ([DeepKNN()], {"poisons_told": 0}, r"deep_knn must be told.*--poisons_told"),
        ([Spectre()], {"poisons_told": 35}, r"without up to 70 rows of each class.*--poisons_told"),
        ([RandomFilter()], {"poisons_told": 0}, r"random_filter must be told how many poisons.*--arms.random_filter.bound"),
        # The second one is refused by what the first one gets.
        ([RandomFilter(bound=2), SpectralSignatures()], {"poisons_told": 0}, r"spectral_signatures must be told"),
    ],
    ids=lambda value: "+".join(step.name for step in value) if isinstance(value, list) else None,
)
def test_filters_that_cannot_work_are_refused_before_anything_is_computed(plan, steps, changes, said) -> None:
    refused(plan, said, arms={"own": Chain(steps)}, **changes)


def test_to_drop_all_poisons_a_class_needs_other_rows(plan) -> None:
    labels = DigitsDataModule().split("train").labels
    least = int(labels.bincount().min())
    smallest = int(labels.bincount().argmin())
    # Of as many setups as there are classes each class is the adversarial one once.
    own = {"num_setups": 10, "classes_in_turn": True}
    said = rf"own is told which rows are poisoned, and all {least} rows of class {smallest} are.*--num_poisons, --defenses"
    refused(plan, said, arms={"own": PerfectFilter()}, num_poisons=least, **own)
    plan(arms={"own": Chain([PerfectFilter()], attacked=False)}, num_poisons=least, **own)
    plan(arms={"own": PerfectFilter()}, num_poisons=least - 1, **own)
