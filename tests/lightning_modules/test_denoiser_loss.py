import numpy as np
import pytest
import torch
from scipy.stats import kstest

from poison_and_defend.lightning_modules.denoiser_loss import FeatureLoss, draw_times
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.frozen import fastest_precision

RATIOS = torch.logspace(-3, 1, 4001, dtype=torch.float64)


def drawn(levels: str, least: float = 0.01, count: int = 20_000) -> torch.Tensor:
    return draw_times(RATIOS, count, levels, least, torch.Generator().manual_seed(0))


def test_timesteps_are_drawn_evenly() -> None:
    times = drawn("timesteps")
    assert times.min() >= 0 and times.max() < len(RATIOS)
    assert kstest(times.numpy() / len(RATIOS), "uniform").pvalue > 1e-3


def test_logarithms_of_noise_are_drawn_evenly_from_the_least_to_the_most() -> None:
    ratios = RATIOS[drawn("log_uniform", 0.01)].numpy()
    assert ratios.min() >= 0.01
    places = np.log(ratios / 0.01) / np.log(10 / 0.01)
    assert kstest(places, "uniform").pvalue > 1e-3


def test_no_more_noise_is_drawn_than_there_is() -> None:
    times = draw_times(RATIOS[:2001], 2000, "log_uniform", 1e-9, torch.Generator().manual_seed(0))
    assert 1900 < times.max() <= 2000 and 0 <= times.min() < 100


SHAPE = (1, 16, 16)


@pytest.fixture
def network():
    return build_network("patchnet", in_channels=1, num_classes=2, seed=0)


def test_distances_of_features_are_counted_in_their_own_deviations(network) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, denoised = (torch.rand(8, 1, 16, 16, generator=generator) for _ in range(2))
    found = FeatureLoss(network, SHAPE)(denoised, clean)
    with torch.no_grad():
        wanted, given = (network.eval().features(images).double().numpy() for images in (clean, denoised))
    deviations = wanted.std(0, ddof=1)
    least = 0.1 * deviations.mean()
    assert (deviations < least).any() and (deviations > least).any()
    expected = ((given - wanted) / np.maximum(deviations, least)) ** 2
    assert found.item() == pytest.approx(expected.mean(), rel=1e-4)
    assert FeatureLoss(network, SHAPE)(clean, clean).item() == 0


def test_a_feature_that_never_changes_divides_by_nothing(network) -> None:
    clean = torch.rand(8, 1, 16, 16)
    same = clean[:1].expand(8, -1, -1, -1)
    assert FeatureLoss(network, SHAPE)(clean, same).isfinite()


def test_only_denoised_images_have_gradients_and_the_network_stays_as_it_is(network) -> None:
    loss = FeatureLoss(network, SHAPE).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clean, denoised = torch.rand(4, 1, 16, 16, requires_grad=True), torch.rand(4, 1, 16, 16, requires_grad=True)
    loss(denoised, clean).backward()
    assert clean.grad is None and denoised.grad is not None and denoised.grad.abs().sum() > 0
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_in_its_fastest_form_the_distance_is_the_same_up_to_its_precision(network) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, denoised = (torch.rand(8, *SHAPE, generator=generator) for _ in range(2))
    loss = FeatureLoss(network, SHAPE)
    exact = loss(denoised, clean).item()
    loss.prepare(torch.device("cpu"))
    fast = loss.network
    loss.prepare(torch.device("cpu"))
    assert loss.network is fast and fast.precision == fastest_precision(torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(denoised, clean).item() == pytest.approx(exact, rel=0.03)
