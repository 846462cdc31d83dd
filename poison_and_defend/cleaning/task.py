"""What `sanitize` is asked to do."""

from dataclasses import dataclass, field

from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.sanitizing.filler import Unreadable
from poison_and_defend.storage.targets.output_names import Format


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class SanitizeTask:
    """Add noise to a whole set of images and denoise it.

    Args:
        out: Where the sanitized set goes: an ``.npz`` file, or a folder, which gets the layout, names and order of the
            input. It must be given.
        data: The set.
        defense: What is done to each image: ``diffusion``, ``noise_only``, ``denoise_only``, ``jpeg``, or a rewriter of your
            own by its class path.
        denoiser: A name (``digits``, ``mnist``, ``cifar10``), a diffusers folder, or ``hf:OWNER/NAME`` of the Hugging Face Hub.
        sigma: Standard deviation of the noise in [0, 1] units, or a fraction such as 25/255.
        denoise_steps: Model evaluations per tile; 1 is one-shot.
        noise_seed: Seed of the noise, for reproduction: whoever knows it can craft poisons that survive. By default it is a
            secret, drawn from the operating system and kept in a private file beside the output.
        draw: Which independent realisation of the noise.
        jpeg_quality: Quality of the defence ``jpeg``, 1 to 95.
        large: What happens to images that are not of the denoiser's size: ``tiles`` denoises them in overlapping tiles,
            ``resize`` crops to the central square and scales.
        overlap: Pixels that neighbouring tiles share; by default 8, or a quarter of a smaller model.
        batch_size: Images or tiles per model evaluation; by default 64, on a GPU what is fastest.
        precision: Precision of the denoiser; by default bfloat16 on a GPU and float32 elsewhere.
        compile: Let `torch.compile` rewrite the denoiser: minutes at the start, faster from then on.
        format: Format of a folder's images, ``png`` or ``webp``, both lossless.
        unreadable: What happens to images that cannot be read: ``skip`` leaves them out, ``copy`` takes the files over as they
            are, ``stop`` ends the run. They are listed either way.
    """

    out: str | None = None
    data: SanitizeInput = field(default_factory=SanitizeInput)
    defense: Rewriter | str = "diffusion"
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
