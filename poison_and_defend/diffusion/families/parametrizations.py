"""What the output of a diffusion model's network means, as pure formulas: from it to an estimate of the clean image.

Every family noises an image x in the model's own units, ``signal(t) x + noise(t) n`` with n ~ N(0, I), asks its network about
that state and a number which says t, and estimates x. At its optimum the estimate is the posterior mean of x.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.families.schedule import largest_sigma, timestep_for

Network = Callable[[Tensor, float], Tensor]
"""State ``(N, C, H, W)`` and what the network is conditioned on (an int where timesteps are discrete) to its output."""


class Parametrization(ABC):
    """One family of diffusion models.

    Attributes:
        span: Lowest and highest value of a pixel in the model's units; images in [0, 1] are scaled to it.
    """

    span: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    @property
    @abstractmethod
    def largest(self) -> float:
        """The most noise that the schedule knows, as a standard deviation for images in [0, 1]."""

    @property
    @abstractmethod
    def description(self) -> str:
        """All that the estimate depends on besides the network, always written alike."""

    @abstractmethod
    def start(self, sigma: float) -> float:
        """The time whose noise covers that of an image in [0, 1] with noise of standard deviation ``sigma``.

        Raises:
            InputError: If sigma is negative or above ``largest``.
        """

    @abstractmethod
    def path(self, start: float, steps: int) -> list[float]:
        """At most ``steps`` times from ``start`` towards no noise, decreasing and without its end."""

    @abstractmethod
    def signal(self, time: float) -> float:
        """What the clean image is multiplied by."""

    @abstractmethod
    def noise(self, time: float) -> float:
        """Standard deviation of the noise, in the model's units."""

    @abstractmethod
    def estimate(self, network: Network, state: Tensor, time: float) -> Tensor:
        """The clean image in the model's units, not clipped, from the state at ``time``."""

    def to_model(self, images: Tensor) -> Tensor:
        """Images in [0, 1], or with noise beyond, in the model's units."""
        return 2 * images - 1 if self.span[0] else images

    def to_images(self, clean: Tensor) -> Tensor:
        """The reverse of :meth:`to_model`."""
        return (clean + 1) / 2 if self.span[0] else clean


@dataclass(frozen=True, eq=False)
class VariancePreserving(Parametrization):
    """Discrete time, ``sqrt(abar_t) x + sqrt(1 - abar_t) n`` (Ho et al., NeurIPS 2020), images in [-1, 1].

    Args:
        alphas_cumprod: ``(T,)`` float64 on the CPU, abar of every timestep, decreasing.
        prediction: What the network estimates: ``epsilon`` (n), ``sample`` (x) or ``v_prediction``
            (sqrt(abar_t) n - sqrt(1 - abar_t) x; Salimans and Ho, ICLR 2022).
    """

    alphas_cumprod: Tensor
    prediction: str

    @property
    def largest(self) -> float:
        """The last ratio of noise to signal that is finite."""
        return largest_sigma(self.alphas_cumprod)

    @property
    def description(self) -> str:
        """See :class:`Parametrization`."""
        return f"{self.prediction} {tuple(self.alphas_cumprod.tolist())}"

    def start(self, sigma: float) -> int:
        """See :class:`Parametrization`: the first timestep that is at least as noisy."""
        return timestep_for(sigma, self.alphas_cumprod)

    def path(self, start: float, steps: int) -> list[float]:
        """See :class:`Parametrization`: evenly spaced timesteps, each once."""
        times = torch.linspace(start, 0, steps + 1).round().long().tolist()[:-1]
        return list(dict.fromkeys(times))

    def signal(self, time: float) -> float:
        """See :class:`Parametrization`."""
        return float(self.alphas_cumprod[int(time)].sqrt())

    def noise(self, time: float) -> float:
        """See :class:`Parametrization`."""
        return float((1 - self.alphas_cumprod[int(time)]).sqrt())

    def estimate(self, network: Network, state: Tensor, time: float) -> Tensor:
        """See :class:`Parametrization`."""
        return clean_estimate(self.prediction, state, network(state, time), self.signal(time), self.noise(time))


def clean_estimate(prediction: str, state: Tensor, output: Tensor, signal: Tensor | float, noise: Tensor | float) -> Tensor:
    """The clean image in the model's units, not clipped, that an output of a variance-preserving model stands for.

    Args:
        prediction: ``epsilon``, ``sample`` or ``v_prediction``.
        state: ``signal x + noise n``, ``(N, C, H, W)``.
        output: Of the network, of the same shape.
        signal: What x is multiplied by: one number, or one that broadcasts to each image.
        noise: Standard deviation, likewise.
    """
    if prediction == "sample":
        return output
    if prediction == "v_prediction":
        return signal * state - noise * output
    return (state - noise * output) / signal


class _Continuous(Parametrization):
    """Families without timesteps: the model is told exactly the noise that was added, but never less than it knows."""

    def _checked(self, sigma: float) -> float:
        if not 0 <= sigma <= self.largest:
            raise InputError(f"sigma is {sigma:g}: this denoiser's schedule covers 0 to {self.largest:.4g} (--sigma)")
        return sigma


