import pytest
import torch
from torch import nn

from poison_and_defend.attacks.crafting.parameter_gradients import goal_gradient, gradient_norms, matching_gradient
from poison_and_defend.attacks.crafting.second_order import refuse_once_differentiable
from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from tests.lightning_modules.networks.zoo import HERE, NAMES, network

IMAGES = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 1, 1])


@pytest.mark.parametrize("name", NAMES)
def test_the_matching_gradient_is_the_slope_of_its_objective(name, tmp_path) -> None:
    spec = network(name, tmp_path)
    model = build_network(spec, in_channels=1, num_classes=10, seed=1).double().eval()
    refuse_once_differentiable(model, (1, 32, 32), name, "witches_brew", "--network")
    images, goals = IMAGES.double().split([3, 2])
    goal = goal_gradient(model, goals, torch.tensor(7), 2)
    gradient, value = matching_gradient(model, images, LABELS, goal)
    assert gradient.abs().sum() > 0
    direction = gradient / gradient.norm()
    above, below = (matching_gradient(model, images + step * direction, LABELS, goal)[1] for step in (1e-7, -1e-7))
    # So short a way that hardly any rectifier changes sides on it.
    assert value.isfinite() and float(above - below) / 2e-7 == pytest.approx(float(gradient.norm()), rel=0.05, abs=1e-9)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (
            "torchvision:mobilenet_v3_small",
            r"^witches_brew .* and mine cannot be: its Hards\w+ \(body[\w.]+\) has no second",
        ),
        (f"{HERE}.Hard", r"its Hardsigmoid \(body.act\) has no second derivative; choose another network \(--networks.mine\)$"),
    ],
)
def test_networks_without_second_derivatives_are_refused_with_the_module(build: str, match: str) -> None:
    model = build_network(Network(build), in_channels=1, num_classes=10)
    with pytest.raises(InputError, match=match):
        refuse_once_differentiable(model, (1, 32, 32), "mine", "witches_brew", "--networks.mine")


def test_gradient_norms_of_a_network_that_cannot_be_batched() -> None:
    model = build_network(Network(f"{HERE}.Refused", {"kind": "in place"}), in_channels=1, num_classes=10, seed=1).eval()
    found = gradient_norms(model, IMAGES, 4)
    for norm, image in zip(found, IMAGES, strict=True):
        loss = nn.functional.cross_entropy(model(image[None]), torch.tensor([4]))
        wanted = torch.stack([g.square().sum() for g in torch.autograd.grad(loss, list(model.parameters()))]).sum().sqrt()
        torch.testing.assert_close(norm, wanted)


def test_a_module_that_is_called_with_names_alone_is_no_hindrance() -> None:
    model = build_network(Network(f"{HERE}.Named"), in_channels=1, num_classes=10)
    refuse_once_differentiable(model, (1, 32, 32), "mine", "witches_brew", "--networks.mine")
