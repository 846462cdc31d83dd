"""A denoiser evaluated in batches of one shape: on the threads of a CPU, or ahead of the caller on a GPU."""

import copy
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import torch
from torch import Tensor, nn

from poison_and_defend.core.bounds import at_least
from poison_and_defend.diffusion.denoiser import Denoiser

Precision = Literal["float32", "bfloat16"]

# Activations of a few images stay in a core's cache, and a few batches keep every core busy to the end.
_CPU_CHUNK = 16


class Abandoned(Exception):
    """What was begun is not wanted any more."""


class BatchedDenoiser:
    """Evaluates a copy of a denoiser, its weights channels last, on batches that all have one shape.

    Kernels are chosen by shape and round differently, so that the last batch is padded. On a CPU every thread evaluates
    sixteen images at a time by itself, which takes two thirds of the time of all threads sharing each operation, and
    gives the same bytes for any number of threads.

    Args:
        denoiser: What is copied; it stays as it is.
        sigma: Of the noise that :meth:`submit` gets, in [0, 1] units.
        batch_size: Images per evaluation, at least 1; on a CPU at most sixteen of them at once.
        device: Where to compute.
        precision: Of weights and activations; ``bfloat16`` is meant for GPUs.
        compiled: Whether `torch.compile` rewrites the model, which takes minutes at the first batch.

    Attributes:
        abandon: Asked before every evaluation; where it says so, :class:`Abandoned` is raised. It may be set.

    Raises:
        InputError: If ``batch_size`` is below 1.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sigma: float,
        *,
        batch_size: int,
        device: torch.device,
        precision: Precision = "float32",
        compiled: bool = False,
    ) -> None:
        at_least("batch_size", batch_size, 1, "batch_size")
        self.model = copy.deepcopy(denoiser).eval().to(device=device)
        exact = copy.deepcopy(self.model.unet.time_proj)
        # Not the model's own `to`, which warns of a change of precision.
        nn.Module.to(self.model.unet, dtype=getattr(torch, precision), memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The frequencies of a Fourier embedding are wrong when they are rounded to eight bits.
        self.model.unet.time_proj = exact
        if compiled:
            self.model.unet.compile()
        self.sigma, self.batch_size, self.device = sigma, batch_size, device
        # Two threads must not compile at once, and a compiled model has threads of its own.
        self._threaded = device.type == "cpu" and not compiled
        self.chunk = min(batch_size, _CPU_CHUNK) if self._threaded else batch_size
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self.abandon: Callable[[], bool] = bool

    def submit(self, noisy: Tensor, *, padded: bool = True) -> Callable[[], Tensor]:
        """Start denoising and return at once.

        Args:
            noisy: ``(M, C, S_h, S_w)`` float32 on the device: images in [0, 1] plus noise of sigma.
            padded: False for a last batch as small as it comes, whose bytes then need not repeat.

        Returns:
            A function that waits for ``(M, C, S_h, S_w)`` float32, in [0, 1] or not finite.
        """
        batches = [self._full(batch) if padded else batch for batch in noisy.split(self.chunk)]
        pool = self.begin_threads()
        if pool is None:
            done = [self._evaluate(batch) for batch in batches]
            return lambda: torch.cat(done)[: len(noisy)]
        waiting: list[Future[Tensor]] = [pool.submit(self._evaluate, batch) for batch in batches]
        return lambda: torch.cat([future.result() for future in waiting])[: len(noisy)]

    @torch.no_grad()
    def _evaluate(self, batch: Tensor) -> Tensor:
        if self.abandon():
            raise Abandoned
        return self.model(batch.contiguous(memory_format=torch.channels_last), self.sigma)  # type: ignore[no-any-return]

    def _full(self, batch: Tensor) -> Tensor:
        missing = self.chunk - len(batch)
        return torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)]) if missing else batch

    def begin_threads(self) -> ThreadPoolExecutor | None:
        """The threads, as many as torch had when they were first asked for; None on a GPU, or for a single one."""
        # Threads do not survive a fork, which is how workers of a DataLoader come to be.
        if self._pool is not None and self._pool[0] == os.getpid():
            return self._pool[1]
        if not self._threaded or torch.get_num_threads() == 1:
            return None
        pool = ThreadPoolExecutor(torch.get_num_threads(), "denoise", initializer=torch.set_num_threads, initargs=(1,))
        self._pool = (os.getpid(), pool)
        return pool

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}