class _Additive(_Continuous):
    """Time is the noise's standard deviation."""

    def signal(self, time: float) -> float:
        """See :class:`Parametrization`."""
        return 1.0

    def noise(self, time: float) -> float:
        """See :class:`Parametrization`."""
        return time


@dataclass(frozen=True)
class VarianceExploding(_Additive):
    """``x + s n`` with images in [0, 1]; the network is told s and returns the score (Song et al., ICLR 2021, section 3.4).

    Tweedie's formula makes an image of it: E[x | y] = y + s^2 grad log p_s(y). Several steps are spaced evenly in log s, as the
    paper's noise levels are.

    Args:
        least: The least s of the schedule, above 0.
        most: The most.
    """

    span: ClassVar[tuple[float, float]] = (0.0, 1.0)
    least: float
    most: float

    @property
    def largest(self) -> float:
        """See :class:`Parametrization`."""
        return self.most

    @property
    def description(self) -> str:
        """See :class:`Parametrization`."""
        return f"variance exploding, {self.least} to {self.most}"

    def start(self, sigma: float) -> float:
        """See :class:`Parametrization`."""
        return max(self._checked(sigma), self.least)

    def path(self, start: float, steps: int) -> list[float]:
        """See :class:`Parametrization`."""
        return list(dict.fromkeys(start * (self.least / start) ** (step / steps) for step in range(steps)))

    def estimate(self, network: Network, state: Tensor, time: float) -> Tensor:
        """See :class:`Parametrization`."""
        return state + time**2 * network(state, time)


@dataclass(frozen=True)
class Preconditioned(_Additive):
    """EDM: ``x + s n`` with images in [-1, 1], so that s is twice sigma (Karras et al., NeurIPS 2022, equation 7 and table 1).

    The estimate is c_skip y + c_out F(c_in y; ln(s) / 4) with c_in = 1 / sqrt(s^2 + d^2), c_skip = d^2 c_in^2, c_out = s d c_in
    and d the data's standard deviation. Several steps are spaced evenly in s^(1 / rho), equation 5.

    Args:
        least: The least s of the schedule, above 0.
        most: The most.
        sigma_data: d.
        rho: Of the spacing.
        negated: Whether F has the other sign, which diffusers calls ``v_prediction``.
    """

    least: float
    most: float
    sigma_data: float
    rho: float
    negated: bool

    @property
    def largest(self) -> float:
        """Half of ``most``: images in [0, 1] are half as wide."""
        return self.most / 2

    @property
    def description(self) -> str:
        """See :class:`Parametrization`."""
        sign = "negated" if self.negated else "plain"
        return f"preconditioned, {self.least} to {self.most}, data {self.sigma_data}, rho {self.rho}, {sign}"

    def start(self, sigma: float) -> float:
        """See :class:`Parametrization`."""
        return max(2 * self._checked(sigma), self.least)

    def path(self, start: float, steps: int) -> list[float]:
        """See :class:`Parametrization`."""
        first, last = start ** (1 / self.rho), self.least ** (1 / self.rho)
        # The first as it is, not as its root's power.
        return [start] + [(first + step / steps * (last - first)) ** self.rho for step in range(1, steps) if last < first]

    def estimate(self, network: Network, state: Tensor, time: float) -> Tensor:
        """See :class:`Parametrization`."""
        total = time**2 + self.sigma_data**2
        skip, out = self.sigma_data**2 / total, time * self.sigma_data / total**0.5
        output = network(state / total**0.5, log(time) / 4)
        clean: Tensor = skip * state + (-out if self.negated else out) * output
        return clean


@dataclass(frozen=True)
class FlowMatching(_Continuous):
    """``(1 - t) x + t n`` with images in [-1, 1]; the network is told T t and returns n - x (Liu et al., ICLR 2023).

    So x = state - t v. The time t whose ratio t / (1 - t) of noise to signal is 2 sigma is 2 sigma / (1 + 2 sigma). A shift of
    the schedule only says at which t a sampler stops on its way. Several steps are spaced evenly in t.

    Args:
        least: The least t of the schedule, above 0.
        most: The most that is not pure noise, below 1.
        timesteps: T, what t = 1 is called.
    """

    least: float
    most: float
    timesteps: int

    @property
    def largest(self) -> float:
        """The sigma of ``most``."""
        return self.most / (1 - self.most) / 2

    @property
    def description(self) -> str:
        """See :class:`Parametrization`."""
        return f"flow matching, {self.least} to {self.most}, {self.timesteps} timesteps"

    def start(self, sigma: float) -> float:
        """See :class:`Parametrization`."""
        ratio = 2 * self._checked(sigma)
        return max(ratio / (1 + ratio), self.least)

    def path(self, start: float, steps: int) -> list[float]:
        """See :class:`Parametrization`."""
        return [start * (1 - step / steps) for step in range(steps) if not step or start * (1 - step / steps) >= self.least]

    def signal(self, time: float) -> float:
        """See :class:`Parametrization`."""
        return 1 - time

    def noise(self, time: float) -> float:
        """See :class:`Parametrization`."""
        return time

    def estimate(self, network: Network, state: Tensor, time: float) -> Tensor:
        """See :class:`Parametrization`."""
        return state - time * network(state, self.timesteps * time)
