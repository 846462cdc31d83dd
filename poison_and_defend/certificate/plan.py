"""A certificate that can be had: data and denoiser looked at, everything refused that cannot work, nothing trained."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.certificate.ingredients import Origins, check_pretrained, check_public, tested_images
from poison_and_defend.certificate.setting import Setting, bagging_of, settings_of
from poison_and_defend.certificate.task import CertifyTask, Learner, Speed, Trust, Vote
from poison_and_defend.certificate.voters import MOST_MEMBERS, noise_seed, noise_seed_of_tests
from poison_and_defend.certification import (
    Ingredient,
    l2_norm,
    majority_alpha,
    void_reasons,
    votes_needed,
)
from poison_and_defend.certification.confidence import check_alpha
from poison_and_defend.certification.sampling import check_k
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.defenses.rewriters.diffusion import Diffusion, NoiseOnly
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.noise_level import parse_sigma
from poison_and_defend.diffusion.tiles import TileLayout, usual_overlap
from poison_and_defend.lightning_modules.networks.check import check_network


@dataclass(frozen=True)
class Attacker:
    """Whom pilots choose for and who challenges.

    Attributes:
        k: Poisons.
        eps: Budget of each, as it was written.
        radius: Its l2 norm, infinite for ``any``.
        targets: Certified images that it attacks.
        steps: Of its attack.
    """

    k: int
    eps: float | str
    radius: float
    targets: int
    steps: int


@dataclass(frozen=True, eq=False)
class CertificatePlan:
    """What the steps of a certificate take; they never ask the options again.

    Attributes:
        train: What an attacker may have poisoned.
        tested: The test images that are voted on.
        settings: Every combination of sigma with m or q.
        bagging: Settings without noise, to compare with.
        vote: As asked for, with the share of alpha that this one of the planned looks has.
        bound_alpha: What is left of alpha for one bound after the choice of the winner is paid for.
        denoiser: Checked against the images; None for ``noise_only``.
        radii: The l2 budgets of one image that ``eps`` stands for, infinite for ``any``.
        test_sigma: Noise that every model adds to a test image; 0 for none.
        trigger: The l2 budget of a change of the test image.
        trigger_told: The trigger's budget as it was written.
        ingredients: Everything that votes depend on, with its origin.
        void: What voids the certificate; a plan with such reasons was asked for.
        noise_seed: Given for reproduction; None for a secret.
        shared: Folder of the certificates; extractors and sanitized public images are kept by content under it.
    """

    data: ArrayDataModule
    train: Split
    tested: Split
    settings: tuple[Setting, ...]
    bagging: tuple[Setting, ...]
    vote: Vote
    bound_alpha: float
    learner: Learner
    denoiser: Denoiser | None
    trust: Trust
    k: list[int]
    eps: list[float | str]
    norm: Norm
    radii: NDArray[np.float64]
    test_sigma: float
    trigger: float
    trigger_told: float | str
    attacker: Attacker
    pilot: int
    ingredients: list[Ingredient]
    void: list[str]
    speed: Speed
    seed: int
    noise_seed: int | None
    name: str
    shared: Path
    wandb_project: str | None

    @property
    def folder(self) -> Path:
        """Where everything of this certificate is kept."""
        return self.shared / self.name

    @property
    def models_folder(self) -> Path:
        """Where extractors are kept by content."""
        return self.shared / "models"

    @property
    def stores(self) -> Path:
        """Where sanitized public images are kept by content."""
        return self.shared / "stores"

    @property
    def shift(self) -> float:
        """The trigger in standard deviations of the test image's noise."""
        return self.trigger / self.test_sigma if self.trigger else 0.0

    def test_defense(self, seed: int) -> GaussianRewriter | None:
        """What happens to test images, the voters' seed given; None for nothing."""
        if not self.test_sigma:
            return None
        return self.defense(self.test_sigma).with_seed(noise_seed_of_tests(seed))

    def defense(self, sigma: float, draw: int = 0) -> GaussianRewriter:
        """What happens to trusted images; with :meth:`GaussianRewriter.with_seed`, to those that a voter drew."""
        seed = noise_seed(self.seed)
        if self.denoiser is None or not sigma:
            return NoiseOnly(sigma, seed=seed, draw=draw)
        return Diffusion(sigma, self.denoiser, seed=seed, draw=draw)


