"""What an experiment is asked to do: groups of options that touch no disk."""

from dataclasses import dataclass, field
from typing import Literal

from poison_and_defend.attacks import Attack
from poison_and_defend.attacks.base import Scenario
from poison_and_defend.datamodules import ArrayDataModule
from poison_and_defend.defenses import Adversarial, Defense
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe


@dataclass(frozen=True)
class Setups:
    """What is attacked: the images, and how many choices of target and bases.

    Args:
        data: Where images come from.
        num_setups: How many setups (target, bases, seed) to try; none is discarded.
        setups: File of the public benchmark's setups, its pickle or JSON; without one, setups are drawn by seed.
        train_size: Size of each victim's training set when setups come from a file; by default the whole training split.
        num_poisons: Poisons per setup when setups are drawn.
        first_poisons: How many bases of each setup from a file are perturbed, from its first on; by default all of them.
        num_targets: Targets per setup when setups are drawn, all of one class.
        classes_in_turn: Make every class the adversarial one in turn when setups are drawn, instead of drawing it; with as many
            setups as classes each is tried once.
    """

    data: ArrayDataModule
    num_setups: int = 20
    setups: str | None = None
    train_size: int | None = None
    num_poisons: int = 25
    first_poisons: int | None = None
    num_targets: int = 1
    classes_in_turn: bool = False


@dataclass(frozen=True)
class Threat:
    """How it is attacked.

    Args:
        attack: How poisons are made.
        scenario: How victims are trained: ``transfer`` (a fresh head on frozen features), ``fine_tune`` (a fresh head, and all
            layers trained on), or ``from_scratch``.
        outside_threat_model: Try an attack in a scenario that its paper makes no claim about, as the public benchmark does.
        poisons_from: Folder of poisons made elsewhere, in the public benchmark's pickles or .npz, to be tried instead of
            crafting; the attack then says their budget and goal.
        knowledge: What the attacker knows of the defence: nothing (``oblivious``); all but its noise (``defense``), through
            fresh noise of which poisons are optimised; neither its noise nor how much, with a denoiser of his own
            (``surrogate_defense``); or its noise too (``seed``), the worst case.
        known_arm: The arm that the attacker knows; by default the first that adds noise and denoises, or rewrites images.
        known_draws: Realisations of the noise that poisons are optimised through in every step.
        known_held_out: Further realisations, on which the objective is told after a quarter, half and all of the steps; 0
            leaves that out, which takes half of the time where steps and draws are few.
        known_denoiser: The attacker's own denoiser, for ``surrogate_defense``, as --denoiser names it.
        known_sigmas: The least and the most noise that an attacker reckons with who does not know it.
    """

    attack: Attack
    scenario: Scenario = "transfer"
    outside_threat_model: bool = False
    poisons_from: str | None = None
    knowledge: Literal["oblivious", "defense", "surrogate_defense", "seed"] = "oblivious"
    known_arm: str | None = None
    known_draws: int = 4
    known_held_out: int = 64
    known_denoiser: str | None = None
    known_sigmas: list[float | str] = field(default_factory=lambda: [0.05, 0.25])


@dataclass(frozen=True)
class Surrogates:
    """The attacker's networks, and the extractors that victims start from.

    Args:
        network: Network of surrogates and victims where ``surrogate_networks`` and ``victims`` name no other: a short name,
            ``timm:NAME``, ``torchvision:NAME``, ``hf:ID`` or the path of a class.
        networks: Further networks by names of your own, for ``surrogate_networks`` and ``victims``.
        surrogate_networks: Networks of the attacker's ensemble, each a name out of ``networks`` or what a network is built
            from; by default the one network.
        surrogates: How many networks of each architecture the attacker trains.
        surrogate_weights: safetensors files, one for each surrogate architecture, instead of training them.
        dropout: Dropout between the blocks of surrogates and extractors; Bullseye and Convex Polytope keep it on
            while crafting.
        precision: Precision of the surrogates while crafting, and of a defence that the attacker knows.
        frozen: In transfer learning, take networks with the weights that they come with as frozen features, instead of training
            them on public images first; they, and a defence that the attacker knows, compute in the form and precision that the
            device does fastest.
        pretraining: Data that extractors and surrogates are trained on in transfer and fine-tuning, by default the public part;
            for Narcissus, from scratch too, data of other classes than the victim's.
        feature_recipe: How extractors and surrogates are trained.
        robust_recipe: How the surrogates of an attack that needs adversarially trained ones are trained.
        robust_training: Budget and steps of these surrogates' adversarial training.
    """

    network: Network = field(default_factory=Network)
    networks: dict[str, Network] = field(default_factory=dict)
    surrogate_networks: list[str] | None = None
    surrogates: int = 1
    surrogate_weights: list[str] | None = None
    dropout: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    frozen: bool = False
    pretraining: ArrayDataModule | None = None
    feature_recipe: Recipe = field(default_factory=Recipe)
    robust_recipe: Recipe = field(default_factory=Recipe)
    robust_training: Adversarial | None = None


