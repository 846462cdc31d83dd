"""Gradient shaping: Hong et al., "On the Effectiveness of Mitigating Data Poisoning Attacks with Gradient Shaping", 2020.

arXiv:2002.11497. DP-SGD is algorithm 1 of Abadi et al., "Deep Learning with Differential Privacy", CCS 2016.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from poison_and_defend.core.bounds import above, at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.training.base import Training
from poison_and_defend.defenses.training.course import Run, State, Step
from poison_and_defend.defenses.training.privacy import (
    gaussian_bound,
    gaussian_epsilon,
    group_bound,
    poisson_epsilon,
    shuffled_mu,
)


class DPSGD(Training):
    """Clip every row's own gradient and add noise: ``(sum_i g_i min(1, C / |g_i|) + N(0, z^2 C^2)) / B``.

    Its privacy loss and what that proves about the poisons are in the records. In Abadi et al. batches are Poisson samples of
    any size, and the accountant counts on that; here, as in most implementations, they are shuffled and of one size. So
    ``epsilon``, what papers state, is that of *another* sampling, and may be too small for this one (Chua et al., "How Private
    are DP-SGD Implementations?", ICML 2024). ``shuffled_epsilon`` holds for what is computed, without any gain from sampling.
    Both suppose that the seed, from which the noise is drawn, is secret, and that nothing else looked at the rows: neither a
    filter nor the mean and deviation that images are normalized by.

    Args:
        clip: Norm C, over all parameters, that a row's gradient is scaled down to.
        noise: Noise multiplier z: standard deviation of the noise in the sum, relative to ``clip``; 0 clips alone, and proves
            nothing.
        delta: Of the (epsilon, delta) privacy that is recorded.

    Raises:
        InputError: If a value is out of range.
    """

    name = "dp_sgd"
    label = "DP-SGD"
    color = "#7b5aa6"
    changes_images = False

    def __init__(self, clip: float = 1.0, noise: float = 1.0, delta: float = 1e-5) -> None:
        _check(self.label, clip, noise)
        if not 0 < delta < 1:
            raise InputError(f"delta of DP-SGD is {delta:g}: it must be between 0 and 1 (--*.delta)")
        self.clip, self.noise, self.delta = float(clip), float(noise), float(delta)

    def check_network(self, network: nn.Module, option: str) -> None:
        """See :meth:`Training.check_network`."""
        for name, module in network.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise InputError(
                    f"{name} normalizes by the batch, so that no row has a gradient of its own that DP-SGD could clip: take a "
                    f"network without batch normalization, such as convnet ({option})"
                )

    def facts(self, run: Run) -> dict[str, float]:
        """Privacy loss at ``delta``, and the most that an event of the probability of a guess can have with the poisons.

        A poison is a changed row, which under Poisson sampling counts as one row less and one more.
        """
        if self.noise == 0:
            return {}
        steps = run.epochs * -(-run.rows // run.batch_size)
        epsilon = poisson_epsilon(self.noise, run.batch_size, run.rows, steps, self.delta)
        guess = 1 / run.num_classes
        return {
            "delta": self.delta,
            "epsilon": round(epsilon, 4),
            "guess_bound": round(group_bound(guess, epsilon, self.delta, 2 * run.poisons), 6),
            "shuffled_epsilon": round(gaussian_epsilon(shuffled_mu(self.noise, run.epochs), self.delta), 4),
            "shuffled_guess_bound": round(gaussian_bound(guess, shuffled_mu(self.noise, run.epochs, run.poisons)), 6),
        }

    def row_factors(self, norms: Tensor) -> Tensor:
        """See :meth:`Training.row_factors`."""
        return _clipping(norms, self.clip)

    def gradient(self, gradients: State, step: Step) -> State:
        """See :meth:`Training.gradient`."""
        return _noisy(gradients, self.noise * self.clip / step.labels.shape[1], step.generators())


class GradientShaping(Training):
    """Clip the gradient of a *batch* and add noise: ``g min(1, C / |g|) + N(0, z^2 C^2)``.

    What comparisons of countermeasures plot as DP-SGD (Geiping et al., arXiv:2102.13624, and others with their code): cheap,
    but no row is bounded, so that it has no privacy loss and proves nothing. Hong et al. clip every row, as :class:`DPSGD`.

    Args:
        clip: Norm C, over all parameters, that a step's gradient is scaled down to.
        noise: Standard deviation of the noise in the gradient, relative to ``clip``; 1e-4 to 1e-2 in those comparisons.

    Raises:
        InputError: If a value is out of range.
    """

    name = "gradient_shaping"
    color = "#a48cc7"
    changes_images = False

    def __init__(self, clip: float = 1.0, noise: float = 1e-2) -> None:
        _check("gradient shaping", clip, noise)
        self.clip, self.noise = float(clip), float(noise)

    def gradient(self, gradients: State, step: Step) -> State:
        """See :meth:`Training.gradient`."""
        norms = torch.stack([value.flatten(1).square().sum(1) for value in gradients.values()]).sum(0).sqrt()
        factors = _clipping(norms, self.clip)
        clipped = {name: value * factors.view(-1, *[1] * (value.ndim - 1)) for name, value in gradients.items()}
        return _noisy(clipped, self.noise * self.clip, step.generators())


def _clipping(norms: Tensor, clip: float) -> Tensor:
    return (clip / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1)


def _noisy(gradients: State, deviation: float, drawn: Sequence[torch.Generator]) -> State:
    """Noise that each member draws on the CPU, so that it is the same on every device."""
    if deviation == 0:
        return gradients
    return {
        name: value + deviation * torch.stack([torch.randn(value.shape[1:], generator=one) for one in drawn]).to(value)
        for name, value in gradients.items()
    }


def _check(of: str, clip: float, noise: float) -> None:
    above("clip", clip, 0, "--*.clip", of=f"of {of}")
    at_least("noise", noise, 0, "--*.noise", of=f"of {of}")
    for name, value in (("clip", clip), ("noise", noise)):
        if value == float("inf"):
            raise InputError(f"{name} of {of} is inf: it must be a finite number (--*.{name})")
