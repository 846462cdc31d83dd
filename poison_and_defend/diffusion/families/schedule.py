"""From a noise level in pixels to a timestep of a diffusion model."""

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError


def noise_ratios(alphas_cumprod: Tensor) -> Tensor:
    """Noise-to-signal ratio ``sqrt((1 - abar_t) / abar_t)`` of every timestep, ``(T,)`` float64, increasing.

    Where a schedule ends in pure noise (zero terminal SNR) the last ratio is infinite.
    """
    abar = alphas_cumprod.double().cpu()
    return ((1 - abar) / abar).sqrt()


def largest_sigma(alphas_cumprod: Tensor) -> float:
    """The most noise that a schedule covers: the last finite ratio, for images in [0, 1]."""
    ratios = noise_ratios(alphas_cumprod)
    return ratios[ratios.isfinite()].max().item() / 2


def timestep_for(sigma: float, alphas_cumprod: Tensor, option: str = "--sigma") -> int:
    """First timestep that is at least as noisy as an image in [0, 1] with noise of standard deviation ``sigma``.

    Images are in [0, 1] and the model's in [-1, 1], so the model's ratio is ``2 sigma``: the smallest t with
    ``sqrt((1 - abar_t) / abar_t) >= 2 sigma``. The noise that is added has exactly ``sigma``; the model is told the
    ratio of t, slightly more.

    Args:
        sigma: At least 0.
        alphas_cumprod: ``(T,)``, decreasing.
        option: How sigma is given.

    Raises:
        InputError: If sigma is negative or beyond the schedule's last finite ratio.
    """
    ratios, largest = noise_ratios(alphas_cumprod), largest_sigma(alphas_cumprod)
    if not 0 <= sigma <= largest:
        raise InputError(f"sigma is {sigma:g}: this denoiser's schedule covers 0 to {largest:.4g} ({option})")
    return int(torch.searchsorted(ratios, torch.tensor(2 * sigma, dtype=torch.float64)))
