"""The attacker's models: which they are, how they are kept, and trained again."""

import pytest
import torch

from poison_and_defend.attacks import LabelConsistent, SleeperAgent
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import Adversarial
from poison_and_defend.experiment.steps.retrain import retrainer
from poison_and_defend.experiment.steps.surrogates import attacker_models, extractor
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.kept_models import trained_models


def test_models_are_kept_by_content_and_shared(plan, tmp_path) -> None:
    one, two = plan(name="one"), plan(name="two", num_setups=1)
    model = extractor(one, "convnet", Ranks())
    (path,) = one.models.iterdir()
    stamp = path.stat().st_mtime_ns
    again = attacker_models(two, Ranks())[0]
    assert path.stat().st_mtime_ns == stamp and list(two.models.iterdir()) == [path]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    other = plan(feature_recipe=Recipe(epochs=2)).networks.standard("convnet", 0)
    assert other.file_name != path.name


def test_white_box_is_the_victims_own_extractor_and_black_box_another(plan) -> None:
    own = plan(surrogate_networks=["convnet"], victims=["convnet", "patchnet"])
    assert own.networks.knowledge("convnet") == "white box"
    assert own.networks.knowledge("patchnet") == "black box"
    scratch = plan(scenario="from_scratch", outside_threat_model=True)
    assert scratch.networks.knowledge("convnet") == "grey box"
    robust = plan(attack=LabelConsistent(), robust_training=Adversarial(0.1))
    assert robust.networks.knowledge("convnet") == "grey box"
    assert robust.networks.adversarial("convnet", 0).seed != robust.networks.standard("convnet", 0).seed


def test_retraining_sees_the_poisons_and_starts_anew(plan) -> None:
    recipe = Recipe(epochs=12, learning_rate=0.02, milestones=[])
    own = plan(
        attack=SleeperAgent("64/255", max_shift=0.0, flip=False),
        scenario="from_scratch",
        network=Network("patchnet"),
        feature_recipe=recipe,
        num_poisons=30,
    )
    train = own.data.split("train")
    setups = own.setups
    # Poisons that are the target itself: a surrogate trained on them reads it as the adversarial label.
    test = own.data.split("test").images.float() / 255
    poisons = torch.stack([test[s.target_index].expand(30, -1, -1, -1) for s in setups])
    renew = retrainer(own, Ranks())
    first, second = renew(setups, poisons), renew(setups, poisons)
    for setup, (model,), (other,) in zip(setups, first, second, strict=True):
        with torch.no_grad():
            assert int(model(test[setup.target_index][None]).argmax()) == setup.adversarial_label
        assert not torch.equal(model.head.weight, other.head.weight)
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        accuracy = (model(train.images.float() / 255).argmax(1) == train.labels).float().mean()
        assert accuracy > 0.7


def test_robust_surrogates_are_trained_against_perturbations(plan) -> None:
    own = plan(attack=LabelConsistent(), robust_recipe=Recipe(epochs=1), robust_training=Adversarial(0.1, steps=1))
    specs = [own.networks.adversarial("convnet", 0), own.networks.standard("convnet", 0)]
    models = trained_models(specs, own.models, Ranks(), "test")
    assert len(list(own.models.iterdir())) == 2
    assert not torch.equal(models[0].head.weight, models[1].head.weight)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_surrogates_come_in_the_precision_asked_for(plan, precision: str) -> None:
    own = plan(precision=precision)
    (model,) = attacker_models(own, Ranks())
    images = own.data.split("test").images[:8].float() / 255
    exact = extractor(own, "convnet", Ranks()).features(images)
    difference = (model.features(images) - exact).abs().max()
    assert (difference == 0) == (precision == "float32")
    assert difference < 0.1 * exact.abs().max()


def test_a_surrogate_with_one_answer_for_all_is_refused(plan) -> None:
    # One epoch at a rate that throws every weight away.
    recipe = Recipe(epochs=1, optimizer="adam", learning_rate=10.0)
    training = Adversarial(0.1, steps=1)
    own = plan(attack=LabelConsistent(), robust_recipe=recipe, robust_training=training, network=Network("patchnet"))
    with pytest.raises(InputError, match=r"surrogate 0 answers every image alike.*--robust_training.eps"):
        attacker_models(own, Ranks())
