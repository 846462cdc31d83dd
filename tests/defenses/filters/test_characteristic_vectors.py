import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from torch import Tensor, nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import CharacteristicVectors
from poison_and_defend.defenses.filters.characteristic_vectors import class_statistics, statistics
from poison_and_defend.lightning_modules.networks.build import build_network
from tests.received_sets import received_set, workshop_of


def resnet(in_channels: int = 3) -> nn.Module:
    """A network with batch normalization whose running statistics are not those that it begins with."""
    model = build_network("resnet18_slim", in_channels=in_channels, num_classes=3, seed=1)
    with torch.no_grad():
        model.train()(torch.rand(64, in_channels, 16, 16, generator=torch.Generator().manual_seed(2)))
    return model.eval().requires_grad_(False)


def textured(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of three classes: plain, striped, checked, each with noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    line = torch.arange(16) // 2 % 2
    patterns = torch.stack([torch.full((16, 16), 0.5), line.float().expand(16, 16), (line[:, None] ^ line).float()])
    images = patterns[labels][:, None] * 100 + torch.rand(count, 3, 16, 16, generator=generator) * 120
    return images.to(torch.uint8), labels


def judge(filter: CharacteristicVectors, network: nn.Module, images: Tensor, labels: Tensor):
    return filter.judge(received_set(labels, images), workshop_of(network=network))


def by_hand(network: nn.Module, images: Tensor, labels: Tensor, beta: float, gamma: list[float] | None = None) -> np.ndarray:
    """Scores in NumPy: all positions of a class in one array, distances by SciPy."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    seen: dict[int, list[Tensor]] = {}
    for number, module in enumerate(norms):
        module.register_forward_pre_hook(lambda _, inputs, number=number: seen.setdefault(number, []).append(inputs[0]))
    with torch.no_grad():
        network(images.float() / 255)
    classes = sorted(set(labels.tolist()))
    distances = np.zeros((len(labels), len(classes)))
    for number, (values,) in seen.items():
        rows = values.double().numpy().transpose(0, 2, 3, 1).reshape(len(labels), -1, values.shape[1])
        for place, label in enumerate(classes):
            own = rows[labels.numpy() == label].reshape(-1, rows.shape[2])
            for row in range(len(labels)):
                means = cosine(rows[row].mean(0), own.mean(0))
                spread = cosine(rows[row].var(0), own.var(0)) if rows.shape[1] > 1 else 1.0
                distances[row, place] += (1 if gamma is None else gamma[number]) * (beta * means + (1 - beta) * spread)
    places = np.searchsorted(classes, labels.numpy())
    own = distances[np.arange(len(labels)), places]
    distances[np.arange(len(labels)), places] = np.inf
    return own - distances.min(1)


@pytest.mark.parametrize(("beta", "count"), [(0.5, 12), (0.0, 9), (1.0, 9)])
def test_scores_are_those_of_the_formula(beta: float, count: int) -> None:
    images, labels = textured(count)
    labels[0] = 1
    # Labels need not begin at 0.
    wanted = by_hand(resnet(), images, labels + 4, beta)
    verdict = judge(CharacteristicVectors(beta), resnet(), images, labels + 4)
    np.testing.assert_allclose(verdict.scores.numpy(), wanted, atol=1e-5)
    assert torch.equal(verdict.kept, torch.from_numpy(wanted <= 0))


def test_layers_have_weights_of_their_own() -> None:
    images, labels = textured(9)
    gamma = [0.0] * 20
    gamma[2], gamma[11] = 3.0, 0.5
    verdict = judge(CharacteristicVectors(0.3, gamma), resnet(), images, labels)
    np.testing.assert_allclose(verdict.scores.numpy(), by_hand(resnet(), images, labels, 0.3, gamma), atol=1e-5)
    assert not torch.allclose(verdict.scores, judge(CharacteristicVectors(0.3), resnet(), images, labels).scores, atol=1e-3)
    assert CharacteristicVectors(0.3, gamma).settings()["gamma"] == gamma


def test_rows_that_look_like_another_class_go() -> None:
    images, labels = textured(60)
    wrong = torch.tensor([0, 7, 20])
    labels[wrong] = (labels[wrong] + 1) % 3
    verdict = judge(CharacteristicVectors(), resnet(), images, labels)
    assert torch.equal((~verdict.kept).nonzero()[:, 0], wrong)


def test_batches_change_nothing() -> None:
    """One image more than a batch holds, and images that follow: a row's statistics are its own."""
    images, _ = textured(130)
    network = resnet()
    whole, first, last = (statistics(network, part) for part in (images, images[:65], images[129:]))
    assert len(whole) == 20
    for (number, means, spread), own, single in zip(whole, first, last, strict=True):
        assert means.shape == spread.shape == (130, network.get_submodule(names(network)[number]).num_features)
        torch.testing.assert_close(means[:65], own[1])
        torch.testing.assert_close(spread[:65], own[2])
        torch.testing.assert_close(means[129:], single[1])
    assert not any(module._forward_pre_hooks for module in network.modules())


def names(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


def test_a_class_has_the_moments_of_all_its_positions() -> None:
    values = torch.randn(6, 4, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0, 0, 1])
    spread, means = torch.var_mean(values, 2, correction=0)
    centres, spreads = class_statistics(means, spread, labels)
    for label in (0, 1):
        own = values[labels == label].transpose(0, 1).reshape(4, -1)
        torch.testing.assert_close(centres[label], own.mean(1))
        torch.testing.assert_close(spreads[label], own.var(1, correction=0))


def test_a_layer_without_positions_is_judged_by_its_values_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    images = torch.tensor([[9, 0, 0, 0], [8, 1, 0, 0], [0, 0, 9, 1], [0, 0, 8, 0], [7, 1, 0, 0]], dtype=torch.uint8)
    verdict = judge(CharacteristicVectors(), network, images.view(5, 1, 2, 2), torch.tensor([0, 0, 1, 1, 1]))
    assert verdict.kept.tolist() == [True, True, True, True, False]


def test_what_it_cannot_look_through_is_refused_by_name() -> None:
    network = build_network("convnet", in_channels=1, num_classes=10)
    with pytest.raises(InputError, match=r"^convnet has no batch normalization.*--network, --victims"):
        CharacteristicVectors().check_network(network, "convnet")
    CharacteristicVectors().check_network(resnet(), "resnet18_slim")
    CharacteristicVectors(gamma=[1.0] * 20).check_network(resnet(), "resnet18_slim")
    with pytest.raises(
        InputError, match=r"gamma has 3 weights, and resnet18_slim has 20 batch norm.*characteristic_vectors.gamma"
    ):
        CharacteristicVectors(gamma=[1.0] * 3).check_network(resnet(), "resnet18_slim")


def test_it_needs_no_bound() -> None:
    CharacteristicVectors().check_set(torch.arange(9) % 3, None)
    assert CharacteristicVectors().told(25) == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [("beta", -0.1), ("beta", 1.1), ("beta", float("nan")), ("gamma", [1.0, -1.0]), ("gamma", [0.0]), ("gamma", [])],
)
def test_values_out_of_range_are_refused(option: str, value: float | list) -> None:
    with pytest.raises(InputError, match=rf"{option} is .*--arms.characteristic_vectors.{option}"):
        CharacteristicVectors(**{option: value})
