import pytest
import torch
from torch.nn import functional

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.bullseye_polytope import bullseye_objective
from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.lightning_modules.networks.build import build_network

IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["convnet", "resnet18_slim"])
def model(request):
    return build_network(request.param, in_channels=3, num_classes=10, seed=1).eval()


def test_features_blocks_and_logits_are_near_those_in_single_precision(model) -> None:
    low = LowPrecision(model)
    with torch.no_grad():
        pairs = [(low(IMAGES), model(IMAGES)), (low.features(IMAGES), model.features(IMAGES))]
        pairs += zip(low.blocks(IMAGES), model.blocks(IMAGES), strict=True)
    for found, expected in pairs:
        assert found.dtype == torch.float32
        assert not torch.equal(found, expected)
        assert (found - expected).norm() < 0.02 * expected.norm()


def test_the_wrapped_model_is_left_as_it_was(model) -> None:
    before = {name: (value.clone(), value.stride()) for name, value in model.state_dict().items()}
    low = LowPrecision(model)
    low.stochastic = True
    low.features(IMAGES)
    assert not model.stochastic
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.stride() == before[name][1]
    assert all(value.dtype == torch.float32 for value in low.parameters())


def test_gradient_of_a_gradient_is_near_that_in_single_precision(model) -> None:
    def second(surrogate) -> torch.Tensor:
        images = IMAGES.clone().requires_grad_()
        loss = functional.cross_entropy(surrogate(images), torch.arange(6))
        gradients = torch.autograd.grad(loss, list(surrogate.parameters()), create_graph=True)
        (result,) = torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), [images])
        return result

    low, single = second(LowPrecision(model)), second(model)
    assert functional.cosine_similarity(low.flatten(), single.flatten(), dim=0) > 0.95


def test_dropout_and_mode_are_those_of_the_model() -> None:
    model = build_network("convnet", in_channels=3, num_classes=10, dropout=0.3).eval()
    low = LowPrecision(model)
    assert low.dropout == 0.3
    assert not low.training
    with torch.no_grad():
        assert torch.equal(low.features(IMAGES), low.features(IMAGES))
        low.stochastic = True
        assert low.model.stochastic
        assert not torch.equal(low.features(IMAGES), low.features(IMAGES))


def test_poisons_crafted_through_it_are_in_the_budget_and_nearer_to_the_target_in_single_precision(craft, surrogates) -> None:
    models = surrogates[:1]
    for poisons in craft(BullseyePolytope(eps=0.1, steps=20), models=[LowPrecision(models[0])]):
        assert (poisons.images.int() - poisons.bases.int()).abs().max() <= 25
        with torch.no_grad():
            centres = [[models[0].features(poisons.target[None].float() / 255)]]
            after, before = (
                bullseye_objective(images[None].float() / 255, centres, models) for images in (poisons.images, poisons.bases)
            )
        assert after < 0.5 * before
