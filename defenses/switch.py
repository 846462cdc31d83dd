"""The one switch between defences that rewrite a training set."""

import copy
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.jpeg import jpeg
from poison_and_defend.diffusion.denoiser import Denoiser
from poison_and_defend.diffusion.noise_level import note_doubtful, parse_sigma, refuse_ruinous
from poison_and_defend.diffusion.row_noise import row_noise

DefenseName = Literal["no_attack", "none", "noise_only", "denoise_only", "jpeg", "diffusion"]
DEFENSES: tuple[DefenseName, ...] = get_args(DefenseName)

SECRET = "secret"
"""What settings say of a seed that only a private file holds."""

_NOISED = ("noise_only", "diffusion")
_DENOISED = ("denoise_only", "diffusion")


class Defense:
    """A function from rows of a training set to what is trained on instead; labels and order are not its business.

    - ``none``: the images as they are.
    - ``no_attack``: likewise, and the experiment leaves its bases unperturbed: what would have happened anyway.
    - ``noise_only``: Gaussian noise of standard deviation sigma, clipped to [0, 1].
    - ``denoise_only``: the denoiser at its lowest timestep without noise, the limit sigma -> 0.
    - ``jpeg``: JPEG at ``jpeg_quality``.
    - ``diffusion``: noise of sigma, then the denoiser.

    Args:
        name: One of the above.
        sigma: Noise standard deviation in [0, 1] units, or a fraction such as ``25/255``; for ``noise_only`` and ``diffusion``.
        denoiser: Needed by ``denoise_only`` and ``diffusion``.
        seed: Seed of the noise; None where it is a secret that is not drawn yet (:meth:`with_seed`).
        draw: Which independent realisation of the noise.
        jpeg_quality: 1 to 95.
        noted: Whether a line says, once, that sigma is above 1 or above what the denoiser was trained on; for callers who
            say so themselves.

    Raises:
        InputError: If the name is unknown, a value is out of range, or the denoiser is missing.
    """

    def __init__(
        self,
        name: DefenseName,
        *,
        sigma: float | str = 0.25,
        denoiser: Denoiser | None = None,
        seed: int | None = 0,
        draw: int = 0,
        jpeg_quality: int = 75,
        noted: bool = True,
    ) -> None:
        if name not in DEFENSES:
            raise InputError(f"{name!r} is not a defence: choose from {', '.join(DEFENSES)} (--defenses)")
        level = parse_sigma(sigma)
        if not 1 <= jpeg_quality <= 95:
            raise InputError(f"jpeg_quality is {jpeg_quality}: it is 1 to 95 (--jpeg_quality)")
        if not (0 <= (seed or 0) < 2**63 and 0 <= draw < 2**32):
            raise InputError(f"seed is {seed} and draw {draw}: they are at least 0 and below 2**63 and 2**32 (--seed, --draw)")
        if name in _DENOISED and denoiser is None:
            raise InputError(f"the defence {name} needs a denoiser (--denoiser)")
        self.name = name
        self.sigma = level if name in _NOISED else 0.0
        self.denoiser = denoiser if name in _DENOISED else None
        refuse_ruinous(self.sigma)
        if noted:
            note_doubtful(self.sigma, None if self.denoiser is None else self.denoiser.trained)
        if self.denoiser is not None:
            self.denoiser.timestep(self.sigma)
        self.seed, self.draw = seed, draw
        self.jpeg_quality = jpeg_quality

    @property
    def needs_secret(self) -> bool:
        """Whether its noise has no seed yet."""
        return self.seed is None and self.name in _NOISED

    def with_seed(self, seed: int) -> "Defense":
        """The same with this seed."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def settings(self) -> dict[str, Any]:
        """All that the output depends on besides the images, as JSON can hold it; ``secret`` for a seed that is one."""
        settings: dict[str, Any] = {"defense": self.name}
        if self.name in _NOISED:
            settings |= {"sigma": self.sigma, "seed": SECRET if self.seed is None else self.seed, "draw": self.draw}
        if self.denoiser is not None:
            settings |= {"denoiser": self.denoiser.fingerprint, "denoise_steps": self.denoiser.steps}
        if self.name == "jpeg":
            settings["jpeg_quality"] = self.jpeg_quality
        return settings

    @torch.no_grad()
    def __call__(self, images: Tensor, rows: Tensor, draws: Tensor | None = None) -> Tensor:
        """Sanitize one batch.

        Args:
            images: ``(B, C, H, W)`` uint8, on the denoiser's device.
            rows: ``(B,)`` int64, their row numbers in the whole training set, which key the noise.
            draws: ``(B,)`` int64, a realisation of the noise for each image; None for the defence's own draw.

        Returns:
            ``(B, C, H, W)`` uint8.
        """
        if self.name in ("none", "no_attack"):
            return images
        if self.name == "jpeg":
            return jpeg(images.cpu(), self.jpeg_quality).to(images.device)
        return quantize(self.denoise(self.add_noise(images, rows, draws)))

    def add_noise(self, images: Tensor, rows: Tensor, draws: Tensor | None = None) -> Tensor:
        """Images in [0, 1] plus noise keyed by draw and row, not clipped, float32."""
        clean = images.float() / 255
        if self.sigma == 0:
            return clean
        if self.seed is None:
            raise RuntimeError("the noise has no seed yet")
        draw = self.draw if draws is None else draws
        return clean + self.sigma * row_noise(rows, tuple(images.shape[1:]), seed=self.seed, draw=draw)

    def denoise(self, noisy: Tensor) -> Tensor:
        """The denoiser's estimate, or the noisy images as they are if the defence has no denoiser."""
        return noisy if self.denoiser is None else self.denoiser(noisy, self.sigma)


def quantize(images: Tensor) -> Tensor:
    """Float images to uint8, clipped to [0, 1]."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
