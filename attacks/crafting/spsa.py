"""Gradients from values alone: simultaneous perturbation stochastic approximation (SPSA).

Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation" (IEEE Transactions on
Automatic Control 37, 1992); as an attack on defences whose gradient may mislead: Uesato, O'Donoghue, Kohli, van den Oord,
"Adversarial Risk and the Dangers of Evaluating Against Weak Attacks" (ICML 2018).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.sanitizing import Realisation, Sanitizing
from poison_and_defend.core.bounds import at_least

_STREAM = 4_000_037
STEP = 0.01
"""Half the distance of the two values that are compared, in [0, 1] pixel units: 2.5 grey levels."""


def spsa_gradient(
    values_of: Callable[[Tensor], Tensor], images: Tensor, *, samples: int, generator: torch.Generator, step: float = STEP
) -> Tensor:
    """Estimate of a gradient: the mean over samples of ``(f(x + c d) - f(x - c d)) / (2 c) * d`` with random signs d.

    The formula divides by each entry of d, which equals multiplying by it, since it is 1 or -1. Unbiased but for terms in the
    square of c.

    Args:
        values_of: Images ``(n, C, H, W)`` to one value each, ``(n,)``; no image's value may depend on another image.
        images: ``(n, C, H, W)`` float; not clipped to [0, 1] when moved.
        samples: How many directions, each of which costs two values an image.
        generator: Of the signs, on the CPU.
        step: The formula's c.

    Returns:
        In the shape of the images.
    """
    at_least("samples", samples, 1, "--spsa_samples 8")
    total = torch.zeros_like(images)
    for _ in range(samples):
        signs = (torch.randint(0, 2, images.shape, generator=generator) * 2 - 1).to(images)
        change = values_of(images + step * signs) - values_of(images - step * signs)
        total += change[:, None, None, None] / (2 * step) * signs
    return total / samples


class BlackBox(Sanitizing):
    """A known defence of which an attacker has the outputs but no gradient: what comes back through it is SPSA's estimate.

    The attack itself is unchanged: its objective, its optimiser and its draws. Behind the defence its gradient is exact, so
    that the estimate has as few dimensions as one image has values.

    Args:
        inner: The defence.
        samples: Directions for each image and view, two outputs each.
        seed: Of the directions.
    """

    def __init__(self, inner: Sanitizing, samples: int = 8, seed: int = 0) -> None:
        at_least("spsa_samples", samples, 1, "--spsa_samples 8")
        self.inner, self.samples = inner, samples
        self.draws, self.random, self.held_out = inner.draws, inner.random, inner.held_out
        self._generator = torch.Generator().manual_seed((seed + _STREAM) % 2**63)

    def draw(self, keys: Tensor, image_shape: tuple[int, int, int], generators: Sequence[torch.Generator]) -> Realisation:
        """See :meth:`Sanitizing.draw`."""
        drawn = self.inner.draw(keys, image_shape, generators)
        return replace(drawn, rewrite=partial(_through, drawn.rewrite, self.samples, self._generator))


def _through(
    rewrite: Callable[[Tensor, Tensor], Tensor], samples: int, generator: torch.Generator, images: Tensor, noise: Tensor
) -> Tensor:
    found: Tensor = _Estimated.apply(images, noise, rewrite, samples, generator)
    return found


class _Estimated(torch.autograd.Function):
    """Forwards the defence, backwards SPSA on the product of what it hands out with the gradient that arrives there."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        noise: Tensor,
        rewrite: Callable[[Tensor, Tensor], Tensor],
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        ctx.save_for_backward(images, noise)
        ctx.rewrite, ctx.samples, ctx.generator = rewrite, samples, generator
        return rewrite(images, noise)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, noise = ctx.saved_tensors
        weights = gradients[0].detach()

        @torch.no_grad()
        def values_of(moved: Tensor) -> Tensor:
            found: Tensor = (ctx.rewrite(moved, noise) * weights).flatten(1).sum(1)
            return found

        estimate = spsa_gradient(values_of, images.detach(), samples=ctx.samples, generator=ctx.generator)
        return estimate, None, None, None, None
