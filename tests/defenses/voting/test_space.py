import numpy as np
import pytest
import torch

from poison_and_defend.defenses.voting.space import Space


def features(seed: int, labels: torch.Tensor) -> torch.Tensor:
    """Classes differ in three directions, images of a class much more in others."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(int(labels.max()) + 1, 3, generator=torch.Generator().manual_seed(9))
    noise = torch.randn(len(labels), 12, generator=generator) * torch.tensor([0.3] * 3 + [6.0] * 9)
    return torch.cat([centres, torch.zeros(len(centres), 9)], 1)[labels] + noise + 5


def test_it_is_the_whitening_of_what_differs_within_classes() -> None:
    labels = torch.arange(600) % 4
    given = features(0, labels)
    space = Space.fit(given, labels)
    scale = given.std(0)
    standard = ((given - given.mean(0)) / scale).numpy().astype(float)
    within = standard - np.stack([standard[labels == own].mean(0) for own in range(4)])[labels]
    values, vectors = np.linalg.eigh(within.T @ within / 600)
    wanted = vectors @ np.diag((values + 3 * values.mean()) ** -0.5) @ vectors.T
    assert space.map.numpy() == pytest.approx(wanted / scale.numpy()[:, None], abs=1e-5)
    places = space.place(given)
    assert places.norm(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    assert places.numpy() == pytest.approx(
        np.array(standard @ wanted / np.linalg.norm(standard @ wanted, axis=1)[:, None]), abs=1e-5
    )


def test_images_of_one_class_come_nearer() -> None:
    labels = torch.arange(800) % 4
    tested = features(1, labels)
    same = labels[:, None] == labels
    apart = ~torch.eye(len(labels), dtype=torch.bool)

    def gap(places: torch.Tensor) -> float:
        likeness = places @ places.T
        return float((likeness[same & apart].mean() - likeness[~same].mean()) / likeness[apart].std())

    known = Space.fit(features(0, labels), labels).place(tested)
    plain = torch.nn.functional.normalize(tested - tested.mean(0), dim=1)
    assert gap(known) > 1.3 * gap(plain)


def test_a_row_is_placed_by_itself_alone() -> None:
    labels = torch.arange(100) % 4
    space = Space.fit(features(0, labels), None)
    given = features(2, labels)
    changed = given.clone()
    changed[3] = 100
    rest = torch.arange(100) != 3
    assert (space.place(given)[rest] == space.place(changed)[rest]).all()
