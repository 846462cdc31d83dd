"""One experiment: every choice that its numbers depend on."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from poison_and_defend.attacks import Attack
from poison_and_defend.attacks.base import Scenario
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup, check_num_poisons, draw_setups
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import digest
from poison_and_defend.core.hashing import checksum_file, hash_array
from poison_and_defend.core.reading.files import guarded
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.datamodules.wrappers.rows import public_split, rows_of
from poison_and_defend.defenses.switch import DEFENSES, Defense, DefenseName
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.noise_level import parse_sigma
from poison_and_defend.images.arrays import hash_split
from poison_and_defend.lightning_modules.backbones import BackboneName
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.poisons.exchange import import_poisons
from poison_and_defend.poisons.setup_files import load_setups

# Settings that say what happens to poisons once they are made.
_AFTER_CRAFTING = ("victims", "victim_recipe", "head_views", "defenses", "sanitize_batch_size")


def _identify(data: ArrayDataModule) -> dict[str, Any]:
    """What training on a data set depends on."""
    return {
        "name": data.name,
        "train": hash_split(data.split("train")),
        "num_classes": data.num_classes,
        "normalization": [list(data.mean), list(data.std)],
    }


@dataclass
class Experiment:
    """Craft poisons, defend against them in several ways, train a victim on each, and compare.

    Args:
        data: Where images come from.
        attack: How poisons are made.
        scenario: ``transfer`` (a fresh head on frozen features), ``fine_tune`` (a fresh head, and all layers trained on), or
            ``from_scratch``.
        outside_threat_model: Try an attack in a scenario that its paper makes no claim about, as the public benchmark does.
        backbone: Network of surrogates and victims where the next two do not say otherwise.
        surrogate_backbones: Architectures of the attacker's ensemble; by default the backbone.
        victims: Networks that the poisons are tried on; one that is not among the surrogates' is black box.
        num_setups: How many setups (target, bases, seed) to try; none is discarded.
        setups: File of the public benchmark's setups, its pickle or JSON; drawn by seed without it.
        train_size: Size of each victim's training set when setups come from a file; by default the whole training split.
        num_poisons: Poisons per setup when setups are drawn.
        num_targets: Targets per setup when setups are drawn, all of one class.
        poisons_from: Folder of poisons made elsewhere, in the public benchmark's pickles or .npz, to be tried instead of
            crafting; the attack then says their budget and goal.
        surrogates: How many networks of each architecture the attacker trains.
        surrogate_weights: safetensors files, one for each surrogate architecture, instead of training them.
        dropout: Between the blocks of surrogates and extractors; Bullseye and Convex Polytope keep it on while crafting.
        pretraining: Data that extractors and surrogates are trained on in transfer and fine-tuning; by default the public part.
        feature_recipe: How extractors and surrogates are trained.
        robust_recipe: The same for an attack that needs adversarially trained surrogates; set its adversarial_eps.
        victim_recipe: How victims are trained.
        head_views: Augmented views of every image whose features are cached for linear heads, if the recipe augments.
        precision: Of the surrogates while crafting.
        defenses: What is compared; ``none`` is the undefended run, ``no_attack`` the same with unperturbed bases.
        sigma: Standard deviation of the noise in [0, 1] pixels, or a fraction such as 25/255.
        denoiser: A name (digits, mnist, cifar10), a diffusers folder, or hf:OWNER/NAME of the Hugging Face Hub.
        denoise_steps: Model evaluations per image; 1 is one-shot.
        draw: Which independent realisation of the noise.
        jpeg_quality: For the defence ``jpeg``, 1 to 95.
        name: Folder of the results under output_dir; by default data, attack and a digest of all settings.
        output_dir: Where experiments are kept, and under ``models/`` the networks that they share.
        seed: Seeds setups, surrogates, victims and noise.
        setups_per_batch: Setups crafted together.
        sanitize_batch_size: Images denoised together.
        members_per_block: Victims trained in one forward and backward pass.
        threads: CPU threads of a rank where gradients are summed; the same number gives the same bytes on any number of ranks.
        wandb_project: W&B project; null for no W&B files.
    """

    data: ArrayDataModule
    attack: Attack
    scenario: Scenario = "transfer"
    outside_threat_model: bool = False
    backbone: BackboneName = "convnet"
    surrogate_backbones: list[BackboneName] | None = None
    victims: list[BackboneName] | None = None
    num_setups: int = 20
    setups: str | None = None
    train_size: int | None = None
    num_poisons: int = 25
    num_targets: int = 1
    poisons_from: str | None = None
    surrogates: int = 1
    surrogate_weights: list[str] | None = None
    dropout: float = 0.0
    pretraining: ArrayDataModule | None = None
    feature_recipe: Recipe = field(default_factory=Recipe)
    robust_recipe: Recipe = field(default_factory=Recipe)
    victim_recipe: Recipe = field(default_factory=Recipe)
    head_views: int = 4
    precision: Literal["float32", "bfloat16"] = "float32"
    defenses: list[DefenseName] = field(default_factory=lambda: list(DEFENSES))
    sigma: float | str = 0.25
    denoiser: str = "digits"
    denoise_steps: int = 1
    draw: int = 0
    jpeg_quality: int = 75
    name: str | None = None
    output_dir: str = "runs"
    seed: int = 0
    setups_per_batch: int = 10
    sanitize_batch_size: int = 64
    members_per_block: int = 16
    threads: int = 1
    wandb_project: str | None = "poison-and-defend"

    @property
    def attacker_backbones(self) -> list[BackboneName]:
        """Architectures of the attacker's ensemble."""
        return [self.backbone] if self.surrogate_backbones is None else self.surrogate_backbones

    @property
    def victim_backbones(self) -> list[BackboneName]:
        """Architectures of the victims."""
        return [self.backbone] if self.victims is None else self.victims

    @cached_property
    def chosen_setups(self) -> list[Setup]:
        """The setups, all with the same number of bases."""
        train, test = self.data.split("train").labels.numpy(), self.data.split("test").labels.numpy()
        check_num_poisons(self.num_poisons, len(train), 0)
        if self.setups is None:
            if self.train_size is not None:
                raise InputError("train_size goes with setups from a file (--setups)")
            counts = {"num_setups": self.num_setups, "num_poisons": self.num_poisons, "num_targets": self.num_targets}
            return draw_setups(train, test, seed=self.seed, **counts)
        if self.num_targets > 1:
            raise InputError("num_targets goes with setups drawn by seed, the benchmark's have one (--num_targets)")
        return load_setups(
            Path(self.setups), train, test, num_setups=self.num_setups, train_size=self.train_size, seed=self.seed
        )

    @cached_property
    def rows(self) -> np.ndarray:
        """``(U,)`` int64, sorted: every row of the training split that any victim trains on."""
        return rows_of(self.chosen_setups, len(self.data.split("train")))

    @cached_property
    def public(self) -> Split:
        """What a surrogate's features may be trained on in transfer learning: no training row, no base, no test image."""
        return public_split(self.data, self.rows)

    @cached_property
    def imported(self) -> list[PoisonSet] | None:
        """Poisons made elsewhere, validated against setups and budget; None if they are to be crafted."""
        if self.poisons_from is None:
            return None
        train, test = self.data.split("train").images, self.data.split("test").images
        budget, goal = self.attack.budget, self.attack.goal
        return [import_poisons(Path(self.poisons_from), s, train, test, budget, goal) for s in self.chosen_setups]

    @cached_property
    def built_defenses(self) -> dict[DefenseName, Defense]:
        """Each defence of the comparison, ready to use."""
        # Before the denoiser is read, or looked for elsewhere.
        parse_sigma(self.sigma)
        model: Denoiser | None = None
        if {"diffusion", "denoise_only"} & set(self.defenses):
            model = load_denoiser(self.denoiser, steps=self.denoise_steps)
            model.check_images(self.data.image_shape)
        return {
            name: Defense(
                name, sigma=self.sigma, denoiser=model, seed=self.seed, draw=self.draw, jpeg_quality=self.jpeg_quality
            )
            for name in self.defenses
        }

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that the numbers depend on, as JSON can hold it; not where they are kept or on how many ranks."""
        chosen = [(*s.target_indices, s.adversarial_label, s.seed, *s.base_indices.tolist()) for s in self.chosen_setups]
        with guarded("the surrogates' weights", "no weights", "--surrogate_weights"):
            weights = [checksum_file(Path(path)) for path in self.surrogate_weights or ()]
        trigger = self.attack.build_trigger(self.data.image_shape)
        needs_public = self.scenario != "from_scratch" and (self.pretraining is None or self.attack.robust_surrogates)
        return {
            "data": _identify(self.data) | {"test": hash_split(self.data.split("test"))},
            "public": hash_split(self.public) if needs_public else None,
            "attack": self.attack.arguments(),
            "trigger": None if trigger is None else hash_array(trigger.pattern.numpy()),
            "scenario": self.scenario,
            "surrogate_backbones": self.attacker_backbones,
            "surrogate_weights": weights,
            "poisons_from": None if self.imported is None else [hash_array(p.images.numpy()) for p in self.imported],
            "victims": self.victim_backbones,
            "pretraining": None if self.pretraining is None else _identify(self.pretraining),
            "dropout": self.dropout,
            "precision": self.precision,
            "setups": digest(chosen),
            "num_setups": len(chosen),
            "num_poisons": len(self.chosen_setups[0].base_indices),
            "rows": hash_array(self.rows),
            "surrogates": self.surrogates,
            "feature_recipe": self.feature_recipe.settings(),
            "robust_recipe": self.robust_recipe.settings() if self.attack.robust_surrogates else None,
            "victim_recipe": self.victim_recipe.settings(),
            "head_views": self.head_views,
            "defenses": {name: defense.settings() for name, defense in self.built_defenses.items()},
            "seed": self.seed,
            "setups_per_batch": self.setups_per_batch,
            "sanitize_batch_size": self.sanitize_batch_size,
            "members_per_block": self.members_per_block,
            "threads": self.threads,
        }

    @cached_property
    def crafted_with(self) -> str:
        """Digest of what the poisons depend on: they serve any defence and victim, but no other attack, data or surrogate."""
        return digest({key: value for key, value in self.settings.items() if key not in _AFTER_CRAFTING})

    @property
    def run_name(self) -> str:
        """Name of the folder and of the W&B group."""
        return self.name or f"{self.data.name}-{self.attack.name}-{digest(self.settings)[:6]}"

    @property
    def folder(self) -> Path:
        """Where everything this experiment makes is kept."""
        return Path(self.output_dir) / self.run_name

    @property
    def stores_folder(self) -> Path:
        """Where sanitized clean rows are kept by content, for all experiments beside this one."""
        return Path(self.output_dir) / "stores"

    @property
    def models_folder(self) -> Path:
        """Where trained surrogates and extractors are kept by content, for all experiments beside this one."""
        return Path(self.output_dir) / "models"
