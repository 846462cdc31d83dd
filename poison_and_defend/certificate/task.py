"""What a certificate is asked for: groups of options that touch no disk."""

from dataclasses import dataclass, field
from typing import Literal

from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.datamodules import ArrayDataModule
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe


@dataclass(frozen=True)
class Received:
    """The images: what an attacker may have poisoned, and what is voted on.

    Args:
        data: The data set. Its training split is what an attacker may have poisoned; its public part, if there is one, is
            trusted.
        test_images: How many test images are voted on, the first ones; by default all.
    """

    data: ArrayDataModule
    test_images: int | None = None


@dataclass(frozen=True)
class Vote:
    """The vote: how many models, and what each of them sees.

    Args:
        sigma: Standard deviation of the noise in [0, 1] pixels, a number or a fraction such as 25/255, or a list of them.
        m: Images in each model's subsample, or a list; by default the whole set.
        q: Instead of m, the chance of each image to be in a subsample, or a list of chances.
        models: N, how many models vote.
        alpha: The chance at most that the claim about one test image is wrong: that the vote's answer is not the class that is
            likeliest over the models' randomness, for the received set and for every set within the budget.
        selection: How many further models choose the class that the N then bound; 0 lets the N do both, at half of alpha.
        looks: How many claims are planned about this received set, with other votes, settings or levels: each gets its share of
            alpha. All claims are registered under the folder of results, and those beyond the plan are told.
        rivals: How other classes are bounded: ``together``, a winner is certified that provably keeps more than half of all
            models; ``each``, by its own votes, which certifies winners with less than half where votes are spread over many
            classes, and costs alpha for every class.
        bagging: Images in each subsample of the rival that is shown beside it, the same vote without noise, or a list of which
            the best is shown at its share of alpha; by default m. An empty list shows none.
        test_sigma: Standard deviation of the noise that every model adds by itself to a test image before it answers (and
            removes, where the training images are denoised), a number or a fraction; 0 for none. A trigger needs it.
    """

    sigma: float | str | list[float | str] = 0.25
    m: int | list[int] | None = None
    q: float | list[float] | None = None
    models: int = 1000
    alpha: float = 0.001
    selection: int = 0
    looks: int = 1
    rivals: Literal["together", "each"] = "together"
    bagging: int | list[int] | None = None
    test_sigma: float | str = 0.0


@dataclass(frozen=True)
class Learner:
    """How each voter is made.

    Args:
        learner: What votes: ``head``, linear heads on a frozen, trusted extractor; ``network``, whole networks.
        network: Network of extractors and of voters that are whole networks: a short name, ``timm:NAME``,
            ``torchvision:NAME``, ``hf:ID`` or the path of a class.
        defense: What happens to the images of a subsample: ``diffusion`` (noise, then the denoiser) or ``noise_only``.
        denoiser: A name (``digits``, ``mnist``, ``cifar10``), a diffusers folder, or ``hf:OWNER/NAME`` of the Hugging Face Hub.
        denoise_steps: Model evaluations per image.
        recipe: How voters are trained.
        feature_draws: How many noised and denoised copies of every public image the extractor is trained on, beside the image.
        feature_recipe: How the extractor is trained.
    """

    learner: Literal["head", "network"] = "head"
    network: Network = field(default_factory=Network)
    defense: Literal["diffusion", "noise_only"] = "diffusion"
    denoiser: str = "digits"
    denoise_steps: int = 1
    recipe: Recipe = field(default_factory=Recipe)
    feature_draws: int = 2
    feature_recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Trust:
    """What the attacker is taken not to reach.

    Args:
        features: A safetensors file with the extractor's weights, or ``pretrained`` for those that the network comes with; by
            default it is trained on the public part.
        warm_start: What voters start from: ``none``, weights of their own; ``trusted``, a model of the public part; ``raw``, a
            model of the received set, which voids the certificate.
        stop_on: When voters stop: ``none``, after all epochs of the recipe; ``trusted``, each votes as it was when it was best
            on the public part; ``raw``, when it was best on the received set, which voids the certificate.
        vouch: Parts of unknown origin that the user says come from trusted data, such as ``denoiser``.
        uncertified: Go on although something voids the certificate; every result then says so.
    """

    features: str | None = None
    warm_start: Literal["none", "trusted", "raw"] = "none"
    stop_on: Literal["none", "trusted", "raw"] = "none"
    vouch: list[str] = field(default_factory=list)
    uncertified: bool = False


@dataclass(frozen=True)
class Claims:
    """The attackers that claims are about.

    Args:
        k: Numbers of poisons of the table.
        eps: Budgets of each poison, numbers or fractions such as ``8/255``; ``any`` for changes without bound.
        norm: Norm of the budgets, ``linf`` or ``l2``.
        trigger: Budget of a change of the test image besides, in the same norm, such as a backdoor's trigger; 0 for none.
    """

    k: list[int] = field(default_factory=lambda: [1, 2, 5])
    eps: list[float | str] = field(default_factory=lambda: ["8/255", "16/255", "64/255", "any"])
    norm: Norm = "linf"
    trigger: float | str = 0.0


@dataclass(frozen=True)
class Goal:
    """The one attacker that pilots choose for and that challenges are made by.

    Args:
        pilot: With several sigma or m: train this many models of each first, and go on with the one that promises most for
            ``goal_k`` and ``goal_eps``; 0 certifies all of them.
        goal_k: Number of poisons of this attacker.
        goal_eps: Budget of each of its poisons, in the norm of the others.
        challenge: Attack this many certified test images with Bullseye Polytope inside the budget of ``goal_k`` and
            ``goal_eps``, those whose votes have least to spare, and count the votes again; 0 for none. Needs linear heads.
        challenge_steps: Steps of that attack.
    """

    pilot: int = 0
    goal_k: int = 1
    goal_eps: float | str = "8/255"
    challenge: int = 0
    challenge_steps: int = 250


@dataclass(frozen=True)
class Speed:
    """How much is computed at once.

    Args:
        members_per_block: Models trained together, and the most that a kill can cost.
        sanitize_batch_size: Images denoised together.
        threads: CPU threads of a rank while it trains.
    """

    members_per_block: int = 100
    sanitize_batch_size: int = 128
    threads: int = 2


@dataclass(frozen=True)
class Place:
    """Where results go, and what all randomness is drawn from.

    Args:
        name: Folder of the results under output_dir; by default made of the data's name and the seed.
        output_dir: Where results are kept, and under ``models/`` the extractors.
        noise_seed: Seeds subsamples, noise and training of the voters: reproduction only, void against an attacker who knew it,
            and the certificate says so. By default they come from a secret that is drawn from the operating system when the
            folder is begun, after the set was received, and kept in a private file beside it.
        seed: Seeds what trusted images alone decide, features and warm starts.
        wandb_project: W&B project; null for no W&B files.
    """

    name: str | None = None
    output_dir: str = "runs"
    noise_seed: int | None = None
    seed: int = 0
    wandb_project: str | None = "poison-and-defend"


@dataclass(frozen=True)
class CertifyTask:
    """Train N voters, each on a noisy subsample of its own, and say what their vote provably withstands.

    What is promised of the vote that is printed: with chance 1 - alpha, its answer is the class that is likeliest over the
    models' randomness, on the received set and on every set within the budget. It is not promised that N other models, on
    such a set, would vote for it.

    Groups of options; a command line shows them flat.
    """

    received: Received
    vote: Vote
    learner: Learner
    trust: Trust
    claims: Claims
    goal: Goal
    speed: Speed
    place: Place
