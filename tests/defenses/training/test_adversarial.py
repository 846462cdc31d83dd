import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks.crafting.pgd import default_step_size, pgd
from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.streams import step_generator
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.defenses import Adversarial, Mixup, Plain, Step, Training
from poison_and_defend.lightning_modules.classifier import ClassifierModule, fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.base import evaluating
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.lightning_modules.fitting import Few, fit


def build(name: str):
    return lambda seed: build_network(name, in_channels=1, num_classes=10, seed=seed)


@pytest.mark.parametrize(
    ("name", "recipe", "defense"),
    [
        ("convnet", Recipe(epochs=2, batch_size=20, max_shift=0.1, flip=True), Adversarial("16/255", steps=2)),
        ("convnet_wide", Recipe(epochs=2, batch_size=24), Adversarial(1.0, "l2", steps=2)),
        ("convnet", Recipe(epochs=2, batch_size=20, flip=True), Mixup(0.5)),
    ],
)
def test_a_member_equals_a_single_classifier(name: str, recipe: Recipe, defense: Training) -> None:
    seeds, split = [3, 5, 11], Few().split("train")
    data = EnsembleData(split.images, split.labels, torch.arange(48).expand(3, -1))
    ensemble = fit(EnsembleModule(build(name), seeds, data, recipe, members_per_block=2, defense=defense), recipe.epochs)
    single = ClassifierModule(Network(name), recipe=recipe, defense=defense, seed=5)
    fit(single, recipe.epochs, Few(batch_size=recipe.batch_size, seed=5))
    state, before = ensemble.member_state(1), build(name)(5).state_dict()
    moved = max((before[name].float() - value.float()).abs().max().item() for name, value in single.net.state_dict().items())
    assert moved > 1e-2
    for name, value in single.net.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4 * moved + 1e-6, msg=lambda m, n=name: f"{n}: {m}")


def robust_accuracy(predict, images: Tensor, labels: Tensor, eps: float) -> float:
    """Under twenty steps of ascent, longer than any that training saw."""
    budget = Budget("linf", eps)
    hard = pgd(
        lambda x: functional.cross_entropy(predict(x), labels, reduction="none"),
        images,
        images,
        budget,
        steps=20,
        step_size=default_step_size(eps, 20),
    )
    with torch.no_grad():
        return (predict(hard).argmax(1) == labels).float().mean().item()


def test_adversarial_training_makes_a_network_robust() -> None:
    train, test = (DigitsDataModule().split(name) for name in ("train", "test"))
    rows, plain = torch.arange(len(train.labels))[None], {"epochs": 10, "optimizer": "adam", "learning_rate": 0.003}
    found = []
    recipe = Recipe(**plain)
    for defense in (Plain(), Adversarial("16/255", steps=3)):
        ensemble = EnsembleModule(
            build("patchnet"), [1], EnsembleData(train.images, train.labels, rows), recipe, defense=defense
        )
        state = fit(ensemble, recipe.epochs).member_state(0)
        model = build("patchnet")(1).eval().requires_grad_(False)
        model.load_state_dict(state)
        images = test.images.float() / 255
        clean = (model(images).argmax(1) == test.labels).float().mean().item()
        found.append((clean, robust_accuracy(model, images, test.labels, 24 / 255)))
    (standard_clean, standard_robust), (clean, robust) = found
    assert standard_clean > 0.9 and clean > 0.85
    assert robust > standard_robust + 0.15


def test_examples_are_hard_in_the_budget_and_leave_running_statistics_alone() -> None:
    split = Few().split("train")
    model, defense = build("convnet_wide")(1).train(), Adversarial("16/255", steps=3)
    images, labels = (split.images.float() / 255)[None], split.labels[None]
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def logits_of(x: Tensor) -> Tensor:
        with evaluating(model):
            return model(x[0])[None]

    def harden(number: int) -> Tensor:
        rows = torch.arange(labels.shape[1])[None]
        return defense.inputs(Step(images, labels, rows, (7,), number, 10, logits_of)).inputs

    hard = harden(2)
    assert model.training and all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (hard - images).abs().max() <= 16 / 255 + 1e-6 and hard.min() >= 0 and hard.max() <= 1
    model.eval()
    loss = [functional.cross_entropy(model(x[0]), labels[0]).item() for x in (images, hard)]
    assert loss[1] > 1.1 * loss[0]
    again, other = (harden(step) for step in (2, 3))
    assert torch.equal(again, hard) and not torch.equal(other, hard)


