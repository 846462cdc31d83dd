"""Dropout while crafting: drawn from the batch's seeds, whatever the global generator is at, which is left as it was."""

from dataclasses import replace

import pytest
import torch

from poison_and_defend.attacks.crafting.dropout import dropout_kept_on, has_dropout, setup_features
from poison_and_defend.lightning_modules.networks.build import build_network
from tests.attacks.by_hand import TwoLayers, small_batch

IMAGES = torch.rand(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def dropping():
    return build_network("convnet", in_channels=1, num_classes=10, seed=1, dropout=0.3).eval()


def drawn(model, seeds: tuple[int, ...], **rest) -> torch.Tensor:
    with torch.no_grad(), dropout_kept_on([model], replace(small_batch(), seeds=seeds)):
        return setup_features(model, IMAGES, **rest)[-1]


def test_masks_depend_on_the_seeds_of_all_setups_and_on_nothing_before(dropping) -> None:
    first = drawn(dropping, (3, 4))
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(drawn(dropping, (3, 4)), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(drawn(dropping, (3, 5)), first) and not torch.equal(drawn(dropping, (4, 3)), first)


def test_dropout_is_as_before_afterwards_also_after_an_error(dropping) -> None:
    for state in (False, True):
        dropping.stochastic = state
        try:
            with pytest.raises(ZeroDivisionError), dropout_kept_on([dropping], small_batch()):
                assert dropping.stochastic
                1 / 0
            assert dropping.stochastic is state
        finally:
            dropping.stochastic = False


def test_networks_without_dropout_are_left_alone(dropping) -> None:
    plain = TwoLayers(1)
    assert has_dropout(dropping) and not has_dropout(plain)
    with dropout_kept_on([plain, dropping], small_batch()):
        assert not plain.stochastic and dropping.stochastic
    # Several draws of what is not random are one.
    plain.seen.clear()
    setup_features(plain, small_batch().bases, draws=7)
    assert [len(images) for images in plain.seen] == [6]


def test_features_are_those_of_each_image_in_its_place(dropping) -> None:
    with torch.no_grad():
        (found,) = setup_features(dropping, IMAGES)
        blocks = setup_features(dropping, IMAGES, end_to_end=True)
        for setup in range(2):
            for place in range(3):
                torch.testing.assert_close(found[setup, place], dropping.features(IMAGES[setup, place][None])[0])
                for block, own in zip(blocks, dropping.blocks(IMAGES[setup, place][None]), strict=True):
                    torch.testing.assert_close(block[setup, place], own[0])


def test_more_draws_are_a_mean_over_masks(dropping) -> None:
    with torch.no_grad():
        clean = setup_features(dropping, IMAGES)[0]
    errors = [(drawn(dropping, (3, 4), draws=draws) - clean).norm() for draws in (1, 40)]
    assert drawn(dropping, (3, 4), draws=40).shape == clean.shape
    assert errors[1] < 0.5 * errors[0]
