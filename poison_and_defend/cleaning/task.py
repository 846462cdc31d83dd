"""What `sanitize` is asked to do."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.switch import Defense, DefenseName
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.noise_level import parse_sigma
from poison_and_defend.images.arrays import Split, make_split, read_arrays
from poison_and_defend.sanitizing.filler import Unreadable
from poison_and_defend.storage.output_names import Format


@dataclass
class SanitizeInput:
    """The set to sanitize.

    Args:
        root: Folder of images (JPEG, PNG, WebP, BMP, TIFF, GIF, PNM), with or without sub-folders; or one image, a pattern
            such as ``'photos/**/*.jpg'``, or a list ``[a.png,b.png]``; or an ``.npz`` of ``images`` and ``labels``.
        channels: 1 or 3, to read image files as grey or RGB; by default what the denoiser takes, or 3.
        bits: How many bits of a 16-bit grey value are in use, 8 to 16: 12 for a camera that writes 0 to 4,095.
        follow_links: Whether symbolic links may lead out of the folder.
    """

    root: list[str] | str | None = None
    channels: int | None = None
    bits: int = 16
    follow_links: bool = False

    def arrays(self) -> tuple[Split, Tensor] | None:
        """Images and labels, and the numbers of their rows that key the noise; None for image files.

        Raises:
            InputError: If there is nothing to sanitize, or it cannot be read.
        """
        if self.root is None:
            raise InputError(
                "name the images to sanitize: a folder, an image, a pattern or an .npz (--data.root), or a data set "
                "(--data.source)"
            )
        if isinstance(self.root, list) or not self.root.endswith(".npz"):
            return None
        path = Path(self.root)
        images, labels = read_arrays(path, "--data.root")
        classes = int(labels.max(initial=0)) + 1 if np.issubdtype(labels.dtype, np.integer) else 1
        split = make_split(images, labels, classes, f"{path} (--data.root)")
        return split, torch.arange(len(split))


@dataclass
class SanitizeTask:
    """Add noise to a whole set of images and denoise it.

    Args:
        out: Where it goes: an ``.npz`` file, or a folder, which gets the layout, names and order of the input.
        data: The set.
        defense: ``diffusion``, ``noise_only``, ``denoise_only`` or ``jpeg``.
        denoiser: A name (``digits``, ``mnist``, ``cifar10``), a diffusers folder, or ``hf:OWNER/NAME`` of the Hugging Face Hub.
        sigma: Standard deviation of the noise in [0, 1] units, or a fraction such as 25/255.
        denoise_steps: Model evaluations per tile; 1 is one-shot.
        noise_seed: Seed of the noise, for reproduction: whoever knows it can craft poisons that survive. By default it is a
            secret, drawn from the operating system and kept in a private file beside the output.
        draw: Which independent realisation of the noise.
        jpeg_quality: For ``jpeg``, 1 to 95.
        large: What happens to images that are not of the denoiser's size: ``tiles`` denoises them in overlapping tiles,
            ``resize`` crops to the central square and scales.
        overlap: Pixels that neighbouring tiles share; by default 8, or a quarter of a smaller model.
        batch_size: Images or tiles per model evaluation; by default 64, on a GPU what is fastest.
        precision: Of the denoiser; by default bfloat16 on a GPU and float32 elsewhere.
        compile: Let `torch.compile` rewrite the denoiser: minutes at the start, faster from then on.
        format: Of a folder's images, ``png`` or ``webp``, both lossless.
        unreadable: What happens to images that cannot be read: ``skip`` leaves them out, ``copy`` takes the files over as they
            are, ``stop`` ends the run. They are listed either way.
    """

    out: str
    data: SanitizeInput = field(default_factory=SanitizeInput)
    defense: DefenseName = "diffusion"
    denoiser: str = "digits"
    sigma: float | str = 0.25
    denoise_steps: int = 1
    noise_seed: int | None = None
    draw: int = 0
    jpeg_quality: int = 75
    large: str = "tiles"
    overlap: int | None = None
    batch_size: int | None = None
    precision: str | None = None
    compile: bool = False
    format: Format = "png"
    unreadable: Unreadable = "skip"

    def build_defense(self) -> Defense:
        """The defence; raises `InputError` if its settings or the denoiser cannot be used."""
        if self.defense in ("none", "no_attack"):
            raise InputError(f"the defence {self.defense} changes nothing: choose another (--defense)")
        # Before the denoiser is read, or looked for elsewhere.
        parse_sigma(self.sigma)
        needed = self.defense in ("diffusion", "denoise_only")
        model = load_denoiser(self.denoiser, steps=self.denoise_steps) if needed else None
        seeds: dict[str, Any] = {"seed": self.noise_seed, "draw": self.draw, "jpeg_quality": self.jpeg_quality}
        return Defense(self.defense, sigma=self.sigma, denoiser=model, **seeds)
