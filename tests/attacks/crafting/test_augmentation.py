import pytest
import torch

from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation

IMAGES = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def view(vertical: float = 0, horizontal: float = 0, mirror: int = 1) -> torch.Tensor:
    return torch.tensor([[vertical, horizontal, mirror]]).expand(len(IMAGES), 3)


def test_no_shift_and_no_flip_is_the_identity() -> None:
    torch.testing.assert_close(augment(IMAGES, view(), 0.25), IMAGES, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (0, 1), (-2, 0), (0, -2), (2, -1)])
def test_a_whole_shift_rolls_and_fills_with_zeros(rows: int, columns: int) -> None:
    found = augment(IMAGES, view(rows / 2, columns / 2), 2 / 8)
    expected = torch.zeros_like(IMAGES)
    for row in range(8):
        for column in range(8):
            if 0 <= row + rows < 8 and 0 <= column + columns < 8:
                expected[..., row, column] = IMAGES[..., row + rows, column + columns]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_half_a_pixel_is_the_mean_of_neighbours() -> None:
    found = augment(IMAGES, view(horizontal=0.5), 1 / 8)[..., :-1]
    torch.testing.assert_close(found, (IMAGES[..., :-1] + IMAGES[..., 1:]) / 2, rtol=0, atol=1e-5)


def test_flip_mirrors_left_and_right() -> None:
    torch.testing.assert_close(augment(IMAGES, view(mirror=-1), 0.25), IMAGES.flip(-1), rtol=0, atol=1e-6)


def test_every_image_has_its_own_view() -> None:
    views = torch.tensor([[0, 0, 1.0], [0, 0, -1], [0.5, 0, 1]])
    found = augment(IMAGES, views, 2 / 8)
    torch.testing.assert_close(found[:2], torch.stack([IMAGES[0], IMAGES[1].flip(-1)]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found[2, :, :-1], IMAGES[2, :, 1:], rtol=0, atol=1e-5)


def test_the_gradient_of_a_shift_is_the_shift_back() -> None:
    images = IMAGES.clone().requires_grad_()
    weight = torch.rand(IMAGES.shape, generator=torch.Generator().manual_seed(1))
    (augment(images, view(1), 2 / 8) * weight).sum().backward()
    expected = torch.zeros_like(IMAGES)
    expected[..., 2:, :] = weight[..., :-2, :]
    torch.testing.assert_close(images.grad, expected, rtol=0, atol=1e-5)


def test_draws_cover_the_range_evenly_and_repeat_with_the_seed() -> None:
    draws = [draw_augmentation((50, 40), torch.Generator().manual_seed(3), flip=True) for _ in range(2)]
    assert torch.equal(*draws)
    shift, mirror = draws[0][..., :2], draws[0][..., 2]
    assert shift.min() < -0.99
    assert shift.max() > 0.99
    assert shift.mean().abs() < 0.05
    assert set(mirror.unique().tolist()) == {-1.0, 1.0}
    assert abs(mirror.mean()) < 0.1


def test_nothing_is_mirrored_unless_asked_and_shifts_stay_the_same() -> None:
    still = draw_augmentation((100,), torch.Generator().manual_seed(3), flip=False)
    assert (still[:, 2] == 1).all()
    assert torch.equal(still[:, :2], draw_augmentation((100,), torch.Generator().manual_seed(3), flip=True)[:, :2])
