"""The fast form of a frozen network: the same features and gradients of images, up to rounding."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from poison_and_defend.lightning_modules.networks import frozen
from poison_and_defend.lightning_modules.networks.base import Inputs
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.foreign import Foreign
from poison_and_defend.lightning_modules.networks.frozen import fold_batch_norm, frozen_form
from poison_and_defend.lightning_modules.networks.spec import Network

CPU = torch.device("cpu")
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def settled(model: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics and scales that are not those of an untrained network."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2), (module.bias, -0.2, 0.2)):
                values.data.uniform_(low, high, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def network(build: str, **options):
    return settled(build_network(Network(build, **options), in_channels=3, num_classes=10))


def test_no_padding_of_a_mobile_network_is_written_out(monkeypatch) -> None:
    model = network("efficientnet_lite0")
    fast, padded = frozen_form(model, 3, 32, CPU), []
    pad = functional.pad

    def watched(values, *rest, **more):
        padded.append(values.shape)
        return pad(values, *rest, **more)

    monkeypatch.setattr(functional, "pad", watched)
    model.features(IMAGES)
    assert padded.count((3, 3, 128, 128)) == 1 and len(padded) > 1
    padded.clear()
    fast.features(IMAGES)
    # Kernels alone, of one input channel each but the first layer's.
    assert padded and all(shape[1:] in ((1, 3, 3), (1, 5, 5), (3, 3, 3)) for shape in padded)


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(
    "build", ["timm:tf_efficientnet_lite0", "torchvision:resnet18", "resnet18_slim", "vgg11", "mobilenet_v2"]
)
def test_every_normalization_behind_a_convolution_is_folded_and_features_stay(build) -> None:
    model = network(build)
    folded = fold_batch_norm(model, IMAGES)
    assert norms(model) > 0 and norms(folded) == 0
    torch.testing.assert_close(folded.features(IMAGES), model.features(IMAGES), rtol=1e-3, atol=1e-4)


class Shared(nn.Module):
    """A convolution whose output is normalized, and seen as it is too: folding would change what the other path gets."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, images):
        found = self.convolution(images)
        return torch.cat([self.norm(found), found], 1).mean((2, 3))


def test_where_folding_would_change_features_nothing_is_folded() -> None:
    model = settled(Foreign(Shared(), nn.Linear(16, 10), Inputs()))
    assert fold_batch_norm(model, IMAGES) is model


class Overwritten(nn.Module):
    """A network whose result is what an activation left in its input, with a convolution that cannot be folded either."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.activation = Shared(), nn.ReLU(inplace=True)

    def forward(self, images):
        found = self.shared(images)
        self.activation(found)
        return found


def test_activations_keep_their_input_unless_the_network_lives_of_what_they_overwrite() -> None:
    usual = frozen_form(network("mobilenet_v2"), 3, 32, CPU)
    assert not any(getattr(module, "inplace", False) for module in usual.body.modules())
    unusual = settled(Foreign(Overwritten(), nn.Linear(16, 10), Inputs()))
    wanted = unusual.features(IMAGES)
    assert (wanted >= 0).all() and not (wanted > 0).all()
    found = frozen_form(unusual, 3, 32, CPU).features(IMAGES)
    assert (found - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize(("precision", "tolerances"), [(torch.float32, (1e-4, 0.02)), (torch.bfloat16, (0.05, 0.5))])
def test_features_and_gradients_are_the_networks_up_to_the_precision(monkeypatch, precision, tolerances) -> None:
    monkeypatch.setattr(frozen, "fastest_precision", lambda device: precision)
    model = build_network(Network("efficientnet_lite0"), in_channels=3, num_classes=10).eval().requires_grad_(False)
    fast = frozen_form(model, 3, 32, CPU)
    assert fast.precision == precision and fast.features(IMAGES).dtype == torch.float32
    pairs = []
    weights = torch.randn(model.num_features, generator=torch.Generator().manual_seed(3))
    for one in (model, fast):
        images = IMAGES.clone().requires_grad_()
        features = one.features(images)
        (gradient,) = torch.autograd.grad((features * weights).sum(), images)
        pairs.append((features.detach(), gradient))
    # Gradients of images of pure noise differ most where an activation is at its kink.
    for wanted, found, tolerance in zip(*pairs, tolerances, strict=True):
        assert (found - wanted).norm() < tolerance * wanted.norm(), (found - wanted).norm() / wanted.norm()
    # The network itself stays as it was.
    assert model.precision is None and norms(model) > 0


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_of_any_side_are_resized_as_the_network_itself_resizes_them(monkeypatch, side, interpolation) -> None:
    monkeypatch.setattr(frozen, "fastest_precision", lambda device: torch.float32)
    model = network("convnet_wide", size=40, interpolation=interpolation)
    fast = frozen_form(model, 3, 32, CPU)
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(fast.prepared(images), model.prepared(images), rtol=0, atol=2e-6)


def test_a_step_against_the_gradient_lowers_the_distance_to_another_image() -> None:
    fast = frozen_form(network("efficientnet_lite0"), 3, 32, CPU)
    target = fast.features(IMAGES[:1]).detach()
    images = IMAGES[1:2].clone().requires_grad_()
    distance = functional.mse_loss(fast.features(images), target)
    (gradient,) = torch.autograd.grad(distance, images)
    moved = (images - gradient.sign() / 255).clamp(0, 1)
    assert functional.mse_loss(fast.features(moved), target) < 0.9 * distance
