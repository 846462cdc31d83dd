"""The mean of an objective over what victims come to see."""

import torch

from poison_and_defend.attacks.crafting.augmentation import Augmentation, augment
from poison_and_defend.attacks.crafting.views import View, draw_views, mean_gradient

IMAGES = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in (5, 6)]


def test_one_view_of_an_unknown_augmentation_is_the_images_themselves() -> None:
    for known in (None, Augmentation()):
        (view,) = draw_views(known, 3, generators())
        assert view.see(IMAGES) is IMAGES and view.part(1, torch.tensor([0])).see(IMAGES) is IMAGES


def test_a_view_is_a_random_augmentation_of_every_image_and_a_part_of_it_the_same_of_a_part() -> None:
    known = Augmentation(0.25, True)
    (view,) = draw_views(known, 3, generators())
    drawn = known.draw(3, generators())
    expected = torch.stack([augment(images, own, 0.25) for images, own in zip(IMAGES, drawn, strict=True)])
    assert torch.equal(view.see(IMAGES), expected)
    assert not torch.equal(expected, IMAGES)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(view.part(1, rows).see(IMAGES[1, rows][None])[0], expected[1, rows])


def test_mean_gradient_is_the_mean_over_views_and_tells_which_is_seen() -> None:
    views = [View(Augmentation(0.25, True).draw(3, generators()), 0.25), View()]
    numbers = []

    def objective(seen: torch.Tensor, number: int) -> torch.Tensor:
        numbers.append(number)
        return (seen**3).sum((2, 3, 4)) * (number + 1)

    values, gradient = mean_gradient(IMAGES, views, objective)
    images = IMAGES.clone().requires_grad_()
    wanted = ((views[0].see(images) ** 3).sum((2, 3, 4)) + 2 * (images**3).sum((2, 3, 4))) / 2
    torch.testing.assert_close(values, wanted.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), [images])[0])
    assert numbers == [0, 1] and not values.requires_grad
