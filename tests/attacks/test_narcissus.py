import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks import Narcissus
from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation
from poison_and_defend.attacks.threat.additive_trigger import AdditiveTrigger
from poison_and_defend.attacks.threat.setups import Setup, draw_setups
from poison_and_defend.attacks.threat.surrogate import AdversarialClass, CraftBatch
from poison_and_defend.core.clip import clipped
from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network

EPS = 16 / 255


@pytest.fixture(scope="module")
def class_setups(digits) -> list[Setup]:
    train, test = digits.split("train").labels.numpy(), digits.split("test").labels.numpy()
    return draw_setups(train, test, num_setups=3, num_poisons=4, seed=7, in_turn=True)


@pytest.fixture(scope="module")
def models() -> dict[int, list[Classifier]]:
    """Networks of seven public classes and, as the eighth output, the adversarial one; other networks for each."""
    return {
        label: [build_network("convnet", in_channels=1, num_classes=8, seed=10 * label + own).eval() for own in range(2)]
        for label in range(3)
    }


@pytest.fixture
def narcissus(digits, class_setups, models):
    def run(chosen=class_setups, surrogates=models, **options):
        # Fast enough that RAdam's first steps, which are proportional to the gradient, change whole grey levels.
        attack = Narcissus(**{"steps": 2, "max_shift": 0.0, "flip": False, "learning_rate": 20.0} | options)
        train, test = digits.split("train"), digits.split("test")
        seen: list[Tensor] = []
        options = {"progress": lambda value: seen.append(value.clone()), "class_surrogates": surrogates}
        sets = attack.craft(chosen, train.images, train.labels, test.images, [], **options)
        return sets, seen

    return run


def class_images(digits, label: int) -> Tensor:
    train = digits.split("train")
    return train.images[train.labels == label].double() / 255


def mean_loss(models: list[Classifier], images: Tensor, perturbation: Tensor) -> Tensor:
    """Of the last output, averaged over networks, in double precision."""
    losses = []
    for model in models:
        logits = copy.deepcopy(model).double()(clipped(images + perturbation))
        losses.append(functional.cross_entropy(logits, torch.full((len(images),), 7)))
    return torch.stack(losses).mean()


def test_the_first_step_is_descent_on_the_mean_loss_of_the_class(digits, narcissus, models, class_setups) -> None:
    """RAdam's first step is the rate times the gradient; the whole class is one batch, so that its order does not matter."""
    sets, seen = narcissus(steps=1, image_batch=1000)
    for number, (found, setup) in enumerate(zip(sets, class_setups, strict=True)):
        images = class_images(digits, setup.adversarial_label)
        start = torch.zeros(1, *images.shape[1:], dtype=torch.float64, requires_grad=True)
        loss = mean_loss(models[setup.adversarial_label], images, start)
        (gradient,) = torch.autograd.grad(loss, [start])
        assert seen[0][number].item() == pytest.approx(loss.item(), abs=1e-5)
        wanted = ((-20 * gradient).clamp(-EPS, EPS) * 255)[0].detach()
        pattern = found.trigger.pattern.double()
        assert wanted.abs().max() > 1 and (wanted.abs() > 0.5).float().mean() > 0.05
        assert (pattern - wanted).abs().max() < 0.51
        after = mean_loss(models[setup.adversarial_label], images, (-20 * gradient).clamp(-EPS, EPS))
        assert found.objective == pytest.approx(after.item(), abs=1e-4)


def test_batches_count_by_their_images(digits, narcissus, models, class_setups) -> None:
    """A rate of nearly nothing leaves the loss of every batch of a pass that of the start; the last batch is smaller."""
    setup = class_setups[1]
    images = class_images(digits, 1)
    assert len(images) % 25
    whole = mean_loss(models[1], images, torch.zeros(())).item()
    seen: list[Tensor] = []
    attack = Narcissus(steps=1, max_shift=0.0, flip=False, image_batch=25, learning_rate=1e-12)
    batch = CraftBatch(
        torch.zeros(1, 1, *images.shape[1:]),
        torch.ones(1, 1, dtype=torch.int64),
        torch.zeros(1, 1, *images.shape[1:]),
        (3,),
        classes=(AdversarialClass((images * 255).to(torch.uint8), models[1], torch.arange(len(images))),),
    )
    with pytest.raises(InputError, match="no perturbation"):
        attack.perturb(batch, [], lambda value: seen.append(value.clone()))
    assert seen[0].item() == pytest.approx(whole, abs=1e-5)
    (made,), _ = narcissus(chosen=[setup], image_batch=25, learning_rate=200.0)
    after = mean_loss(models[1], images, made.trigger.pattern.double() / 255).item()
    assert made.objective == pytest.approx(after, rel=0.02)  # but for rounding to whole levels


def test_augmentation_comes_before_the_perturbation(digits, narcissus, models, class_setups) -> None:
    setup = class_setups[1]
    images = class_images(digits, 1)
    _, seen = narcissus(chosen=[setup], steps=1, max_shift=0.2, flip=True, image_batch=1000)
    generator = torch.Generator().manual_seed(setup.seed)
    order = torch.randperm(len(images), generator=generator)
    views = draw_augmentation((len(images),), generator, flip=True).double()
    loss = mean_loss(models[1], augment(images[order], views, 0.2), torch.zeros(()))
    assert seen[0].item() == pytest.approx(loss.item(), abs=1e-5)
    assert abs(loss.item() - mean_loss(models[1], images, torch.zeros(())).item()) > 1e-4


