"""Noise, a diffusion model's estimate of the clean image, or both: the defence of this project and its two halves."""

from poison_and_defend.core.bounds import at_least
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter, Large
from poison_and_defend.diffusion.denoiser import Denoiser


class Diffusion(GaussianRewriter):
    """Noise of sigma, then the denoiser (Carlini et al., ICLR 2023, Algorithm 1, for one step; DDIM for several).

    Images that are not of the model's size are denoised in overlapping tiles, under noise that is drawn for the whole image,
    or scaled to that size and back.

    Args:
        sigma: Standard deviation of the noise in [0, 1] pixels, or a fraction such as 25/255; null for that of all arms.
        denoiser: A name such as digits or photos-32, a diffusers folder, or hf:OWNER/NAME of the Hugging Face Hub; null for
            that of all arms.
        steps: Model evaluations for each image; null for that of all arms, which is 1, one-shot.
        seed: Seed of the noise; null for that of the run, or for a secret one where a set is sanitized alone.
        draw: Which independent realisation of the noise; null for that of all arms.
        large: What happens to images that are not of the denoiser's size: ``tiles`` denoises them in overlapping tiles,
            ``resize`` scales them to it, and back.
        overlap: Pixels that neighbouring tiles share; by default 8, or a quarter of a smaller model.
        draws: How many versions of each image, with noise of their own, victims train on; every step takes one at random. In
            experiments alone: a sanitized set has one.

    Raises:
        InputError: If a value is out of range.
    """

    name = "diffusion"
    label = "noise + denoise"
    color = "#3a6ea5"

    def __init__(
        self,
        sigma: float | str | None = None,
        denoiser: str | Denoiser | None = None,
        steps: int | None = None,
        seed: int | None = None,
        draw: int | None = None,
        large: Large = "tiles",
        overlap: int | None = None,
        draws: int = 1,
    ) -> None:
        self.given = {
            "sigma": sigma, "denoiser": denoiser, "steps": steps, "seed": seed, "draw": draw, "large": large,
            "overlap": overlap, "draws": draws,
        }  # fmt: skip
        at_least("draws", draws, 1, "--defense.draws")
        self.draws = draws
        self._prepare_noise(sigma, seed, draw)
        self._prepare_denoiser(denoiser, steps, large, overlap)


class NoiseOnly(GaussianRewriter):
    """Gaussian noise of standard deviation sigma, clipped to [0, 1]: what diffusion is compared with.

    Args:
        sigma: Standard deviation of the noise in [0, 1] pixels, or a fraction such as 25/255; null for that of all arms.
        seed: Seed of the noise; null for that of the run, or for a secret one where a set is sanitized alone.
        draw: Which independent realisation of the noise; null for that of all arms.

    Raises:
        InputError: If a value is out of range.
    """

    name = "noise_only"
    color = "#e0a458"
    denoises = False
    large = "tiles"

    def __init__(self, sigma: float | str | None = None, seed: int | None = None, draw: int | None = None) -> None:
        self.given = {"sigma": sigma, "seed": seed, "draw": draw}
        self._prepare_noise(sigma, seed, draw)


class DenoiseOnly(GaussianRewriter):
    """The denoiser at its lowest timestep without noise, the limit sigma -> 0: what diffusion is compared with.

    Args:
        denoiser: A name such as digits or photos-32, a diffusers folder, or hf:OWNER/NAME of the Hugging Face Hub; null for
            that of all arms.
        steps: Model evaluations for each image; null for that of all arms, which is 1, one-shot.
        large: What happens to images that are not of the denoiser's size: ``tiles`` denoises them in overlapping tiles,
            ``resize`` scales them to it, and back.
        overlap: Pixels that neighbouring tiles share; by default 8, or a quarter of a smaller model.

    Raises:
        InputError: If a value is out of range.
    """

    name = "denoise_only"
    color = "#8a6fb0"
    noises = False

    def __init__(
        self,
        denoiser: str | Denoiser | None = None,
        steps: int | None = None,
        large: Large = "tiles",
        overlap: int | None = None,
    ) -> None:
        self.given = {"denoiser": denoiser, "steps": steps, "large": large, "overlap": overlap}
        self._prepare_denoiser(denoiser, steps, large, overlap)
