import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks.crafting.pgd import default_step_size, pgd
from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.lightning_modules.classifier import ClassifierModule, adversarial, fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleData, EnsembleModule
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe, step_generator
from tests.lightning_modules.fitting import Few, fit


def build(name: str):
    return lambda seed: build_network(name, in_channels=1, num_classes=10, seed=seed)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("convnet", Recipe(epochs=2, batch_size=20, adversarial_eps="16/255", adversarial_steps=2, max_shift=0.1, flip=True)),
        ("convnet_wide", Recipe(epochs=2, batch_size=24, adversarial_eps=1.0, adversarial_norm="l2", adversarial_steps=2)),
    ],
)
def test_a_member_equals_a_single_classifier(name: str, recipe: Recipe) -> None:
    seeds, split = [3, 5, 11], Few().split("train")
    data = EnsembleData(split.images, split.labels, torch.arange(48).expand(3, -1))
    ensemble = fit(EnsembleModule(build(name), seeds, data, recipe, members_per_block=2), recipe.epochs)
    single = ClassifierModule(Network(name), recipe=recipe, seed=5)
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
    data = DigitsDataModule()
    train, test = data.split("train"), data.split("test")
    rows, plain = torch.arange(len(train.labels))[None], {"epochs": 10, "optimizer": "adam", "learning_rate": 0.003}
    found = []
    for recipe in (Recipe(**plain), Recipe(**plain, adversarial_eps="16/255", adversarial_steps=3)):
        ensemble = EnsembleModule(build("patchnet"), [1], EnsembleData(train.images, train.labels, rows), recipe)
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
    model, recipe = build("convnet_wide")(1).train(), Recipe(adversarial_eps="16/255", adversarial_steps=3)
    images, labels = (split.images.float() / 255)[None], split.labels[None]
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def logits_of(x: Tensor) -> Tensor:
        return model(x[0])[None]

    hard = adversarial(model, logits_of, images, labels, recipe, [7], step=2)
    assert model.training and all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (hard - images).abs().max() <= 16 / 255 + 1e-6 and hard.min() >= 0 and hard.max() <= 1
    model.eval()
    loss = [functional.cross_entropy(model(x[0]), labels[0]).item() for x in (images, hard)]
    assert loss[1] > 1.1 * loss[0]
    again, other = (adversarial(model, logits_of, images, labels, recipe, [7], step=step) for step in (2, 3))
    assert torch.equal(again, hard) and not torch.equal(other, hard)


def test_without_a_radius_the_very_batch_is_trained_on() -> None:
    images = torch.rand(1, 2, 1, 4, 4)
    assert adversarial(torch.nn.Identity(), lambda x: x, images, torch.zeros(1, 2), Recipe(), [0], 0) is images


def test_random_starts_and_views_are_drawn_apart() -> None:
    views, starts = (torch.rand(8, generator=step_generator(3, 5, stream)) for stream in (0, 1))
    assert not torch.equal(views, starts)
    assert torch.equal(views, torch.rand(8, generator=torch.Generator().manual_seed(3 * 1_000_003 + 5)))


def test_settings_are_numbers() -> None:
    written, number = (
        Recipe(adversarial_eps="8/255", adversarial_steps=10),
        Recipe(adversarial_eps=8 / 255, adversarial_steps=10),
    )
    assert written.settings() == number.settings()
    assert written.settings()["adversarial_step_size"] == pytest.approx(2 / 255)
    assert Recipe(adversarial_step_size="1/255").settings()["adversarial_step_size"] == 1 / 255
    assert Recipe().settings()["adversarial_eps"] == 0 and Recipe().adversarial_budget is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("adversarial_eps", -0.1),
        ("adversarial_eps", "much"),
        ("adversarial_eps", float("nan")),
        ("adversarial_eps", 1.5),
        ("adversarial_eps", 0.001),
        ("adversarial_norm", "l1"),
        ("adversarial_steps", 0),
        ("adversarial_step_size", 0),
        ("adversarial_step_size", "-1/255"),
    ],
)
def test_what_cannot_work_is_refused(option: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{option} of a recipe"):
        Recipe(**{option: value})


def test_a_head_on_features_is_refused(tmp_path) -> None:
    recipe = Recipe(adversarial_eps="8/255")
    data = EnsembleData(torch.zeros(4, 8), torch.zeros(4, dtype=torch.int64), torch.arange(4)[None])
    with pytest.raises(InputError, match="not a head on frozen features"):
        EnsembleModule(lambda seed: fresh_head(8, 2, seed), [1], data, recipe)
    with pytest.raises(InputError, match="not a head on frozen features"):
        ClassifierModule(Network("convnet"), recipe=recipe, features=str(tmp_path / "any.safetensors"))
