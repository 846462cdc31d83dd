"""Images of any size as overlapping tiles of a model's size, and back."""

import math

import torch
from torch import Tensor
from torch.nn.functional import fold

from poison_and_defend.core.errors import InputError

DEFAULT_OVERLAP = 8
"""Jumps between pixels at the borders of tiles, relative to jumps elsewhere and to the clean photographs', are 1.7 to 2.5
without overlap and 1.03 to 1.04 with 8 (sigma .1 and .25, ``docs/records/tiles.json``); more costs tiles and gains nothing."""


def usual_overlap(size: tuple[int, int]) -> int:
    """Pixels that tiles of this size share unless somebody says otherwise: :data:`DEFAULT_OVERLAP`, or a quarter of a tile."""
    return min(DEFAULT_OVERLAP, min(size) // 4)


class TileLayout:
    """Where the tiles of an image lie, and how what a model makes of them is put together again.

    Tiles follow each other at a uniform stride of ``size - overlap`` over a canvas, the image padded evenly on both sides
    by mirroring. An image of exactly ``size`` is its own canvas, one tile. In the overlap a tile fades in as the one
    before it fades out (squared sine, which sums to 1), so that no border is left and a tile's outermost pixels, of
    whose surroundings the model saw least, count least.

    Args:
        height: Of the images, at least 1.
        width: Of the images, at least 1.
        size: Height and width of a tile.
        overlap: Pixels that neighbouring tiles share, 0 to the smaller side of ``size`` less 1.

    Attributes:
        canvas: Height and width ``(Hc, Wc)`` after padding.
        grid: Number of rows and columns of tiles.
        tiles: Tiles of one image, T.
        down: ``(rows, S_h)`` float64, in (0, 1]: what a line of a tile counts. At every line of the canvas these sum to 1,
            and where only one tile lies its weight is exactly 1.
        across: ``(columns, S_w)`` float64, in (0, 1]: what a column of a tile counts; a pixel counts the product of both.

    Raises:
        InputError: If the overlap or the image's size is out of range.
    """

    def __init__(self, height: int, width: int, size: tuple[int, int], overlap: int) -> None:
        if not 0 <= overlap < min(size):
            raise InputError(f"overlap is {overlap}: for tiles of {size[0]} x {size[1]} it is 0 to {min(size) - 1} (--overlap)")
        if min(height, width) < 1:
            raise InputError(f"images are {height} x {width}: at least one pixel is needed (images)")
        self.image, self.size = (height, width), size
        self.stride = (size[0] - overlap, size[1] - overlap)
        rows, columns = (
            1 + math.ceil(max(length - side, 0) / step)
            for length, side, step in zip(self.image, size, self.stride, strict=True)
        )
        self.grid, self.tiles = (rows, columns), rows * columns
        self.canvas = (size[0] + (rows - 1) * self.stride[0], size[1] + (columns - 1) * self.stride[1])
        self.before = ((self.canvas[0] - height) // 2, (self.canvas[1] - width) // 2)
        self.down, self.across = (_fade(side, overlap, count) for side, count in zip(size, self.grid, strict=True))

    def pad(self, images: Tensor) -> Tensor:
        """Mirror images at their edges, edge pixels included and as often as it takes (``symmetric`` of `numpy.pad`).

        Args:
            images: ``(N, C, H, W)`` of any dtype.

        Returns:
            ``(N, C, Hc, Wc)``; the very same tensor if nothing is to be padded.
        """
        if self.canvas == self.image:
            return images
        for axis in (0, 1):
            length = self.image[axis]
            # Mirroring repeats with a period of the image and its reflection, however far the canvas reaches.
            place = (torch.arange(self.canvas[axis], device=images.device) - self.before[axis]) % (2 * length)
            images = images.index_select(2 + axis, torch.minimum(place, 2 * length - 1 - place))
        return images

    def cut(self, canvases: Tensor) -> Tensor:
        """Cut canvases ``(N, C, Hc, Wc)`` of any dtype into ``(N T, C, S_h, S_w)``, image by image, row by row."""
        windows = canvases.unfold(2, self.size[0], self.stride[0]).unfold(3, self.size[1], self.stride[1])
        return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, canvases.shape[1], *self.size)

    def blend(self, tiles: Tensor, n: int) -> Tensor:
        """Put the tiles of ``n`` images together and take the padding off.

        Args:
            tiles: ``(n T, C, S_h, S_w)`` float, in the order of :meth:`cut`.
            n: Number of images.

        Returns:
            ``(n, C, H, W)`` of the same dtype: a weighted mean where tiles overlap, the tile's own value elsewhere.
        """
        placed = tiles.reshape(n, *self.grid, tiles.shape[1], *self.size)
        # One axis after the other: the product of all weights would be as large as the image's tiles.
        weighted = placed * self.down.to(tiles)[:, None, None, :, None] * self.across.to(tiles)[:, None, None, :]
        # Gathers, for every pixel, from the tiles over it: no atomic addition, so that a GPU too repeats its bytes.
        columns = weighted.reshape(n, self.tiles, -1).transpose(1, 2)
        canvases = fold(columns, self.canvas, self.size, stride=self.stride)
        top, left = self.before
        return canvases[:, :, top : top + self.image[0], left : left + self.image[1]]


def _fade(size: int, overlap: int, count: int) -> Tensor:
    """Weights of ``count`` tiles along one axis, ``(count, size)`` float64, which sum to 1 at every place."""
    place = torch.arange(size, dtype=torch.float64) + 0.5
    rise = (place / max(overlap, 1)).clamp(max=1).mul(math.pi / 2).sin().square() if overlap else torch.ones_like(place)
    window = rise * rise.flip(0)
    # Divided by their sum: an overlap of more than half a tile lies under three or more, the first and last tile do not.
    starts = torch.arange(count)[:, None] * (size - overlap)
    places = starts + torch.arange(size)
    total = torch.zeros(size + (count - 1) * (size - overlap), dtype=torch.float64)
    total.index_add_(0, places.flatten(), window.repeat(count))
    return window / total[places]
