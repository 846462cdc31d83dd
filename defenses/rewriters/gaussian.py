"""What Gaussian noise, a diffusion model's estimate of the clean image, or both do to a batch of images of any size."""

import copy
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.core.clip import clipped
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.base import SECRET
from poison_and_defend.defenses.rewriters.base import Rewriter, quantize
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.noise_level import note_doubtful, parse_sigma, refuse_ruinous
from poison_and_defend.diffusion.row_noise import row_noise
from poison_and_defend.diffusion.tiles import TileLayout, usual_overlap

Large = Literal["tiles", "resize"]

SIGMA = 0.25
DENOISER = "digits"


class GaussianRewriter(Rewriter):
    """Gaussian noise keyed by seed, draw and row, or a denoiser, or first the one and then the other."""

    noises: ClassVar[bool] = True
    denoises: ClassVar[bool] = True
    goes_on_drawing: ClassVar[bool] = False
    """Whether noise is drawn while it denoises, so that batches cannot be shared with others."""

    seed: int | None = None
    draw: int = 0

    def _prepare_noise(self, sigma: float | str | None, seed: int | None, draw: int | None) -> None:
        self.sigma = parse_sigma(SIGMA if sigma is None else sigma)
        refuse_ruinous(self.sigma)
        self.seed, self.draw = seed, 0 if draw is None else draw
        if not (0 <= (seed or 0) < 2**63 and 0 <= self.draw < 2**32):
            raise InputError(
                f"seed is {seed} and draw {self.draw}: they are at least 0 and below 2**63 and 2**32 (--seed, --draw)"
            )

    def _prepare_denoiser(self, denoiser: str | Denoiser | None, steps: int | None, large: Large, overlap: int | None) -> None:
        if large not in ("tiles", "resize"):
            raise InputError(f"large is {large!r}: tiles or resize are possible (--large)")
        self.source, self.steps = DENOISER if denoiser is None else denoiser, 1 if steps is None else steps
        self.large, self._overlap = large, overlap
        if isinstance(denoiser, Denoiser):
            denoiser.timestep(self.sigma)

    @cached_property
    def denoiser(self) -> Denoiser | None:  # type: ignore[override]
        """The model, read when it is first needed."""
        if not self.denoises:
            return None
        model = self.source if isinstance(self.source, Denoiser) else load_denoiser(self.source, steps=self.steps)
        model.timestep(self.sigma)
        return model

    def using(self, denoiser: Denoiser) -> Self:
        """The same with a model that is there already, so that several levels of noise share one."""
        other = copy.copy(self)
        other.source = denoiser
        vars(other).pop("denoiser", None)
        return other

    @property
    def needs_secret(self) -> bool:
        """Whether its noise has no seed yet."""
        return self.noises and self.seed is None

    def with_seed(self, seed: int) -> Self:
        """The same with this seed."""
        if not self.noises:
            return self
        other = copy.copy(self)
        other.seed = seed
        return other

    def version(self, number: int) -> Self:
        """See :meth:`Rewriter.version`: the next draws of the noise, each as if it were the only one."""
        other = copy.copy(self)
        other.draw, other.draws = self.draw + number, 1
        return other

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share."""
        assert self.denoiser is not None
        return usual_overlap(self.denoiser.size) if self._overlap is None else self._overlap

    def settings(self) -> dict[str, Any]:
        """All that the output depends on besides the images; ``secret`` for a seed that is one."""
        found: dict[str, Any] = {"defense": self.name}
        if self.noises:
            found |= {"sigma": self.sigma, "seed": SECRET if self.seed is None else self.seed, "draw": self.draw}
        if self.denoiser is not None:
            found |= {"denoiser": self.denoiser.fingerprint, "denoise_steps": self.denoiser.steps}
        return found if self.draws == 1 else found | {"draws": self.draws}

    def settings_for(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """The settings, and how images are cut or scaled that are not of the model's size."""
        if self.denoiser is None or tuple(image_shape[1:]) == tuple(self.denoiser.size):
            return self.settings()
        cut = {"overlap": self.overlap} if self.large == "tiles" else {}
        return self.settings() | {"large": self.large} | cut

    def check(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """Refuse images of other channels than the denoiser's, and say of noise that it is doubtful."""
        self.note()
        model = self.denoiser
        if model is None:
            return
        if image_shape[0] != model.channels:
            raise InputError(
                f"the denoiser takes images of {model.channels} channels, the data's have {image_shape[0]} (--denoiser)"
            )
        TileLayout(image_shape[1], image_shape[2], model.size, self.overlap)

    def note(self) -> None:
        """Say, once, that there is more noise than images or the denoiser usually see."""
        note_doubtful(self.sigma, None if self.denoiser is None else self.denoiser.trained)

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: Tensor, draws: Tensor | None = None) -> Tensor:
        """Noise and denoise one batch; see :meth:`Rewriter.__call__`."""
        scaled = self.scaled(images)
        if self.denoiser is None or scaled.shape[2:] == self.denoiser.size:
            return quantize(self.restored(self.denoise(self.add_noise(scaled, keys, draws)), images))
        height, width = images.shape[2:]
        layout = TileLayout(height, width, self.denoiser.size, self.overlap)
        # Drawn for the whole image, so that tiles see the same noise where they overlap.
        noisy = self.add_noise(layout.pad(images.contiguous()), keys, draws)
        return quantize(layout.blend(self.denoise(layout.cut(noisy)), len(images)))

    def noise_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """See :meth:`Rewriter.noise_shape`: of tiles the noise is drawn for the whole canvas."""
        channels, height, width = image_shape
        model = self.denoiser
        if not self.noises:
            return (0,)
        if model is None or (height, width) == model.size:
            return tuple(image_shape)
        if self.large == "resize":
            return (channels, *model.size)
        return (channels, *TileLayout(height, width, model.size, self.overlap).canvas)

    def own_noise(self, keys: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """See :meth:`Rewriter.own_noise`."""
        if not self.noises:
            return super().own_noise(keys, image_shape)
        if self.seed is None:
            raise RuntimeError("the noise has no seed yet")
        return row_noise(keys, self.noise_shape(image_shape), seed=self.seed, draw=self.draw)

    def with_sigma(self, sigma: float) -> Self:
        """The same with another noise."""
        other = copy.copy(self)
        other.sigma = sigma
        return other

    def relaxed(self, images: Tensor, noise: Tensor) -> Tensor:
        """See :meth:`Rewriter.relaxed`: exact, through all of the denoiser's steps."""
        added = self.sigma * noise if self.noises else 0.0
        size, model = images.shape[2:], self.denoiser
        if model is None or size == model.size:
            return clipped(self.denoise(images + added))
        if self.large == "resize":
            return clipped(self.restored(self.denoise(_resized(images, model.size) + added), images))
        layout = TileLayout(size[0], size[1], model.size, self.overlap)
        return clipped(layout.blend(self.denoise(layout.cut(layout.pad(images) + added)), len(images)))

    def scaled(self, images: Tensor) -> Tensor:
        """Uint8 images as the model takes them, if larger and smaller ones are to be scaled; else as they are."""
        model = self.denoiser
        if model is None or self.large != "resize" or images.shape[2:] == model.size:
            return images
        return _resized(images.float(), model.size).round().clamp(0, 255).to(torch.uint8)

    def restored(self, denoised: Tensor, images: Tensor) -> Tensor:
        """Float images scaled back to the size of ``images``."""
        if denoised.shape[2:] == images.shape[2:]:
            return denoised
        return _resized(denoised, images.shape[2:])

    def add_noise(self, images: Tensor, keys: Tensor, draws: Tensor | None = None) -> Tensor:
        """Images in [0, 1] plus noise keyed by draw and row, not clipped, float32."""
        clean = images.float() / 255
        if self.sigma == 0:
            return clean
        if self.seed is None:
            raise RuntimeError("the noise has no seed yet")
        draw = self.draw if draws is None else draws
        return clean + self.sigma * row_noise(keys, tuple(images.shape[1:]), seed=self.seed, draw=draw)

    def denoise(self, noisy: Tensor) -> Tensor:
        """The denoiser's estimate, or the noisy images as they are where there is no denoiser."""
        return noisy if self.denoiser is None else self.denoiser.to(noisy.device)(noisy, self.sigma)


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
