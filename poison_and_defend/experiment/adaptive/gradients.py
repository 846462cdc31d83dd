"""Whether the gradient that an attack gets through a defence is the defence's: finite differences in double precision."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from poison_and_defend.attacks.threat.sanitizing import Realisation, Sanitizing
from poison_and_defend.defenses.rewriters.base import Rewriter

_STEP = 1e-5
_IMAGES = 4


@dataclass(eq=False)
class Seen:
    """One look of an attack through the defence.

    Attributes:
        images: ``(n, C, H, W)`` as they went in.
        noise: Of each.
        arrived: The objective's gradient by what came out; None if none came.
        returned: The gradient that the attack got by what went in; None if none.
    """

    images: Tensor
    noise: Tensor
    arrived: Tensor | None = None
    returned: Tensor | None = None


@dataclass(eq=False)
class Probe(Sanitizing):
    """A known defence that writes down what goes in and the gradients that come back, and changes nothing."""

    inner: Sanitizing
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draws, self.random, self.held_out = self.inner.draws, self.inner.random, self.inner.held_out

    def draw(self, keys: Tensor, image_shape: tuple[int, int, int], generators: Sequence[torch.Generator]) -> Realisation:
        """See :meth:`Sanitizing.draw`."""
        drawn = self.inner.draw(keys, image_shape, generators)

        def rewrite(images: Tensor, noise: Tensor) -> Tensor:
            if not images.requires_grad or not torch.is_grad_enabled():
                return drawn.rewrite(images, noise)
            look = Seen(images.detach().clone(), noise.detach().clone())
            self.seen.append(look)
            # Of an own node, since a leaf's hook would see the sum over all views.
            entry = images * 1
            entry.register_hook(lambda gradient: setattr(look, "returned", gradient.detach().clone()))
            found = drawn.rewrite(entry, noise)
            # A defence that lets no gradient through has nothing to hang a hook on.
            found = found + 0 * images
            found.register_hook(lambda gradient: setattr(look, "arrived", gradient.detach().clone()))
            return found

        return replace(drawn, rewrite=rewrite)


def gradient_error(rewriter: Rewriter, look: Seen, directions: int, seed: int = 0) -> float:
    """How far the gradient that came back is from the defence's own, along random directions.

    Args:
        rewriter: The defence, of which a copy is computed in double precision.
        look: With a gradient that arrived.
        directions: How many; each image's is random, of length one.

    Returns:
        ``|finite differences - derivatives| / |finite differences|`` over directions and images; infinite where the gradient
        did not come back, or there is nothing to compare with.
    """
    if look.arrived is None or look.returned is None:
        return float("inf")
    # The images that matter most to the objective.
    first = look.arrived.flatten(1).norm(dim=1).topk(min(_IMAGES, len(look.images))).indices
    images, noise = look.images[first].double(), look.noise[first].double()
    weights, returned = look.arrived[first].double(), look.returned[first].double()
    defence, generator = in_double(rewriter), torch.Generator().manual_seed(seed)
    wanted, found = [], []
    for _ in range(directions):
        way = torch.randn(images.shape, generator=generator, dtype=torch.float64).to(images)
        way = way / way.flatten(1).norm(dim=1)[:, None, None, None]
        with torch.no_grad():
            change = defence.relaxed(images + _STEP * way, noise) - defence.relaxed(images - _STEP * way, noise)
        wanted.append((change * weights).flatten(1).sum(1) / (2 * _STEP))
        found.append((returned * way).flatten(1).sum(1))
    exact, own = torch.stack(wanted), torch.stack(found)
    return float((exact - own).norm() / exact.norm()) if exact.norm() > 0 else float("inf")


def in_double(rewriter: Rewriter) -> Rewriter:
    """A copy whose networks compute in double precision."""
    other = copy.deepcopy(rewriter)
    for part in _networks(other):
        part.double()
    return other


def _networks(rewriter: Rewriter) -> list[nn.Module]:
    inner = [*getattr(rewriter, "rewriters", []), getattr(rewriter, "rewriter", None)]
    own = [value for value in (rewriter.denoiser, *vars(rewriter).values()) if isinstance(value, nn.Module)]
    return own + [module for one in inner if isinstance(one, Rewriter) for module in _networks(one)]
