"""What tiles cost in quality: seams at their borders, and the denoiser's estimate against that of the whole image at once.

A convolutional UNet also takes a whole larger image, so that both can be compared. Seams: the mean jump between neighbouring
pixels across the borders of tiles, over that elsewhere, over the same ratio of the clean photographs; 1 is no seam.

    python benchmarks/tiles.py --out docs/records/tiles.json
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from poison_and_defend.core.files import write_json
from poison_and_defend.defenses import Diffusion
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.tiles import TileLayout
from poison_and_defend.reports.image_quality import similarity
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.sanitizing.tiled import Group, TiledDefense


def pieces(size: int, count: int) -> Tensor:
    """``(count, 3, size, size)`` uint8 from two photographs, scaled to half so that they have detail."""
    photographs = [torch.from_numpy(photograph[::2, ::2].copy()) for photograph in load_sample_images().images]
    places = np.random.default_rng(0)
    cut = []
    for number in range(count):
        photograph = photographs[number % 2]
        top, left = places.integers(0, photograph.shape[0] - size), places.integers(0, photograph.shape[1] - size)
        cut.append(photograph[top : top + size, left : left + size].permute(2, 0, 1))
    return torch.stack(cut).contiguous()


def seams(images: Tensor, layout: TileLayout) -> float:
    """Mean jump across the edges of tiles over the mean jump elsewhere, in both directions."""
    at_border: list[float] = []
    elsewhere: list[float] = []
    for axis in (0, 1):
        jumps = images.float().diff(dim=2 + axis).abs().mean(dim=(0, 1, 3 - axis))
        starts = [number * layout.stride[axis] - layout.before[axis] for number in range(1, layout.grid[axis])]
        # Both ends of every overlap.
        edges = {start - 1 for start in starts} | {start - 1 + layout.size[axis] - layout.stride[axis] for start in starts}
        for place, jump in enumerate(jumps.tolist()):
            (at_border if place in edges else elsewhere).append(jump)
    return float(np.mean(at_border) / np.mean(elsewhere))


def measure(defense: Diffusion, clean: Tensor, overlap: int) -> dict[str, Any]:
    """Tiles with one overlap."""
    tiled = TiledDefense(defense, batch_size=64, overlap=overlap)
    layout = tiled.layout(clean)
    found = tiled([Group(clean, torch.arange(len(clean)))])[0].images
    psnr, ssim = similarity(clean, found)
    return {
        "overlap": overlap,
        "tiles": layout.tiles,
        "seam": round(seams(found, layout) / seams(clean, layout), 3),
        "psnr": round(float(psnr.mean()), 3),
        "ssim": round(float(ssim.mean()), 4),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--denoiser", default="cifar10")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.1, 0.25])
    parser.add_argument("--overlaps", type=int, nargs="+", default=[0, 2, 4, 8, 16])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model, clean = load_denoiser(given.denoiser), pieces(given.size, given.images)
    results = []
    for sigma in given.sigmas:
        defense = Diffusion(sigma, model, seed=0)
        psnr, ssim = similarity(clean, defense(clean, torch.arange(len(clean))))
        whole = {"psnr": round(float(psnr.mean()), 3), "ssim": round(float(ssim.mean()), 4)}
        rows = [measure(defense, clean, overlap) for overlap in given.overlaps]
        results.append({"sigma": sigma, "whole_image_at_once": whole, "tiles": rows})
        print(f"sigma {sigma:g}: whole image {whole}")
        for row in rows:
            print(f"  {row}")
    if given.out is not None:
        record = {"denoiser": given.denoiser, "size": given.size, "images": given.images, "results": results}
        write_json(given.out, record | provenance("cpu", 1))


if __name__ == "__main__":
    main()
