"""What a denoiser in training is asked: how noisy its images are, and how far off its answers lie in the eyes of a network."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.frozen import frozen_form

NoiseLevels = Literal["timesteps", "log_uniform"]


def draw_times(ratios: Tensor, count: int, levels: NoiseLevels, least: float, generator: torch.Generator) -> Tensor:
    """``(count,)`` int64: a timestep for each image.

    Uniform timesteps, as Ho et al. draw them, spend most of a schedule on noise that no sanitizer adds. Uniform logarithms of
    the noise give every factor of two the same share.

    Args:
        ratios: ``(T,)`` float64, noise to signal of the timesteps to draw from, increasing.
        count: How many.
        levels: Which of the two.
        least: The smallest ratio that logarithms are drawn from, in the model's units.
        generator: On the CPU.
    """
    if levels == "timesteps":
        return torch.randint(len(ratios), (count,), generator=generator)
    low, high = math.log(max(least, ratios[0].item())), math.log(ratios[-1].item())
    drawn = torch.exp(low + (high - low) * torch.rand(count, dtype=torch.float64, generator=generator))
    return torch.searchsorted(ratios, drawn).clamp_max(len(ratios) - 1)


class FeatureLoss(nn.Module):
    """Mean squared distance between a network's features of two batches, each feature in its own standard deviations.

    An error that a network does not see costs nothing here, and one that it takes for a thing costs much: features are what a
    head is trained on afterwards.

    Args:
        network: Gives the features; a copy of it is frozen, in the form that the device computes fastest.
        shape: ``(C, H, W)`` of the images.
    """

    def __init__(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network, self.shape = network.eval().requires_grad_(False), shape

    def prepare(self, device: torch.device) -> None:
        """Take the form that the device computes fastest, on it."""
        if self.network.precision is None:
            self.network = frozen_form(self.network, *self.shape[:2], device)

    def train(self, mode: bool = True) -> "FeatureLoss":
        """Never: statistics and dropout of the network stay as they are."""
        return super().train(False)

    def forward(self, denoised: Tensor, clean: Tensor) -> Tensor:
        """The distance, 0-dimensional; gradients go to ``denoised`` alone.

        Args:
            denoised: ``(N, C, H, W)`` float, images in [0, 1].
            clean: Of the same shape; features deviate over these images, of which there are at least two.
        """
        with torch.no_grad():
            wanted = self._features(clean)
            # Features that hardly ever change would outweigh all others.
            deviation = wanted.std(0)
            scale = deviation.clamp_min(0.1 * deviation.mean() + 1e-12)
        return ((self._features(denoised) - wanted) / scale).square().mean()

    def _features(self, images: Tensor) -> Tensor:
        # The network has a precision of its own; the denoiser's, such as float16, might not hold its features.
        with torch.autocast(images.device.type, enabled=False):
            return self.network.features(images.float()).float()
