"""Which batch size a GPU is fastest with."""

import time

import torch

from poison_and_defend.diffusion.batches import BatchedDenoiser, Precision
from poison_and_defend.diffusion.denoiser import Denoiser

_SMALLEST, _LARGEST = 32, 4096
# Each doubling must bring that much, or memory is better left to others.
_GAIN = 1.05


def find_batch_size(
    denoiser: Denoiser, sigma: float, device: torch.device, *, precision: Precision, compiled: bool, smallest: int = _SMALLEST
) -> int:
    """Double the batch until a doubling gains less than 5 % of speed, or memory runs out.

    Args:
        denoiser: What is evaluated.
        sigma: Of the noise.
        device: A GPU.
        precision: Of the denoiser.
        compiled: Whether it is compiled, once for every size that is tried.
        smallest: Where to begin.

    Returns:
        The size before the last doubling that brought anything; ``smallest`` if nothing larger fits.
    """
    best, best_rate = smallest, 0.0
    size = smallest
    while size <= _LARGEST:
        try:
            rate = _rate(
                BatchedDenoiser(denoiser, sigma, batch_size=size, device=device, precision=precision, compiled=compiled)
            )
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if rate < _GAIN * best_rate:
            break
        best, best_rate = size, rate
        size *= 2
    return best


def _rate(batched: BatchedDenoiser) -> float:
    """Images per second."""
    model = batched.model
    noisy = torch.rand(batched.batch_size, model.channels, *model.size, device=batched.device)
    # The first evaluation chooses kernels.
    batched.submit(noisy)().sum().item()
    started = time.perf_counter()
    for _ in range(3):
        batched.submit(noisy)().sum().item()
    return 3 * batched.batch_size / (time.perf_counter() - started)
