"""Features are computed once for the same network, images and view, and anew for any other."""

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.training import kept_features
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.kept_features import KeptFeatures

IMAGES = torch.randint(0, 256, (5, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
RANKS = Ranks(device=torch.device("cpu"))


def model(seed: int = 0):
    return build_network(Network("convnet"), in_channels=1, num_classes=10, seed=seed).eval().requires_grad_(False)


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """How many images each computation had."""
    counts: list[int] = []

    def counting(network, images, *rest, **options):
        counts.append(len(images))
        return extract_features(network, images, *rest, **options)

    monkeypatch.setattr(kept_features, "extract_features", counting)
    return counts


def test_what_was_computed_is_read_and_anything_else_computed(tmp_path, computed) -> None:
    kept = KeptFeatures(model(), "net", tmp_path, RANKS)
    mirrored = {"transform": lambda images, rows: images.flip(-1), "transformed": "mirrored"}
    first, again = kept.of(IMAGES), kept.of(IMAGES)
    assert first.equal(again) and first.equal(extract_features(model(), IMAGES, RANKS.device)) and computed == [5]
    other = kept.of(IMAGES, **mirrored)
    assert not other.equal(first) and kept.of(IMAGES, **mirrored).equal(other) and computed == [5, 5]
    assert kept.of(IMAGES[:4]).equal(first[:4]) and computed == [5, 5, 4]
    assert not KeptFeatures(model(1), "another net", tmp_path, RANKS).of(IMAGES).equal(first) and len(computed) == 4


def test_nothing_is_kept_of_a_network_that_nobody_can_name_or_of_no_images(tmp_path, computed) -> None:
    KeptFeatures(model(), None, tmp_path / "none", RANKS).of(IMAGES)
    KeptFeatures(model(), "net", tmp_path / "none", RANKS).of(IMAGES)
    assert len(computed) == 2 and len(list((tmp_path / "none").iterdir())) == 1


def test_a_damaged_file_is_named(tmp_path) -> None:
    kept = KeptFeatures(model(), "net", tmp_path, RANKS)
    kept.of(IMAGES)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=rf"{file.name} is damaged or no features; remove it"):
        kept.of(IMAGES)
