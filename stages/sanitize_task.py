"""What `sanitize` is asked to do, and refusing what cannot be done before anything is computed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defenses.denoiser import load_denoiser
from defenses.switch import Defense, DefenseName
from defenses.tiled import TiledDefense
from errors import InputError
from files import make_folder
from storage.arrays import Split, make_split, read_arrays
from storage.fill import Unreadable
from storage.folder_target import FolderTarget, Format
from storage.names import write_names
from storage.npz_target import NpzTarget
from storage.sources import ArraySource, FolderSource
from storage.targets import Target


@dataclass
class SanitizeInput:
    """The set to sanitize.

    Args:
        root: Folder of JPEG, PNG and WebP images, with or without sub-folders; or an ``.npz`` of ``images`` and ``labels``.
        channels: 1 or 3, to read the files of a folder as grey or RGB; by default what the denoiser takes, or 3.
    """

    root: str | None = None
    channels: int | None = None

    def arrays(self) -> tuple[Split, Tensor] | None:
        """Images and labels, and the numbers of their rows that key the noise; None for a folder.

        Raises:
            InputError: If there is nothing to sanitize, or it cannot be read.
        """
        if self.root is None:
            raise InputError("name the images to sanitize, a folder or an .npz (--data.root) or a data set (--data.source)")
        path = Path(self.root)
        if path.suffix != ".npz":
            return None
        images, labels = read_arrays(path)
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
        denoiser: Local diffusers folder, or a Hugging Face id such as ``google/ddpm-cifar10-32``.
        sigma: Standard deviation of the noise in [0, 1] units, or a fraction such as 25/255.
        denoise_steps: Model evaluations per tile; 1 is one-shot.
        noise_seed: Seed of the noise.
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
    denoiser: str = "pretrained/digits_denoiser"
    sigma: float | str = 0.25
    denoise_steps: int = 1
    noise_seed: int = 0
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
        needed = self.defense in ("diffusion", "denoise_only")
        model = load_denoiser(self.denoiser, steps=self.denoise_steps) if needed else None
        seeds: dict[str, Any] = {"seed": self.noise_seed, "draw": self.draw, "jpeg_quality": self.jpeg_quality}
        return Defense(self.defense, sigma=self.sigma, denoiser=model, **seeds)


@dataclass(frozen=True, eq=False)
class SanitizePlan:
    """A task whose input and output were looked at.

    Attributes:
        task: What was asked.
        defense: What is done to each image.
        source: Where images come from.
        target: Where they go.
        labels: ``(N,)`` int64 of an array; None for a folder.
        settings: All that the bytes depend on, but for the list of a folder's files.
    """

    task: SanitizeTask
    defense: Defense
    source: ArraySource | FolderSource
    target: Target
    labels: np.ndarray | None
    settings: dict[str, Any]

    def describe_input(self) -> dict[str, Any]:
        """What identifies the images; lists a folder."""
        if isinstance(self.source, FolderSource):
            return {"files": self.source.digest_names()}
        return dict(self.source.settings())

    def save_input(self, working: Path) -> tuple[int, dict[str, Any]]:
        """Put the list of images into the working folder; returns how many there are and what identifies them."""
        if isinstance(self.source, FolderSource):
            count, names = self.source.save_names(working)
            if isinstance(self.target, NpzTarget):
                self.source.open_names(working)
                self.target.labels = _folder_labels(self.source, count)
                self.target.shape = self.target.shape or self.source.first_shape(count)
            self.target.prepare(working, count)
            return count, {"files": names}
        if isinstance(self.target, FolderTarget):
            assert self.labels is not None
            write_names(working, "files", _label_names(self.labels))
        self.target.prepare(working, len(self.source.images))
        return len(self.source.images), dict(self.source.settings())

    def typical_pixels(self, working: Path, count: int) -> int:
        """Pixels of an image, the largest of a few spread over the set."""
        self.open_input(working)
        rows = np.unique(np.linspace(0, count - 1, min(16, count)).astype(int)).tolist()
        found = [self.source.read(row).pixels for row in rows]
        return max([1, *(pixels[0].size for pixels in found if pixels is not None)])

    def open_input(self, working: Path) -> None:
        """Read the list that one process saved."""
        if isinstance(self.source, FolderSource):
            self.source.open_names(working)


def plan_task(task: SanitizeTask) -> SanitizePlan:
    """Look at input, output and denoiser.

    Raises:
        InputError: If anything cannot work, naming value and option.
    """
    if task.large not in ("tiles", "resize"):
        raise InputError(f"large is {task.large!r}: tiles or resize are possible (--large)")
    if task.precision not in (None, "float32", "bfloat16"):
        raise InputError(f"precision is {task.precision!r}: float32 or bfloat16 are possible (--precision)")
    if task.batch_size is not None and task.batch_size < 1:
        raise InputError(f"batch_size is {task.batch_size}: it must be at least 1 (--batch_size)")
    arrays = task.data.arrays()
    defense = task.build_defense()
    # Built for its check of the overlap, and for what it chooses.
    overlap = None if defense.denoiser is None else TiledDefense(defense, batch_size=1, overlap=task.overlap).overlap
    square = None
    if task.large == "resize":
        if defense.denoiser is None:
            raise InputError(f"the defence {task.defense} has no denoiser whose size images could get (--large)")
        square = defense.denoiser.size[0]
        if len(set(defense.denoiser.size)) > 1:
            raise InputError(f"the denoiser takes images of {defense.denoiser.size}, which are not square (--large)")
    source, labels = _open_source(task, arrays, defense, square)
    target = _open_target(task, source, labels)
    settings = {
        **defense.settings(),
        "large": task.large,
        "channels": source.channels,
        "overlap": overlap,
    }
    if isinstance(target, FolderTarget):
        settings["format"] = task.format
    return SanitizePlan(task, defense, source, target, labels, settings)


def _open_source(
    task: SanitizeTask, arrays: tuple[Split, Tensor] | None, defense: Defense, square: int | None
) -> tuple[ArraySource | FolderSource, np.ndarray | None]:
    wanted = None if defense.denoiser is None else defense.denoiser.channels
    channels = task.data.channels or wanted or 3
    if channels not in (1, 3) or (wanted is not None and channels != wanted):
        raise InputError(
            f"images of {channels} channels do not go through a denoiser of {wanted or '1 or 3'}: "
            "leave the channels out or choose another (--data.channels, --denoiser)"
        )
    if arrays is None:
        root = Path(str(task.data.root))
        if not root.is_dir():
            raise InputError(f"there is no folder {root} (--data.root)")
        # Asked for, a colour file may become grey; without a word it may not.
        return FolderSource(root, channels, square, "--data.root", may_lose_colour=task.data.channels == 1), None
    split, rows = arrays
    found = split.images.shape[1]
    if (wanted or task.data.channels or found) != found:
        raise InputError(f"the images have {found} channels and the denoiser takes {wanted or channels} (--denoiser)")
    return ArraySource(split.images, rows, square), split.labels.numpy()


def _open_target(task: SanitizeTask, source: ArraySource | FolderSource, labels: np.ndarray | None) -> Target:
    out = Path(task.out)
    if isinstance(source, FolderSource):
        _keep_apart(source.root, out)
    if out.suffix == ".npz":
        if task.unreadable == "copy":
            raise InputError("an array has no place for files that cannot be read: leave them out (--unreadable skip)")
        make_folder(out.parent, "--out")
        if out.is_dir():
            raise InputError(f"{out} is a folder: name a file (--out)")
        return NpzTarget(out, source.shape(), labels, "--out")
    target = FolderTarget(out, task.format, "--out")
    # Before the folder is made: what holds something else is not touched at all.
    target.manifest()
    make_folder(out, "--out")
    return target


def _keep_apart(root: Path, out: Path) -> None:
    """Refuse an output that would be read as input, or the other way round."""
    inside, place = root.resolve(), out.resolve()
    if place == inside or inside in place.parents:
        raise InputError(f"the output {out} lies in the input {root}: choose a place outside (--out)")
    if place in inside.parents:
        raise InputError(f"the input {root} lies in the output {out}: choose another place (--out)")


def _folder_labels(source: FolderSource, count: int) -> np.ndarray:
    """``(N,)`` int64: number of each image's top folder, in order; 0 where images lie in none."""
    tops = [name.partition("/")[0] if "/" in name else "" for name in (source.name(row) for row in range(count))]
    return np.unique(np.array(tops), return_inverse=True)[1].astype(np.int64)


def _label_names(labels: np.ndarray) -> list[str]:
    """One file a row, in a folder a label, both padded with zeros so that their order is that of numbers."""
    width, digits = len(str(int(labels.max()))), len(str(len(labels) - 1))
    return [f"{label:0{width}d}/{row:0{digits}d}.png" for row, label in enumerate(labels.tolist())]
