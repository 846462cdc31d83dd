"""The mean of an objective over what victims come to see."""

import torch

from poison_and_defend.attacks.crafting.augmentation import Augmentation, augment
from poison_and_defend.attacks.crafting.views import Sight, View, mean_gradient, mean_value
from poison_and_defend.attacks.threat.sanitizing import Realisation, Sanitizing
from poison_and_defend.attacks.threat.surrogate import CraftBatch

IMAGES = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in (5, 6)]


def batch(sanitizing=None) -> CraftBatch:
    labels = torch.zeros(2, 3, dtype=torch.int64)
    rows = torch.tensor([[4, 9, 2], [7, 1, 3]])
    return CraftBatch(IMAGES, labels, IMAGES[:, :1], (5, 6), rows=rows, sanitizing=sanitizing)


class Scaled(Sanitizing):
    """Multiplies each image by a number of its own, and remembers what it was asked for."""

    draws = 2

    def __init__(self) -> None:
        self.asked = []

    def draw(self, keys, image_shape, generators) -> Realisation:
        self.asked.append((keys.tolist(), image_shape))
        drawn = torch.stack([torch.rand(3, generator=generator) for generator in generators])
        return Realisation(lambda images, own: images * own[:, None, None, None], drawn)


def test_one_view_of_an_unknown_augmentation_is_the_images_themselves() -> None:
    for known in (None, Augmentation()):
        (view,) = Sight(batch(), known).views()
        assert view.see(IMAGES) is IMAGES and view.part(1, torch.tensor([0])).see(IMAGES) is IMAGES


def test_a_view_is_a_random_augmentation_of_every_image_and_a_part_of_it_the_same_of_a_part() -> None:
    known = Augmentation(0.25, True)
    sight = Sight(batch(), known)
    (view,) = sight.views()
    assert sight.settled()[0].see(IMAGES) is IMAGES
    drawn = known.draw(3, generators())
    expected = torch.stack([augment(images, own, 0.25) for images, own in zip(IMAGES, drawn, strict=True)])
    assert torch.equal(view.see(IMAGES), expected)
    assert not torch.equal(expected, IMAGES)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(view.part(1, rows).see(IMAGES[1, rows][None])[0], expected[1, rows])


def test_mean_gradient_is_the_mean_over_views() -> None:
    views = [View(Augmentation(0.25, True).draw(3, generators()), 0.25), View()]

    def objective(seen: torch.Tensor) -> torch.Tensor:
        return (seen**3).sum((2, 3, 4))

    values, gradient = mean_gradient(IMAGES, views, objective)
    images = IMAGES.clone().requires_grad_()
    wanted = ((views[0].see(images) ** 3).sum((2, 3, 4)) + (images**3).sum((2, 3, 4))) / 2
    torch.testing.assert_close(values, wanted.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), [images])[0])
    assert not values.requires_grad


def test_a_known_defence_comes_before_the_augmentation_and_is_drawn_anew_for_every_view() -> None:
    defence, known = Scaled(), Augmentation(0.25, True)
    sight = Sight(batch(defence), known)
    views = sight.views()
    assert defence.asked == [([[4, 9, 2], [7, 1, 3]], (1, 8, 8))] * 2
    scales = [view.sanitized.drawn for view in views]
    assert not torch.equal(*scales) and not torch.equal(views[0].shifts, views[1].shifts)
    for view, scale in zip(views, scales, strict=True):
        expected = View(view.shifts, 0.25).see(IMAGES * scale[..., None, None, None])
        torch.testing.assert_close(view.see(IMAGES), expected)
        rows = torch.tensor([2, 0])
        torch.testing.assert_close(view.part(1, rows).see(IMAGES[1, rows][None])[0], expected[1, rows])
    settled = sight.settled()
    assert all(view.shifts is None for view in settled) and not torch.equal(settled[0].sanitized.drawn, scales[0])


def test_the_augmentation_is_drawn_as_if_no_defence_were_known() -> None:
    known = Augmentation(0.25, True)
    with_defence, without = Sight(batch(Scaled()), known).views()[0], Sight(batch(), known).views()[0]
    assert torch.equal(with_defence.shifts, without.shifts)


def test_restarts_have_randomness_of_their_own_and_the_rows_of_their_setups() -> None:
    defence = Scaled()
    view = Sight(batch(defence), Augmentation(0.25, False), lanes=2).views()[0]
    assert view.shifts.shape == (4, 3, 3) and not torch.equal(view.shifts[:2], view.shifts[2:])
    assert defence.asked[0][0] == [[4, 9, 2], [7, 1, 3]] * 2
    assert not torch.equal(view.sanitized.drawn[:2], view.sanitized.drawn[2:])


def test_mean_value_is_what_mean_gradient_gives() -> None:
    views = Sight(batch(Scaled()), None).views()

    def objective(seen: torch.Tensor) -> torch.Tensor:
        return (seen**2).sum((2, 3, 4))

    torch.testing.assert_close(mean_value(IMAGES, views, objective), mean_gradient(IMAGES, views, objective)[0])