def plan_certificate(task: CertifyTask) -> CertificatePlan:
    """Look at data and denoiser, and refuse what cannot work; nothing is trained.

    Raises:
        InputError: If a value is out of its bounds, trusted images are needed and there are none, or something voids the
            certificate and ``uncertified`` is not set.
    """
    data, vote, place = task.received.data, task.vote, task.place
    _check_numbers(task)
    vote = replace(vote, alpha=vote.alpha / vote.looks)
    bound_alpha = majority_alpha(vote.alpha, fresh=vote.selection > 0)
    least = votes_needed(bound_alpha)
    if vote.models < least:
        raise InputError(
            f"models is {vote.models}: at alpha {vote.alpha:g} even unanimous votes certify nothing before {least} (--models)"
        )
    tested, train = tested_images(data, task.received.test_images), data.split("train")
    # Beside every budget, what the same votes promise against any change.
    budgets = [*task.claims.eps, *(["any"] if "any" not in task.claims.eps else [])]
    radii = np.array([_radius(eps, task.claims.norm, data) for eps in budgets])
    goal = task.goal
    attacker = Attacker(
        goal.goal_k, goal.goal_eps, _radius(goal.goal_eps, task.claims.norm, data), goal.challenge, goal.challenge_steps
    )
    for k in (*task.claims.k, attacker.k):
        check_k(k, len(train))
    test_sigma, trigger = _tested_under(task, data)
    settings = settings_of(vote, len(train))
    denoiser = _denoiser(task.learner, data)
    check_network(task.learner.network, data.image_shape, data.num_classes)
    _check_challenge(task, attacker)
    if not task.claims.k or not task.claims.eps:
        raise InputError("name at least one number of poisons and one budget (--k, --eps)")
    check_public(task)
    check_pretrained(task)
    ingredients = Origins(task, len(settings)).ingredients()
    void = void_reasons(ingredients)
    if void and not task.trust.uncertified:
        raise InputError(
            f"this would be no certificate: {'; '.join(void)}. If the origin is unknown and you know better, say so "
            "(--vouch); to see the numbers all the same, labelled as uncertified (--uncertified true)"
        )
    plan = CertificatePlan(
        data=data,
        train=train,
        tested=tested,
        settings=settings,
        bagging=bagging_of(vote, len(train)),
        vote=vote,
        bound_alpha=bound_alpha,
        learner=task.learner,
        denoiser=denoiser,
        trust=task.trust,
        k=task.claims.k,
        eps=budgets,
        norm=task.claims.norm,
        radii=radii,
        test_sigma=test_sigma,
        trigger=trigger,
        trigger_told=task.claims.trigger,
        attacker=attacker,
        pilot=goal.pilot,
        ingredients=ingredients,
        void=void,
        speed=task.speed,
        seed=place.seed,
        noise_seed=place.noise_seed,
        name=place.name or f"{data.name}-certificate-{place.seed}",
        shared=Path(place.output_dir),
        wandb_project=place.wandb_project,
    )
    for sigma in (*(setting.sigma for setting in settings), test_sigma):
        plan.defense(sigma).check(data.image_shape, data.num_classes)
    return plan


def _check_numbers(task: CertifyTask) -> None:
    vote, speed = task.vote, task.speed
    check_alpha(vote.alpha)
    counts: dict[str, Any] = {"models": vote.models, "looks": vote.looks} | vars(speed)
    for option, value in counts.items():
        at_least(option, value, 1)
    counts = {"selection": vote.selection, "pilot": task.goal.pilot, "seed": task.place.seed}
    counts |= {"noise_seed": task.place.noise_seed or 0, "feature_draws": task.learner.feature_draws}
    for option, value in (counts | {"challenge": task.goal.challenge}).items():
        at_least(option, value, 0)
    # Pilots are counted from the other end of the same numbers.
    if vote.models + vote.selection + task.goal.pilot > MOST_MEMBERS:
        raise InputError(f"models is {vote.models}: there are seeds for {MOST_MEMBERS}, pilots included (--models)")


def _radius(eps: float | str, norm: Norm, data: ArrayDataModule, option: str = "eps") -> float:
    if eps == "any":
        return float("inf")
    length = parse_length(eps)
    if not length >= 0:
        raise InputError(f"{option} is {eps!r}: write a number of at least 0, a fraction such as 8/255, or any (--{option})")
    return l2_norm(length, norm, data.image_shape)


def _tested_under(task: CertifyTask, data: ArrayDataModule) -> tuple[float, float]:
    """Noise of test images, and the l2 norm of the trigger that it is to withstand."""
    sigma = parse_sigma(task.vote.test_sigma)
    if not 0 <= sigma < np.inf:
        raise InputError(f"test_sigma is {sigma:g}: a finite number of at least 0 (--test_sigma)")
    trigger = _radius(task.claims.trigger, task.claims.norm, data, option="trigger")
    if trigger and (not sigma or np.isinf(trigger)):
        raise InputError(
            f"trigger is {task.claims.trigger} and test_sigma {sigma:g}: a finite change of the test image can be withstood by "
            "noise on it alone (--trigger, --test_sigma)"
        )
    if sigma and task.goal.challenge:
        raise InputError(
            f"challenge is {task.goal.challenge} and test_sigma {sigma:g}: challenges count votes on test images without noise "
            "(--challenge, --test_sigma)"
        )
    return sigma, trigger


def _denoiser(learner: Learner, data: ArrayDataModule) -> Denoiser | None:
    if learner.defense == "noise_only":
        return None
    model = load_denoiser(learner.denoiser, steps=learner.denoise_steps)
    layout = TileLayout(*data.image_shape[1:], model.size, usual_overlap(model.size))
    if layout.canvas != layout.image:
        # Mirrored pixels would get noise of their own: the sum says more of a pixel than the noise of the theorem leaves.
        height, width = layout.image
        raise InputError(
            f"images of {height} x {width} would be padded by mirroring to {layout.canvas[0]} x {layout.canvas[1]} for a "
            f"denoiser of {model.size[0]} x {model.size[1]}, which shows pixels twice under the noise that a certificate rests "
            "on: scale the data set so that tiles fit it, or use another denoiser (--denoiser)"
        )
    return model


def _check_challenge(task: CertifyTask, attacker: Attacker) -> None:
    no_budget = attacker.eps == "any" or not attacker.radius or not attacker.k
    if attacker.targets and (task.learner.learner != "head" or no_budget):
        raise InputError(
            f"a challenge needs linear heads and a budget: learner {task.learner.learner}, {attacker.k} poisons of "
            f"{attacker.eps} (--challenge, --learner, --goal_k, --goal_eps)"
        )
