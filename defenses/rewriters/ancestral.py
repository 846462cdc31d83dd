"""Noise, then the way back step by step with fresh noise in each: ancestral sampling, as PureGen's DDPM purifies.

Bhat et al., "PureGen: Universal Data Purification for Train-Time Poison Defense via Generative Model Dynamics", NeurIPS 2024;
before it at test time Nie et al., "Diffusion Models for Adversarial Purification", ICML 2022.
"""

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.clip import clipped
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.rewriters.base import quantize
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter
from poison_and_defend.diffusion.denoiser import Denoiser
from poison_and_defend.diffusion.row_noise import row_noise


class Ancestral(GaussianRewriter):
    """Noise of sigma, then ancestral steps (Ho et al., NeurIPS 2020, Algorithm 2) from the time of that noise to the first.

    PureGen noises images to timestep 75 of a linear schedule of 1,000 (sigma .129 in [0, 1] pixels; 125, .215, for transfer
    learning) and steps back through every timestep, with a model that was trained on t < 250 alone. Here it is any denoiser of
    this project, on its own schedule; the last step returns the estimate at timestep 1, not 0, whose noise is about a level of
    8 bits. Every step's noise is keyed by the row, so that a row's bytes depend on no other row.

    Args:
        sigma: Standard deviation of the noise in [0, 1] pixels, or a fraction such as 25/255; null for that of all arms.
        denoiser: A name such as digits or photos-32, a diffusers folder, or hf:OWNER/NAME of the Hugging Face Hub; null for
            that of all arms.
        evaluations: Model evaluations for each image, at evenly spaced times; null for one at every timestep.
        seed: Seed of the noise; null for that of the run, or for a secret one where a set is sanitized alone.
        draw: Which independent realisation of the noise; null for that of all arms.

    Raises:
        InputError: If a value is out of range, or images are not of the denoiser's size.
    """

    name = "ancestral"
    label = "noise + ancestral steps"
    color = "#2d7f9d"
    goes_on_drawing = True

    def __init__(
        self,
        sigma: float | str | None = None,
        denoiser: str | Denoiser | None = None,
        evaluations: int | None = None,
        seed: int | None = None,
        draw: int | None = None,
    ) -> None:
        self.given = {"sigma": sigma, "denoiser": denoiser, "evaluations": evaluations, "seed": seed, "draw": draw}
        at_least("evaluations", 2 if evaluations is None else evaluations, 2, "--arms.ancestral.evaluations 10")
        self.evaluations = evaluations
        self._prepare_noise(sigma, seed, draw)
        self._prepare_denoiser(denoiser, None, "tiles", None)

    @cached_property
    def denoiser(self) -> Denoiser | None:  # type: ignore[override]
        """The model, with as many steps as are taken."""
        found = copy.copy(super().denoiser)
        assert found is not None
        found.steps = self.evaluations or self._timesteps(found)
        return found

    def _timesteps(self, model: Denoiser) -> int:
        start = model.timestep(self.sigma)
        if not isinstance(start, int):
            raise InputError(
                "the denoiser has no timesteps that could each be a step: say how many (--arms.ancestral.evaluations 50)"
            )
        return max(2, start)

    def settings(self) -> dict[str, Any]:
        """See :meth:`GaussianRewriter.settings`."""
        return super().settings() | {"sampler": "ancestral"}

    def check(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """See :meth:`GaussianRewriter.check`; images of other sizes than the model's are refused."""
        super().check(image_shape, num_classes)
        assert self.denoiser is not None
        self.denoiser.check_images(image_shape)

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: Tensor, draws: Tensor | None = None) -> Tensor:
        """Noise and denoise one batch; see :meth:`Rewriter.__call__`."""
        shape, draw = tuple(images.shape[1:]), self.draw if draws is None else draws
        noisy = self.add_noise(images, keys, draws)

        def fresh(step: int) -> Tensor:
            assert self.seed is not None
            return row_noise(keys, shape, seed=self.seed, draw=draw, step=step)

        return quantize(self._walk(noisy, fresh))

    def noise_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """See :meth:`Rewriter.noise_shape`: of all steps, one after another along the channels."""
        channels, height, width = image_shape
        return (channels * self._draws, height, width)

    def own_noise(self, keys: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """See :meth:`Rewriter.own_noise`."""
        if self.seed is None:
            raise RuntimeError("the noise has no seed yet")
        shape = tuple(image_shape)
        steps = [row_noise(keys, shape, seed=self.seed, draw=self.draw, step=step) for step in range(self._draws)]
        return torch.cat(steps, dim=1)

    def relaxed(self, images: Tensor, noise: Tensor) -> Tensor:
        """See :meth:`Rewriter.relaxed`: exact, through all of the denoiser's steps."""
        first, *others = noise.split(images.shape[1], dim=1)
        return clipped(self._walk(images + self.sigma * first, lambda step: others[step - 1]))

    @property
    def _draws(self) -> int:
        """How many noises of an image there are: the first, and one in every step but the last."""
        model = self.denoiser
        assert model is not None
        return len(model.parametrization.path(model.timestep(self.sigma), model.steps))

    def _walk(self, noisy: Tensor, fresh: Callable[[int], Tensor]) -> Tensor:
        assert self.denoiser is not None
        found: Tensor = self.denoiser.to(noisy.device)(noisy, self.sigma, fresh)
        return found
