"""A rewriter for images of any sizes: each padded to a canvas, noised as a whole, denoised in tiles and blended."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.rewriters.base import Rewriter, quantize
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter
from poison_and_defend.diffusion.batches import BatchedDenoiser, Precision
from poison_and_defend.diffusion.tiles import TileLayout


class Group(NamedTuple):
    """Images of one shape.

    Attributes:
        images: ``(n, C, H, W)`` uint8.
        rows: ``(n,)`` int64, which key their noise; None for fresh noise from torch's global generator.
    """

    images: Tensor
    rows: Tensor | None


class Sanitized(NamedTuple):
    """What became of a group.

    Attributes:
        images: ``(n, C, H, W)`` uint8, on the CPU.
        sound: ``(n,)`` bool; False where the denoiser's output was not finite, twice.
    """

    images: Tensor
    sound: Tensor


class TiledDefense:
    """A :class:`~poison_and_defend.defenses.rewriters.base.Rewriter` for groups of images of different sizes.

    Noise is drawn once for the whole padded image, so that tiles see the same noise where they overlap. Images of the
    model's size are one tile, their own canvas. Rewriters without a denoiser take an image as it is.

    Args:
        defense: What is done.
        batch_size: Tiles per model evaluation.
        overlap: Pixels that neighbouring tiles share, below the model's size; None for the rewriter's own.
        device: Where to compute.
        precision: Of the denoiser.
        compiled: Whether `torch.compile` rewrites it.

    Raises:
        InputError: If ``overlap`` or ``batch_size`` is out of range.
    """

    def __init__(
        self,
        defense: Rewriter,
        *,
        batch_size: int,
        overlap: int | None = None,
        device: torch.device | None = None,
        precision: Precision = "float32",
        compiled: bool = False,
    ) -> None:
        self.defense, self.batch_size = defense, batch_size
        self.device = device or torch.device("cpu")
        self.precision, self.compiled = precision, compiled
        self.batches: BatchedDenoiser | None = None
        self.overlap = 0
        if isinstance(defense, GaussianRewriter) and defense.denoiser is not None and not defense.goes_on_drawing:
            height, width = defense.denoiser.size
            self.size: tuple[int, int] = (height, width)
            self.overlap = defense.overlap if overlap is None else overlap
            TileLayout(height, width, self.size, self.overlap)
            self.batches = self._batches(precision, compiled)
        else:
            at_least("batch_size", batch_size, 1, "batch_size")

    def _batches(self, precision: Precision, compiled: bool) -> BatchedDenoiser:
        assert self.defense.denoiser is not None
        options = {"batch_size": self.batch_size, "device": self.device, "precision": precision, "compiled": compiled}
        return BatchedDenoiser(self.defense.denoiser, self.defense.sigma, **options)  # type: ignore[arg-type]

    @property
    def noisy(self) -> GaussianRewriter:
        """The rewriter, which has a denoiser."""
        assert isinstance(self.defense, GaussianRewriter)
        return self.defense

    def begin_threads(self) -> None:
        """Start as many threads as torch now has, whatever its number is later."""
        if self.batches is not None:
            self.batches.begin_threads()

    def layout(self, images: Tensor) -> TileLayout:
        """How images ``(n, C, H, W)`` are cut."""
        height, width = self.size if self.noisy.large == "resize" else images.shape[2:]
        return TileLayout(height, width, self.size, self.overlap)

    @torch.no_grad()
    def start(self, groups: Sequence[Group]) -> Callable[[], list[Sanitized]]:
        """Add the noise, start denoising and return; call what is returned for the groups' results, in order.

        All groups share batches. Images wait in memory until then, as floats: it is for the caller to give few enough at once.
        """
        if self.batches is None:
            found = [self._rewritten(group) for group in groups]
            return lambda: found
        layouts = [self.layout(group.images) for group in groups]
        tiles = [layout.cut(self._noisy(layout, group)) for layout, group in zip(layouts, groups, strict=True)]
        padded = all(group.rows is not None for group in groups)
        wait = self.batches.submit(torch.cat(tiles), padded=padded)
        counts = [len(part) for part in tiles]

        def finish() -> list[Sanitized]:
            parts = zip(layouts, groups, wait().split(counts), strict=True)
            return [self._blended(layout, group, part) for layout, group, part in parts]

        return finish

    def __call__(self, groups: Sequence[Group]) -> list[Sanitized]:
        """Start and wait."""
        return self.start(groups)()

    def _rewritten(self, group: Group) -> Sanitized:
        rows = torch.zeros(len(group.images), dtype=torch.int64) if group.rows is None else group.rows
        images = self.defense(group.images.to(self.device), rows.to(self.device)).cpu()
        # A file of pixels would take other values as well, and cut them off in silence.
        if images.shape != group.images.shape or images.dtype != torch.uint8:
            raise InputError(
                f"the rewriter {self.defense.name} gives {tuple(images.shape)} {images.dtype} for {tuple(group.images.shape)} "
                "images of 8 bits: the same shape and torch.uint8 are needed (--defenses)"
            )
        return Sanitized(images, torch.ones(len(images), dtype=torch.bool))

    def _noisy(self, layout: TileLayout, group: Group) -> Tensor:
        # Kernels are chosen by strides too, and pixels read from a file often lie channels last.
        images = self.noisy.scaled(group.images.to(self.device)).contiguous()
        canvases = layout.pad(images)
        if group.rows is not None:
            return self.noisy.add_noise(canvases, group.rows.to(self.device))
        clean = canvases.float() / 255
        return clean + self.defense.sigma * torch.randn_like(clean)

    def _blended(self, layout: TileLayout, group: Group, tiles: Tensor) -> Sanitized:
        sound = _finite(tiles, len(group.images))
        images = self._finished(layout, tiles, group.images)
        if not sound.all():
            # A hardware's fault passes; what overflows in bfloat16 may not in single precision.
            again = (~sound).nonzero()[:, 0]
            rows = None if group.rows is None else group.rows[again]
            part = Group(group.images[again], rows)
            found = self._batches("float32", False).submit(layout.cut(self._noisy(layout, part)))()
            images[again], sound[again] = self._finished(layout, found, part.images), _finite(found, len(again))
        return Sanitized(images, sound)

    def _finished(self, layout: TileLayout, tiles: Tensor, images: Tensor) -> Tensor:
        return quantize(self.noisy.restored(layout.blend(tiles, len(images)), images)).cpu()


def _finite(tiles: Tensor, n: int) -> Tensor:
    """``(n,)`` bool on the CPU: whether all tiles of an image are finite."""
    return tiles.reshape(n, -1).isfinite().all(1).cpu()