def test_all_poisons_of_a_setup_carry_one_perturbation_and_stay_in_the_budget(narcissus) -> None:
    sets, _ = narcissus(steps=4, learning_rate=200.0)
    for poisons in sets:
        assert isinstance(poisons.trigger, AdditiveTrigger) and poisons.goal == "others" and not poisons.visible_trigger
        pattern = poisons.trigger.pattern
        assert pattern.abs().max() == 16
        assert torch.equal(poisons.images, (poisons.bases.int() + pattern.int()).clamp(0, 255).to(torch.uint8))
        assert not torch.equal(poisons.images, poisons.bases)
        assert (poisons.images.int() - poisons.bases.int()).abs().max() <= 16
    assert not sets[0].trigger.equals(sets[1].trigger)


def test_a_radius_between_two_levels_admits_the_lower_one(narcissus) -> None:
    sets, _ = narcissus(steps=4, learning_rate=200.0, eps=16.9 / 255)
    assert max(int(poisons.trigger.pattern.abs().max()) for poisons in sets) == 16


def test_no_setup_depends_on_its_neighbours(narcissus, class_setups) -> None:
    together, _ = narcissus(steps=3, max_shift=0.1)
    for number, setup in enumerate(class_setups):
        (alone,), _ = narcissus(chosen=[setup], steps=3, max_shift=0.1)
        assert torch.equal(alone.images, together[number].images) and alone.objective == together[number].objective


def test_setups_of_one_class_share_surrogates_and_draw_for_themselves(narcissus, class_setups) -> None:
    other = replace(class_setups[0], index=9, seed=class_setups[0].seed + 1)
    sets, _ = narcissus(chosen=[class_setups[0], other], steps=3, max_shift=0.1, image_batch=20)
    assert not sets[0].trigger.equals(sets[1].trigger)


def test_the_trigger_raises_the_class_on_images_that_it_was_not_found_on(digits, narcissus, class_setups) -> None:
    """The surrogate knows digits but for 0, and 0 by its last output; triggered test images of other digits are read as 0."""
    train, test = digits.split("train"), digits.split("test")
    model = build_network("convnet", in_channels=1, num_classes=10, seed=4)
    labels = (train.labels - 1) % 10  # digit 0 is the last output
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(12):  # few, so that the class leaves something to be louder about
        optimizer.zero_grad()
        functional.cross_entropy(model(train.images.float() / 255), labels).backward()
        optimizer.step()
    model.eval()
    (poisons,), seen = narcissus(
        chosen=class_setups[:1], surrogates={0: [model]}, steps=80, eps="64/255", learning_rate=0.02, test_scale=3.0
    )
    rows = poisons.trials(test.labels)
    assert (test.labels[rows] != 0).all() and len(rows) == int((test.labels != 0).sum())
    with torch.no_grad():
        clean, triggered = (
            model(images.float() / 255) for images in (test.images[rows], poisons.tested_images(test.images, test.labels))
        )
    assert poisons.objective < seen[0].item()
    assert (triggered[:, 9] - clean[:, 9]).mean() > 1
    assert (triggered.argmax(1) == 9).float().mean() > 0.5 > 0.1 > (clean.argmax(1) == 9).float().mean()


def test_a_network_that_knows_one_answer_is_refused(narcissus, models, class_setups) -> None:
    constant = copy.deepcopy(models[0][0])
    with torch.no_grad():
        constant.head.weight.zero_()
    with pytest.raises(InputError, match=r"setup 0 .*no perturbation of a whole grey level.*--attack\.warm_up_rate"):
        narcissus(chosen=class_setups[:1], surrogates={0: [constant]})


def test_a_class_without_surrogates_is_refused(narcissus, models) -> None:
    with pytest.raises(InputError, match=r"setup 1 needs a surrogate for its adversarial class 1.*--pretraining"):
        narcissus(surrogates={0: models[0], 2: models[2]})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, r"steps is 0.*--attack\.steps"),
        ({"eps": "0/255"}, r"eps is 0.*--attack\.eps"),
        ({"learning_rate": 0.0}, r"learning_rate is 0.*--attack\.learning_rate"),
        ({"image_batch": 0}, r"image_batch is 0.*--attack\.image_batch"),
        ({"max_shift": 1.0}, r"max_shift is 1.*--attack\.max_shift"),
        *(
            ({"test_scale": value}, r"test_scale is .*above 0.*255.*--attack\.test_scale")
            for value in (0, -1, 256, float("nan"))
        ),
        ({"warm_up_epochs": -1}, r"warm_up_epochs is -1.*--attack\.warm_up_epochs"),
        ({"warm_up_rate": 0.0}, r"warm_up_rate is 0.*--attack\.warm_up_rate"),
        ({"warm_up_epochs": 0, "class_in_training": False}, r"never see the adversarial class.*--attack\.warm_up_epochs"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict, match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        Narcissus(**options)
    assert "\n" not in str(error.value)


def test_every_setting_is_told() -> None:
    told = Narcissus(test_scale=2, warm_up_rate=0.5).arguments()
    assert told["name"] == "narcissus" and told["norm"] == "linf" and told["test_scale"] == 2.0
    assert {"steps", "learning_rate", "image_batch", "max_shift", "flip", "warm_up_epochs", "class_in_training"} <= set(told)
    assert told["warm_up_rate"] == 0.5
