import math

import numpy as np
import pytest
import torch

from poison_and_defend.reports.image_quality import similarity, summarize


def test_psnr_and_ssim_are_those_of_an_independent_computation() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randint(0, 256, (3, 3, 16, 16), generator=generator, dtype=torch.uint8)
    after = (before.int() + torch.randint(-9, 10, before.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    psnr, ssim = similarity(before, after)
    for row in range(3):
        error = np.mean((before[row].numpy().astype(float) - after[row].numpy().astype(float)) ** 2)
        assert psnr[row].item() == pytest.approx(10 * math.log10(255**2 / error), abs=1e-3)
    # Wang et al. (2004), equation 13, with its Gaussian window of 11 x 11 and standard deviation 1.5, where it fits.
    window = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    for row in range(3):
        values = []
        for channel in range(3):
            x, y = before[row, channel].numpy() / 255, after[row, channel].numpy() / 255
            for top in range(6):
                for left in range(6):
                    a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
                    mean_a, mean_b = (window * a).sum(), (window * b).sum()
                    var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
                    both = (window * a * b).sum() - mean_a * mean_b
                    values.append(
                        (2 * mean_a * mean_b + 1e-4)
                        * (2 * both + 9e-4)
                        / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
                    )
        assert ssim[row].item() == pytest.approx(np.mean(values), abs=2e-3)


def test_equal_images_and_small_ones_have_no_number_rather_than_a_wrong_one() -> None:
    same = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    psnr, ssim = similarity(same, same)
    assert psnr.isinf().all() and torch.allclose(ssim, torch.ones(2))
    assert similarity(same[:, :, :8, :8], same[:, :, :8, :8])[1].isnan().all()
    (row,) = summarize(["a", "a"], np.array([np.inf, 20.0]), np.array([np.nan, np.nan]))
    assert row == {"class": "a", "images": 2, "psnr": 20.0, "psnr_least": 20.0, "ssim": None, "ssim_least": None}


def test_classes_are_in_the_order_of_their_numbers_and_all_come_last() -> None:
    rows = summarize(["10", "2", "2"], np.array([1.0, 2.0, 4.0]), np.ones(3))
    assert [(row["class"], row["images"], row["psnr"]) for row in rows] == [("2", 2, 3.0), ("10", 1, 1.0), ("all", 3, 2.3333)]
