"""Settings of a certificate: the noise, and how each voter's subsample is drawn."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.certificate.task import Vote
from poison_and_defend.certification import FixedSize, Poisson, Sampling
from poison_and_defend.certification.whole_set import check_sigma
from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.noise_level import parse_sigma
from poison_and_defend.reports.certificate.records import Drawn


@dataclass(frozen=True)
class Setting:
    """Noise and subsampling of one set of voters."""

    sigma: float
    sampling: Sampling

    @property
    def scale(self) -> float:
        """Noise that budgets are measured by; without noise any change is as bad as the largest, by whatever measure."""
        return self.sigma or 1.0

    def reach(self, radii: NDArray[np.float64]) -> NDArray[np.float64]:
        """What l2 budgets ``radii`` let an attacker do: without noise, anything that is not nothing."""
        return radii if self.sigma else np.where(radii > 0, np.inf, 0.0)

    @property
    def record(self) -> Drawn:
        """What tells it from others."""
        sampling = self.sampling
        if isinstance(sampling, FixedSize):
            return Drawn(sigma=self.sigma, m=sampling.m, n=sampling.n)
        return Drawn(sigma=self.sigma, q=sampling.inclusion, n=sampling.n)

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.record.name

    @property
    def drawn(self) -> float:
        """Images that a model sees, on average."""
        return self.sampling.inclusion * self.sampling.n


def settings_of(vote: Vote, n: int) -> tuple[Setting, ...]:
    """Every combination of sigma with m or q.

    Raises:
        InputError: If a value is out of range or named twice.
    """
    if vote.m is not None and vote.q is not None:
        raise InputError("m and q both say how subsamples are drawn: give one of them (--m, --q)")
    samplings: list[Sampling] = (
        [Poisson(n, q) for q in _listed(vote.q)]
        if vote.q is not None
        else [FixedSize(n, m) for m in _listed(n if vote.m is None else vote.m)]
    )
    sigmas = [parse_sigma(sigma) for sigma in _listed(vote.sigma)]
    for sigma in sigmas:
        check_sigma(sigma)
    settings = tuple(Setting(sigma, sampling) for sigma in sigmas for sampling in samplings)
    if not settings or len({s.name for s in settings}) < len(settings):
        raise InputError("name at least one sigma and one m, each once (--sigma, --m, --q)")
    return settings


def bagging_of(vote: Vote, n: int) -> tuple[Setting, ...]:
    """The vote without noise, at its own subsamples.

    Raises:
        InputError: If a size is out of range or named twice.
    """
    if vote.bagging is None and vote.q is not None:
        return tuple(Setting(0.0, Poisson(n, q)) for q in _listed(vote.q))
    sizes = _listed(vote.bagging if vote.bagging is not None else n if vote.m is None else vote.m)
    if len(set(sizes)) < len(sizes):
        raise InputError(f"bagging is {sizes}: name each size once (--bagging)")
    return tuple(Setting(0.0, FixedSize(n, m)) for m in sizes)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
