import pytest
import torch
from torch.nn import functional

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import AdversarialPoisoning, Step
from poison_and_defend.defenses.training.adversarial_poisoning import distances, most_frequent
from poison_and_defend.lightning_modules.classifier import ClassifierModule
from poison_and_defend.lightning_modules.networks.base import evaluating
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.defenses.training.together import accuracy, assert_equals_alone, assert_equals_single, build, random_step
from tests.lightning_modules.fitting import Few


def test_without_steps_it_is_clipped_gaussian_noise_on_the_second_half() -> None:
    before = random_step(2, 41, 16)
    after = AdversarialPoisoning(steps=0).inputs(before)
    assert torch.equal(after.inputs[:, :20], before.inputs[:, :20]) and torch.equal(after.labels, before.labels)
    for member, drawn in enumerate(before.generators()):
        base = before.inputs[member, 20:]
        noise = (16 / 255 * torch.randn(21, 3, 16, 16, generator=drawn)).clamp(-16 / 255, 16 / 255)
        torch.testing.assert_close(after.inputs[member, 20:], (base + noise).clamp(0, 1))
    one = random_step(2, 1)
    assert AdversarialPoisoning().inputs(one) is one


def digits_step(network: str = "convnet_wide", count: int = 12, number: int = 3):
    """A step of one network on digits, and the network, which is in training mode."""
    split, model = Few().split("train"), build(network)(1).train()
    images, labels = split.images[:count].float() / 255, split.labels[:count]

    def logits(seen: torch.Tensor) -> torch.Tensor:
        with evaluating(model):
            return model(seen[0])[None]

    def gradients(losses: torch.Tensor):
        found = torch.autograd.grad(losses.sum(), list(model.parameters()), create_graph=True)
        return {name: value[None] for (name, _), value in zip(model.named_parameters(), found, strict=True)}

    rows = torch.arange(count)[None]
    return Step(images[None], labels[None], rows, (7,), number, 10, logits, gradients=gradients), model


def flat_gradient(model, images, labels) -> torch.Tensor:
    loss = functional.cross_entropy(model(images), labels)
    return torch.cat([value.flatten() for value in torch.autograd.grad(loss, list(model.parameters()), create_graph=True)])


def test_five_signed_steps_bring_the_gradients_together() -> None:
    """Against a loop over the same formula, one network and flat gradients."""
    step, model = digits_step()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = AdversarialPoisoning().inputs(step).inputs[0]
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())
    model.eval()
    targets, bases, labels = step.inputs[0, :6], step.inputs[0, 6:], step.labels[0, 6:]
    label = torch.tensor(max(range(10), key=labels.tolist().count)).expand(6)
    goal = flat_gradient(model, targets, label).detach()
    (drawn,) = step.generators()
    eps = 16 / 255

    def inside(images):
        return torch.minimum(torch.maximum(images, bases - eps), bases + eps).clamp(0, 1)

    poisons = inside(bases + eps * torch.randn(bases.shape, generator=drawn)).requires_grad_()
    optimizer, values = torch.optim.Adam([poisons], lr=0.02), []
    for _ in range(5):
        value = 1 - functional.cosine_similarity(flat_gradient(model, poisons, labels), goal, dim=0)
        poisons.grad = torch.autograd.grad(value, poisons)[0].sign()
        values.append(float(value))
        optimizer.step()
        poisons.data = inside(poisons.data)
    last = 1 - functional.cosine_similarity(flat_gradient(model, found[6:], labels), goal, dim=0)
    assert float(last) < values[0] - 0.02
    assert torch.equal(found[:6], targets) and (found[6:] - bases).abs().max() <= eps + 1e-6
    # The sign of a gradient of rounding is anyone's.
    assert ((found[6:] - poisons).abs() < 1e-3).float().mean() > 0.97


def test_adversarial_labels_and_cosines_are_each_members_own() -> None:
    assert most_frequent(torch.tensor([[3, 1, 3], [4, 2, 0], [2, 1, 1]]), 5).tolist() == [3, 0, 1]
    drawn = torch.Generator().manual_seed(0)
    own, goal = ([torch.randn(2, 3, 4, generator=drawn), torch.randn(2, 5, generator=drawn)] for _ in range(2))
    flat = [torch.cat([value.flatten(1) for value in side], 1) for side in (own, goal)]
    torch.testing.assert_close(distances(own, goal), 1 - functional.cosine_similarity(*flat))
    assert distances([torch.zeros(1, 3)], [torch.ones(1, 3)]).tolist() == [1.0]


def test_a_member_equals_a_single_classifier_and_one_of_heads_one_alone() -> None:
    # Few steps: members' rounding differs, and signs make much of it.
    defense = AdversarialPoisoning("4/255", steps=2, step_size="1/255")
    assert_equals_single(Recipe(epochs=1, batch_size=20, flip=True), defense, "convnet")
    assert_equals_alone(Recipe(epochs=2, batch_size=48, learning_rate=0.5), AdversarialPoisoning(), heads=True)


def test_a_classifier_hands_out_its_own_gradients() -> None:
    module = ClassifierModule(Network("patchnet"), seed=4)
    images, labels = Few().split("train").images[:6].float() / 255, Few().split("train").labels[:6]
    found = module._parameter_gradients(functional.cross_entropy(module.net(images), labels)[None])
    expected = flat_gradient(module.net, images, labels)
    torch.testing.assert_close(torch.cat([value.flatten() for value in found.values()]), expected)
    assert all(value.requires_grad for value in found.values())


def test_digits_are_learned() -> None:
    assert accuracy(AdversarialPoisoning(steps=1), 6) > 0.8


@pytest.mark.parametrize(
    ("option", "value"), [("eps", 0), ("eps", 1.5), ("eps", "much"), ("steps", -1), ("step_size", 0), ("step_size", "-1/255")]
)
def test_what_is_out_of_range_is_refused(option: str, value) -> None:
    with pytest.raises(InputError, match=rf"{option} of adversarial poisoning is {value!r}.*--\*.{option}"):
        AdversarialPoisoning(**{option: value})
