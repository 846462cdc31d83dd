import pytest
import torch
from torch import Tensor
from torch.nn import functional

from attacks.witches_brew import detached_parameters, matching_loss, target_gradients
from lightning_modules.backbones import Backbone, build_backbone

generator = torch.Generator().manual_seed(0)
POISONS = torch.rand(3, 1, 32, 32, generator=generator, dtype=torch.float64)
TARGETS = torch.rand(2, 1, 32, 32, generator=generator, dtype=torch.float64)
LABELS = torch.tensor([4, 4, 4])
WANTED = torch.tensor([4, 7])


@pytest.fixture(scope="module", params=["convnet", "patchnet", "convnet_wide"])
def model(request: pytest.FixtureRequest) -> Backbone:
    return build_backbone(request.param, in_channels=1, num_classes=10, seed=3).double().eval()


def flat_gradient(model: Backbone, images: Tensor, labels: Tensor, create_graph: bool = False) -> Tensor:
    loss = functional.cross_entropy(model(images), labels)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), create_graph=create_graph)])


def test_target_gradients_are_autograds(model: Backbone) -> None:
    found = target_gradients(model, TARGETS, WANTED)
    assert list(found) == [name for name, _ in model.named_parameters()]
    for row, (image, label) in enumerate(zip(TARGETS, WANTED, strict=True)):
        flat = torch.cat([value[row].flatten() for value in found.values()])
        torch.testing.assert_close(flat, flat_gradient(model, image[None], label[None]), rtol=1e-9, atol=1e-12)


def test_matching_loss_and_its_gradient_are_autograds(model: Backbone) -> None:
    goal = {name: value[0] for name, value in target_gradients(model, TARGETS, WANTED).items()}
    images = POISONS.clone().requires_grad_()
    found = matching_loss(model, detached_parameters(model), images, LABELS, goal)
    (gradient,) = torch.autograd.grad(found, [images])

    again = POISONS.clone().requires_grad_()
    own = flat_gradient(model, again, LABELS, create_graph=True)
    expected = 1 - functional.cosine_similarity(own, flat_gradient(model, TARGETS[:1], WANTED[:1]), dim=0)
    (wanted,) = torch.autograd.grad(expected, [again])

    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    assert wanted.abs().max() > 0
    torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-7 * wanted.abs().max().item())


def test_matching_loss_is_zero_for_the_target_itself_and_two_for_its_opposite(model: Backbone) -> None:
    parameters = detached_parameters(model)
    goal = {name: value[0] for name, value in target_gradients(model, TARGETS, WANTED).items()}
    opposite = {name: -3 * value for name, value in goal.items()}
    assert matching_loss(model, parameters, TARGETS[:1], WANTED[:1], goal).item() == pytest.approx(0, abs=1e-9)
    assert matching_loss(model, parameters, TARGETS[:1], WANTED[:1], opposite).item() == pytest.approx(2, abs=1e-9)


def test_parameters_keep_no_gradient(model: Backbone) -> None:
    goal = {name: value[0] for name, value in target_gradients(model, TARGETS, WANTED).items()}
    images = POISONS.clone().requires_grad_()
    matching_loss(model, detached_parameters(model), images, LABELS, goal).backward()
    assert images.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())
