"""A defence as an attacker has it who knows of it: what adaptive poisons are optimised through."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.sanitizing import Realisation, Sanitizing
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter
from poison_and_defend.defenses.rewriters.in_order import InOrder
from poison_and_defend.diffusion.gradient_form import gradient_form

_CHUNK = {"cpu": 32}
"""Images that go through a denoiser at once: as many as a CPU's caches hold."""


class KnownDefense(Sanitizing):
    """The rewriters of an arm, looked through: expectation over transformation (Athalye et al., ICML 2018, section 4.2).

    Every step of an attack sees each poison under ``draws`` fresh realisations of the noise, by exact gradients through the
    denoiser, several steps of it checkpointed; what has no gradient, such as JPEG, is passed through (straight-through).

    Args:
        rewriter: What poisons go through.
        draws: Realisations in every step; without noise one is all there are, and of a known seed those that victims get.
        knows_seed: Whether the attacker has the noise itself that victims' images will get, the worst case.
        sigmas: Least and most noise, where he does not know how much there is: each realisation has another, with uniform
            logarithm.
        half: Whether the denoiser computes in bfloat16; on a CPU in a form whose gradients are as fast.
        held_out: Draws that the objective is told on, apart from those of the steps; 0 for not at all.

    Raises:
        InputError: If draws is below 1, held_out below 0, or a sigma is to be guessed of what has none.
    """

    def __init__(
        self,
        rewriter: Rewriter,
        *,
        draws: int = 4,
        knows_seed: bool = False,
        sigmas: tuple[float, float] | None = None,
        half: bool = False,
        held_out: int = 64,
    ) -> None:
        at_least("known_draws", draws, 1, "--known_draws 4")
        at_least("known_held_out", held_out, 0, "--known_held_out 64")
        if sigmas is not None and not isinstance(rewriter, GaussianRewriter):
            raise InputError(f"{rewriter.name} has no sigma that an attacker could guess (--knowledge surrogate_defense)")
        self.rewriter, self.knows_seed, self.sigmas, self.half = rewriter, knows_seed, sigmas, half
        self.held_out = held_out
        self.draws = rewriter.draws if knows_seed else draws if rewriter.sigma else 1
        self.random = rewriter.sigma > 0 and not knows_seed
        self._version = 0

    def draw(self, keys: Tensor, image_shape: tuple[int, int, int], generators: Sequence[torch.Generator]) -> Realisation:
        """See :meth:`Sanitizing.draw`.

        Where sigma is guessed, the first generator draws it for all setups.
        """
        rewriter = self._quick if self.half and keys.device.type == "cpu" else self.rewriter
        if self.knows_seed:
            # One after another those that victims train on.
            rewriter = rewriter.version(self._version % self.draws) if rewriter.draws > 1 else rewriter
            self._version += 1
            noise = rewriter.own_noise(keys.flatten(), image_shape).unflatten(0, keys.shape)
            return Realisation(self._through(rewriter), noise)
        if self.sigmas is not None and isinstance(rewriter, GaussianRewriter):
            least, most = map(math.log, self.sigmas)
            share = torch.rand((), generator=generators[0]).item()
            rewriter = rewriter.with_sigma(math.exp(least + share * (most - least)))
        shape = rewriter.noise_shape(image_shape)
        noise = torch.stack([torch.randn(keys.shape[1], *shape, generator=generator) for generator in generators])
        return Realisation(self._through(rewriter), noise)

    def in_single_precision(self) -> "KnownDefense":
        """The same for who compares its outputs: finite differences are no larger than half precision's rounding."""
        other = copy.copy(self)
        other.half = False
        return other

    @cached_property
    def _quick(self) -> Rewriter:
        return _in_gradient_form(self.rewriter)

    def _through(self, rewriter: Rewriter) -> Callable[[Tensor, Tensor], Tensor]:
        return partial(_rewritten, rewriter, self.half)


def straight_through(rewriter: Rewriter) -> bool:
    """Whether some of the defence has no gradient, and is passed by: then finite differences have nothing to agree with."""
    if isinstance(rewriter, InOrder):
        return any(map(straight_through, rewriter.rewriters))
    return type(rewriter).relaxed is Rewriter.relaxed


def _in_gradient_form(rewriter: Rewriter) -> Rewriter:
    if isinstance(rewriter, InOrder):
        other = copy.copy(rewriter)
        other.rewriters = [_in_gradient_form(one) for one in rewriter.rewriters]
        return other
    if isinstance(rewriter, GaussianRewriter) and rewriter.denoiser is not None:
        return rewriter.using(gradient_form(rewriter.denoiser))
    return rewriter


def _rewritten(rewriter: Rewriter, half: bool, images: Tensor, noise: Tensor) -> Tensor:
    """Images and noise through a rewriter, as many at once as the device likes."""
    size = _CHUNK.get(images.device.type, len(images))
    if half:
        # What convolutions in half precision want.
        images = images.contiguous(memory_format=torch.channels_last)
    # On a CPU the denoiser itself is in half precision.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half and images.device.type != "cpu"):
        parts = [rewriter.relaxed(*part) for part in zip(images.split(size), noise.split(size), strict=True)]
    return torch.cat(parts).to(images)