def test_random_starts_and_views_are_drawn_apart() -> None:
    views, starts = (torch.rand(8, generator=step_generator(3, 5, stream)) for stream in (0, 1))
    assert not torch.equal(views, starts)
    assert torch.equal(views, torch.rand(8, generator=torch.Generator().manual_seed(3 * 1_000_003 + 5)))


def test_settings_are_numbers() -> None:
    written, number = Adversarial("8/255", steps=10), Adversarial(8 / 255, steps=10)
    assert written.settings() == number.settings()
    assert written.settings()["step_size"] == pytest.approx(2 / 255)
    assert Adversarial(step_size="1/255").settings()["step_size"] == 1 / 255


def test_networks_keep_the_names_of_when_these_were_arguments_of_a_recipe() -> None:
    own = Recipe(epochs=3).settings(Adversarial("12/255", steps=4))
    assert own["adversarial_eps"] == 12 / 255 and own["adversarial_norm"] == "linf" and own["adversarial_steps"] == 4
    assert own["adversarial_step_size"] == pytest.approx(2.5 * 12 / 255 / 4)
    plain = Recipe(epochs=3).settings()
    assert (plain["adversarial_eps"], plain["adversarial_steps"], plain["adversarial_step_size"]) == (0.0, 7, 0.0)
    assert "defense" not in plain and Recipe().settings(Mixup())["defense"] == {"defense": "mixup", "alpha": 1.0}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("eps", -0.1),
        ("eps", "much"),
        ("eps", float("nan")),
        ("eps", 1.5),
        ("eps", 0.001),
        ("norm", "l1"),
        ("steps", 0),
        ("step_size", 0),
        ("step_size", "-1/255"),
    ],
)
def test_what_cannot_work_is_refused(option: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{option} of adversarial training"):
        Adversarial(**{option: value})


def test_features_are_no_images_to_change() -> None:
    data = EnsembleData(torch.zeros(4, 8), torch.zeros(4, dtype=torch.int64), torch.arange(4)[None])
    with pytest.raises(ValueError, match="adversarial changes images"):
        EnsembleModule(lambda seed: fresh_head(8, 2, seed), [1], data, Recipe(), defense=Adversarial())


def test_heads_behind_an_extractor_train_on_the_features_of_changed_images() -> None:
    split, extractor = Few().split("train"), build("convnet")(1).eval().requires_grad_(False)
    rows, labels = torch.arange(48).expand(2, -1), split.labels
    data, recipe = EnsembleData(split.images, labels, rows), Recipe(epochs=1, batch_size=48, momentum=0.0, weight_decay=0.0)
    heads = EnsembleModule(
        lambda seed: fresh_head(64, 10, seed), [3, 5], data, recipe, defense=Adversarial("16/255", steps=2), extractor=extractor
    )
    state = fit(heads, 1).member_state(1)
    head = fresh_head(64, 10, 5)
    images = split.images.float() / 255
    step = Step(images[None], labels[None], rows[:1], (5,), 0, 10, lambda x: head(extractor.features(x[0]))[None])
    hard = Adversarial("16/255", steps=2).inputs(step).inputs[0]
    functional.cross_entropy(head(extractor.features(hard)), labels).backward()
    torch.testing.assert_close(state["weight"], head.weight - recipe.learning_rate * head.weight.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_radius_below_one_grey_level_is_refused_and_one_is_accepted(norm: str) -> None:
    with pytest.raises(InputError, match=r"at least 1/255"):
        Adversarial(0.00391, norm)
    assert Adversarial("1/255", norm).eps == pytest.approx(1 / 255)
    assert Adversarial(1.0, norm).eps == 1.0