@dataclass(frozen=True)
class Victims:
    """The defender's networks.

    Args:
        victims: Networks that the poisons are tried on, each a name out of ``networks`` or what a network is built from; one
            that is not among the surrogates' is black box.
        victim_recipe: How victims are trained.
        head_views: Augmented views of every image whose features are cached for linear heads, if the recipe augments.
    """

    victims: list[str] | None = None
    victim_recipe: Recipe = field(default_factory=Recipe)
    head_views: int = 4


@dataclass(frozen=True)
class Comparison:
    """What is compared: countermeasures, the undefended run, and the run without an attack.

    Args:
        arms: Each row of the comparison by its name: a countermeasure and its options, a chain of several, or null for the
            undefended run.
        sigma: Standard deviation of the noise in [0, 1] pixels, or a fraction such as 25/255, of every arm that states no
            other.
        denoiser: A name such as digits or photos-32, a diffusers folder, or hf:OWNER/NAME of the Hugging Face Hub, of every arm
            that states no other.
        denoise_steps: Model evaluations per image, of every arm that states no other; 1 is one-shot.
        draw: Which independent realisation of the noise, of every arm that states no other.
        jpeg_quality: Quality of JPEG, 1 to 95, of every arm that states no other.
        poisons_told: How many poisons filters are told that one class has at most; by default the true number, 0 for nothing.
    """

    arms: dict[str, Defense | None] = field(default_factory=dict)
    sigma: float | str = 0.25
    denoiser: str = "digits"
    denoise_steps: int = 1
    draw: int = 0
    jpeg_quality: int = 75
    poisons_told: int | None = None


@dataclass(frozen=True)
class Speed:
    """How much is computed at once.

    Args:
        setups_per_batch: Setups crafted together.
        sanitize_batch_size: Images denoised together.
        members_per_block: Victims trained in one forward and backward pass.
        threads: CPU threads of a rank where gradients are summed; one number gives the same bytes on any number of ranks.
    """

    setups_per_batch: int = 10
    sanitize_batch_size: int = 64
    members_per_block: int = 16
    threads: int = 1


@dataclass(frozen=True)
class Place:
    """Where results go, and what all randomness is drawn from.

    Args:
        name: Folder of the results under output_dir; by default data, attack and a digest of all settings.
        output_dir: Where experiments are kept, and under ``models/`` the networks that they share.
        seed: Seeds setups, surrogates, victims and noise.
        wandb_project: W&B project; null for no W&B files.
    """

    name: str | None = None
    output_dir: str = "runs"
    seed: int = 0
    wandb_project: str | None = "poison-and-defend"


@dataclass(frozen=True)
class Experiment:
    """Craft poisons, defend against them in several ways, train a victim on each, and compare.

    Groups of options; a command line shows them flat.
    """

    setups: Setups
    threat: Threat
    surrogates: Surrogates
    victims: Victims
    comparison: Comparison
    speed: Speed
    place: Place

    @property
    def attackers(self) -> list[str]:
        """Names of the networks in the attacker's ensemble."""
        own = self.surrogates.surrogate_networks
        return [self.surrogates.network.build] if own is None else own

    @property
    def victim_names(self) -> list[str]:
        """Names of the victims' networks."""
        own = self.victims.victims
        return [self.surrogates.network.build] if own is None else own

    @property
    def described(self) -> dict[str, Network]:
        """What the networks of attackers and victims are, by their names; a word that names none is what one is built from."""
        own, named = self.surrogates.network, self.surrogates.networks
        known = {own.build: own} | named
        return {name: known.get(name, Network(name)) for name in (*self.attackers, *self.victim_names)}
