"""FrieNDs: Liu, Yang, Mirzasoleiman, "Friendly Noise against Adversarial Noise", NeurIPS 2022."""

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length
from poison_and_defend.defenses.training.base import Training
from poison_and_defend.defenses.training.course import Epoch, Run, Step

RandomNoise = Literal["bernoulli", "gaussian"]

# The authors'; a rate of 100 on the mean of a batch makes its size part of the method.
_BATCH, _RATE, _MOMENTUM, _START = 128, 100.0, 0.9, 8 / 255


class Friends(Training):
    """Train on images plus noise as large as each prediction bears, and on random noise that is new in every step.

    Once, after ``warmup`` epochs, noise ``e`` from U(+-8/255) descends, by 30 steps of SGD (rate 100, Nesterov momentum .9,
    batches of 128 rows, evaluation mode), the objective as the authors compute it: the batch mean of
    ``KL(p(x) || p(clip(x + clip(e))))`` less the mean of ``clip(e)^2`` over all pixels, where ``clip(e)`` is within ``eps``.
    From then on images are ``clip(x + clip(e))`` plus random noise of ``random_eps``, which is not clipped, and then augmented;
    before, there is the random noise alone, as in the authors' runs.

    As both terms are means, the rate that a pixel sees depends on the number of pixels and on the last batch, which is shorter:
    on images smaller than 32 x 32 x 3 noise grows faster than in the paper. The authors' rate schedule is never stepped in
    their code, and there is none here. Noise is kept in half precision, to 1/30,000 of the pixel range.

    Args:
        eps: Largest noise ``e`` in [0, 1] pixel units, a number or a fraction such as ``16/255``, the authors'.
        random: Random noise, ``bernoulli``, which is +-``random_eps`` for every pixel, or ``gaussian`` of that deviation.
        random_eps: Size of the random noise in [0, 1] pixel units, 8/255 in the authors' code.
        warmup: Epochs before ``e`` is found; null for the authors' 5 from scratch, and for 0 where heads are trained.
        steps: Steps of SGD for every row.

    Raises:
        InputError: If a value is out of range.
    """

    name = "friends"
    label = "FrieNDs"
    color = "#c26d8f"

    def __init__(
        self,
        eps: float | str = "16/255",
        random: RandomNoise = "bernoulli",
        random_eps: float | str = "8/255",
        warmup: int | None = None,
        steps: int = 30,
    ) -> None:
        self.eps, self.random_eps = _size("eps", eps), _size("random_eps", random_eps)
        if random not in get_args(RandomNoise):
            raise InputError(f"random of FrieNDs is {random!r}: it is bernoulli or gaussian (--*.random)")
        at_least("warmup", warmup or 0, 0, "--*.warmup 5", of="of FrieNDs")
        at_least("steps", steps, 1, "--*.steps 30", of="of FrieNDs")
        self.random, self.warmup, self.steps = random, warmup, steps

    def check_run(self, run: Run) -> None:
        """See :meth:`Training.check_run`."""
        if self._first(run.heads) >= run.epochs:
            raise InputError(
                f"warmup of FrieNDs is {self._first(run.heads)}: of {run.epochs} epochs it must leave one (--*.warmup, "
                "--*recipe.epochs)"
            )

    def between_epochs(self, epoch: Epoch) -> None:
        """See :meth:`Training.between_epochs`."""
        if epoch.number != self._first(epoch.heads):
            return
        drawn, found = epoch.generators(), []
        for rows in torch.arange(epoch.labels.shape[1]).split(_BATCH):
            images = epoch.inputs(rows)
            start = torch.stack([torch.rand(images.shape[1:], generator=one) for one in drawn]).to(images)
            found.append(self._friendly(epoch, images, (2 * start - 1) * _START).half())
        epoch.state["noise"] = torch.cat(found, 1)

    def unaugmented(self, step: Step) -> Step:
        """See :meth:`Training.unaugmented`."""
        images, noise = step.inputs, step.state.get("noise")
        if noise is not None:
            member = torch.arange(len(images), device=images.device)[:, None]
            images = (images + noise[member, step.rows].to(images)).clamp(0, 1)
        return replace(step, inputs=images + self._random(step).to(images))

    def _first(self, heads: bool) -> int:
        """The epoch before which noise is found."""
        if self.warmup is not None:
            return self.warmup
        return 0 if heads else 5

    def _friendly(self, epoch: Epoch, images: Tensor, noise: Tensor) -> Tensor:
        """Noise of a batch of every member; each member's loss is its own, so that their sum has every one's gradient."""
        with torch.no_grad():
            clean = epoch.logits(images).log_softmax(-1)
        noise = noise.requires_grad_()
        optimizer = torch.optim.SGD([noise], lr=_RATE, momentum=_MOMENTUM, nesterov=True)
        for _ in range(self.steps):
            clipped = noise.clamp(-self.eps, self.eps)
            seen = epoch.logits((images + clipped).clamp(0, 1)).log_softmax(-1)
            divergence = (clean.exp() * (clean - seen)).sum(-1).mean(1)
            loss = divergence - clipped.square().flatten(1).mean(1)
            (noise.grad,) = torch.autograd.grad(loss.sum(), [noise])
            optimizer.step()
        return noise.detach().clamp(-self.eps, self.eps)

    def _random(self, step: Step) -> Tensor:
        shape, drawn = step.inputs.shape[1:], step.generators()
        if self.random == "gaussian":
            return self.random_eps * torch.stack([torch.randn(shape, generator=one) for one in drawn])
        signs = torch.stack([torch.randint(2, shape, generator=one) for one in drawn])
        return self.random_eps * (2.0 * signs - 1)


def _size(name: str, value: float | str) -> float:
    size = parse_length(value)
    if not 0 <= size <= 1:
        raise InputError(f"{name} of FrieNDs is {value!r}: it is a number or a fraction in [0, 1], as 16/255 (--*.{name})")
    return size
