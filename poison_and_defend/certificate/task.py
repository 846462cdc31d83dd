"""One certificate: every choice that its numbers depend on."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.certificate.voters import MOST_MEMBERS, noise_seed
from poison_and_defend.certification import FixedSize, Poisson, Sampling, l2_norm, votes_needed
from poison_and_defend.certification.confidence import check_alpha
from poison_and_defend.certification.sampling import check_k
from poison_and_defend.certification.whole_set import check_sigma
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length
from poison_and_defend.core.noise_secret import NoiseSecret
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.defenses.switch import SECRET, Defense
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.noise_level import parse_sigma
from poison_and_defend.lightning_modules.backbones import BackboneName
from poison_and_defend.lightning_modules.recipe import Recipe


@dataclass(frozen=True)
class Setting:
    """Noise and subsampling of one set of voters."""

    sigma: float
    sampling: Sampling

    @property
    def name(self) -> str:
        """Name of its folder."""
        drawn = f"m_{self.sampling.m}" if isinstance(self.sampling, FixedSize) else f"q_{self.sampling.inclusion:g}"
        return f"sigma_{self.sigma:g}_{drawn}"

    @property
    def drawn(self) -> float:
        """Images that a model sees, on average."""
        return self.sampling.inclusion * self.sampling.n


@dataclass
class CertifyTask:
    """Train N voters, each on a noisy subsample of its own, and say what their vote provably withstands.

    Args:
        data: Its training split is what an attacker may have poisoned; its public part, if it has one, is trusted.
        sigma: Standard deviation of the noise in [0, 1] pixels, a number or a fraction such as 25/255, or a list of them.
        m: Images in each model's subsample, or a list; by default the whole set.
        q: Instead of m: the chance of each image to be in a subsample, or a list.
        models: N, how many models vote.
        alpha: The chance that the claim about one test image is wrong.
        selection: How many further models choose the class that the N then bound; 0 lets the N do both and divides alpha by
            the number of classes (Bonferroni).
        learner: ``head``, linear heads on a frozen, trusted extractor; ``network``, whole networks.
        backbone: Architecture of extractors and networks.
        defense: ``diffusion`` (noise, then the denoiser) or ``noise_only``.
        denoiser: A name (``digits``, ``mnist``, ``cifar10``), a diffusers folder, or ``hf:OWNER/NAME`` of the Hugging Face Hub.
        denoise_steps: Model evaluations per image.
        features: A safetensors file with the extractor's weights; by default it is trained on the public part.
        feature_draws: How many noised and denoised copies of every public image the extractor is trained on, beside the image.
        feature_recipe: How the extractor is trained.
        recipe: How voters are trained.
        warm_start: ``none``; ``trusted``, from a model of the public part; ``raw``, from a model of the received set, which
            voids the certificate.
        stop_on: ``none``, voters train for all epochs of the recipe; ``trusted``, each votes as it was when it was best on the
            public part; ``raw``, when it was best on the received set, which voids the certificate.
        test_images: How many test images are voted on, the first ones; by default all.
        k: Numbers of poisons of the table.
        eps: Their budgets, numbers or fractions such as ``8/255``; ``any`` for changes without bound.
        norm: Of the budgets, ``linf`` or ``l2``.
        pilot: With several sigma or m: train this many models of each first, and go on with the one that promises most for
            ``goal_k`` and ``goal_eps``; 0 certifies all of them.
        goal_k: What the pilot's choice is for.
        goal_eps: Likewise.
        challenge: Attack this many certified test images with Bullseye Polytope inside the budget of ``goal_k`` and
            ``goal_eps``, those whose votes have least to spare, and count the votes again; 0 for none. Needs linear heads.
        challenge_steps: Steps of that attack.
        vouch: Parts of unknown origin that the user says come from trusted data, such as ``denoiser``.
        uncertified: Go on although something voids the certificate; every result then says so.
        name: Folder of the results under output_dir; by default made of the data's name and the seed.
        output_dir: Where results are kept, and under ``models/`` the extractors.
        noise_seed: Seeds subsamples, noise and training of the voters, for reproduction: the certificate then holds against
            whoever does not know it. By default they come from a secret that is drawn from the operating system when the
            folder is begun, and kept in a private file beside it.
        seed: Seeds what trusted images alone decide, features and warm starts.
        members_per_block: Models trained together, and the most that a kill can cost.
        sanitize_batch_size: Images denoised together.
        threads: CPU threads of a rank while it trains.
        wandb_project: W&B project; null for no W&B files.
    """

    data: ArrayDataModule
    sigma: float | str | list[float | str] = 0.25
    m: int | list[int] | None = None
    q: float | list[float] | None = None
    models: int = 1000
    alpha: float = 0.001
    selection: int = 0
    learner: Literal["head", "network"] = "head"
    backbone: BackboneName = "convnet"
    defense: Literal["diffusion", "noise_only"] = "diffusion"
    denoiser: str = "digits"
    denoise_steps: int = 1
    features: str | None = None
    feature_draws: int = 2
    feature_recipe: Recipe = field(default_factory=Recipe)
    recipe: Recipe = field(default_factory=Recipe)
    warm_start: Literal["none", "trusted", "raw"] = "none"
    stop_on: Literal["none", "trusted", "raw"] = "none"
    test_images: int | None = None
    k: list[int] = field(default_factory=lambda: [1, 2, 5])
    eps: list[float | str] = field(default_factory=lambda: ["8/255", "16/255", "64/255", "any"])
    norm: Norm = "linf"
    pilot: int = 0
    goal_k: int = 1
    goal_eps: float | str = "8/255"
    challenge: int = 0
    challenge_steps: int = 250
    vouch: list[str] = field(default_factory=list)
    uncertified: bool = False
    name: str | None = None
    output_dir: str = "runs"
    noise_seed: int | None = None
    seed: int = 0
    members_per_block: int = 100
    sanitize_batch_size: int = 128
    threads: int = 2
    wandb_project: str | None = "poison-and-defend"

    secret: NoiseSecret | None = field(default=None, init=False)
    """See :func:`poison_and_defend.certificate.secret.settle_secret`."""

    @property
    def voting_seed(self) -> int:
        """Seeds everything random about the voters."""
        if self.noise_seed is not None:
            return self.noise_seed
        if self.secret is None:
            raise RuntimeError("the secret was not drawn yet")
        return self.secret.seed

    @property
    def randomness(self) -> dict[str, Any]:
        """What may be told of :attr:`voting_seed`."""
        if self.secret is None:
            return {"noise_seed": self.noise_seed}
        return {"noise_seed": SECRET, "commitment": self.secret.commitment}

    @property
    def folder(self) -> Path:
        """Where everything of this certificate is kept."""
        return Path(self.output_dir) / (self.name or f"{self.data.name}-certificate-{self.seed}")

    @property
    def models_folder(self) -> Path:
        """Where extractors are kept by content."""
        return Path(self.output_dir) / "models"

    @cached_property
    def settings(self) -> list[Setting]:
        """Every combination of sigma with m or q.

        Raises:
            InputError: If a value is out of range or named twice.
        """
        n = len(self.data.split("train"))
        if self.m is not None and self.q is not None:
            raise InputError("m and q both say how subsamples are drawn: give one of them (--m, --q)")
        samplings: list[Sampling] = (
            [Poisson(n, q) for q in _listed(self.q)]
            if self.q is not None
            else [FixedSize(n, m) for m in _listed(n if self.m is None else self.m)]
        )
        sigmas = [parse_sigma(sigma) for sigma in _listed(self.sigma)]
        for sigma in sigmas:
            check_sigma(sigma)
        settings = [Setting(sigma, sampling) for sigma in sigmas for sampling in samplings]
        if not settings or len({s.name for s in settings}) < len(settings):
            raise InputError("name at least one sigma and one m, each once (--sigma, --m, --q)")
        return settings

    @cached_property
    def radii(self) -> NDArray[np.float64]:
        """The l2 budgets of one image that ``eps`` stands for, infinite for ``any``."""
        return np.array([self._radius(eps) for eps in self.eps])

    @property
    def goal_radius(self) -> float:
        """The l2 budget of one image that the pilot's choice is for."""
        return self._radius(self.goal_eps)

    def _radius(self, eps: float | str) -> float:
        if eps == "any":
            return float("inf")
        length = parse_length(eps)
        if not length >= 0:
            raise InputError(f"eps is {eps!r}: write a number of at least 0, a fraction such as 8/255, or any (--eps)")
        return l2_norm(length, self.norm, self.data.image_shape)

    @property
    def bound_alpha(self) -> float:
        """What is left of alpha for one bound after the choice of the winner is paid for."""
        return self.alpha if self.selection else self.alpha / self.data.num_classes

    @cached_property
    def tested(self) -> Split:
        """The test images that are voted on."""
        split = self.data.split("test")
        count = len(split) if self.test_images is None else self.test_images
        if not 1 <= count <= len(split):
            raise InputError(f"test_images is {count}: there are 1 to {len(split)} (--test_images)")
        return Split(split.images[:count], split.labels[:count])

    @cached_property
    def loaded_denoiser(self) -> Denoiser | None:
        """The denoiser, checked against the images; None for ``noise_only``."""
        if self.defense == "noise_only":
            return None
        model = load_denoiser(self.denoiser, steps=self.denoise_steps)
        model.check_images(self.data.image_shape)
        return model

    def built_defense(self, sigma: float, draw: int = 0) -> Defense:
        """What happens to trusted images; with :meth:`Defense.with_seed`, to those that a voter drew."""
        return Defense(self.defense, sigma=sigma, denoiser=self.loaded_denoiser, seed=noise_seed(self.seed), draw=draw)

    def check(self) -> None:
        """Refuse what cannot work, reading data and denoiser but training nothing.

        Raises:
            InputError: Naming value, bound and option.
        """
        check_alpha(self.alpha)
        for option in ("models", "members_per_block", "sanitize_batch_size", "threads"):
            if getattr(self, option) < 1:
                raise InputError(f"{option} is {getattr(self, option)}: it must be at least 1 (--{option})")
        for option in ("selection", "pilot", "seed", "noise_seed", "feature_draws", "challenge"):
            if (getattr(self, option) or 0) < 0:
                raise InputError(f"{option} is {getattr(self, option)}: it must be at least 0 (--{option})")
        # Pilots are counted from the other end of the same numbers.
        if self.models + self.selection + self.pilot > MOST_MEMBERS:
            raise InputError(f"models is {self.models}: there are seeds for {MOST_MEMBERS}, pilots included (--models)")
        least = votes_needed(self.bound_alpha)
        if self.models < least:
            raise InputError(
                f"models is {self.models}: at alpha {self.alpha:g} even unanimous votes certify nothing before {least} "
                "(--models)"
            )
        self.tested
        self.radii
        self.goal_radius
        for k in (*self.k, self.goal_k):
            check_k(k, len(self.data.split("train")))
        for setting in self.settings:
            self.built_defense(setting.sigma)
        no_budget = self.goal_eps == "any" or not self.goal_radius or not self.goal_k
        if self.challenge and (self.learner != "head" or no_budget):
            raise InputError(
                f"a challenge needs linear heads and a budget: learner {self.learner}, {self.goal_k} poisons of "
                f"{self.goal_eps} (--challenge, --learner, --goal_k, --goal_eps)"
            )
        if not self.k or not self.eps:
            raise InputError("name at least one number of poisons and one budget (--k, --eps)")

    def common_settings(self) -> dict[str, Any]:
        """What the votes of all settings depend on, but for data and weights, as JSON can hold it."""
        return {
            "learner": self.learner,
            "backbone": self.backbone,
            "recipe": self.recipe.settings(),
            "warm_start": self.warm_start,
            "stop_on": self.stop_on,
            "seed": self.seed,
            **self.randomness,
            "members_per_block": self.members_per_block,
            "sanitize_batch_size": self.sanitize_batch_size,
            "threads": self.threads,
        }


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
