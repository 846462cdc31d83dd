"""One experiment: every choice that its numbers depend on, checked before anything is computed."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks import Attack
from attacks.base import Scenario
from attacks.setups import Setup, check_num_poisons, draw_setups, load_setups
from datamodules import ArrayDataModule, Split
from datamodules.store import hash_array
from defenses.denoiser import Denoiser, load_denoiser
from defenses.switch import DEFENSES, Defense, DefenseName
from errors import InputError
from files import digest
from lightning_modules.backbones import BACKBONES, BackboneName
from lightning_modules.recipe import Recipe


@dataclass
class Experiment:
    """Craft poisons, defend against them in several ways, train a victim on each, and compare.

    Args:
        data: Where images come from.
        attack: How poisons are made.
        scenario: ``transfer`` (a fresh head on frozen features that the attacker knows) or ``from_scratch``.
        backbone: Network of surrogates and victims.
        num_setups: How many setups (target, bases, seed) to try; none is discarded.
        setups: JSON file of the public benchmark's setups; drawn by seed without it.
        train_size: Size of each victim's training set when setups come from a file; by default the whole training split.
        num_poisons: Poisons per setup when setups are drawn.
        surrogates: How many networks the attacker trains; in transfer learning the victim's frozen features are the first.
        feature_recipe: How surrogates are trained: on public images (transfer), or on the clean training set (from scratch).
        victim_recipe: How victims are trained.
        defenses: What is compared; ``none`` is the undefended run.
        sigma: Standard deviation of the noise in [0, 1] pixels.
        denoiser: Local diffusers folder, or a Hugging Face id such as google/ddpm-cifar10-32.
        denoise_steps: Model evaluations per image; 1 is one-shot.
        draw: Which independent realisation of the noise.
        jpeg_quality: For the defence ``jpeg``, 1 to 95.
        name: Folder of the results under output_dir; by default data, attack and a digest of all settings.
        output_dir: Where experiments are kept.
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
    backbone: BackboneName = "convnet"
    num_setups: int = 20
    setups: str | None = None
    train_size: int | None = None
    num_poisons: int = 25
    surrogates: int = 1
    feature_recipe: Recipe = field(default_factory=Recipe)
    victim_recipe: Recipe = field(default_factory=Recipe)
    defenses: list[DefenseName] = field(default_factory=lambda: list(DEFENSES))
    sigma: float = 0.25
    denoiser: str = "pretrained/digits_denoiser"
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

    def validate(self) -> None:
        """Refuse what cannot work, reading data and denoiser but computing nothing.

        Raises:
            InputError: Naming value, bound and option.
        """
        if self.scenario not in self.attack.scenarios:
            allowed = " or ".join(sorted(self.attack.scenarios))
            raise InputError(f"{self.attack.name} is an attack on {allowed}, not on {self.scenario} (--scenario)")
        if self.backbone not in BACKBONES:
            raise InputError(f"{self.backbone!r} is not a backbone: choose from {', '.join(BACKBONES)} (--backbone)")
        if not self.defenses or len(set(self.defenses)) != len(self.defenses):
            raise InputError(f"defenses are {self.defenses}: name at least one, each once (--defenses)")
        for option in ("num_setups", "surrogates", "setups_per_batch", "sanitize_batch_size", "members_per_block", "threads"):
            if getattr(self, option) < 1:
                raise InputError(f"{option} is {getattr(self, option)}: it must be at least 1 (--{option})")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be at least 0 (--seed)")
        self.attack.budget.check_shape(self.data.image_shape)
        self.chosen_setups
        self.built_defenses
        if self.scenario == "transfer":
            self.public

    @cached_property
    def chosen_setups(self) -> list[Setup]:
        """The setups, all with the same number of bases."""
        train, test = self.data.split("train").labels.numpy(), self.data.split("test").labels.numpy()
        check_num_poisons(self.num_poisons, len(train), 0)
        if self.setups is None:
            if self.train_size is not None:
                raise InputError("train_size goes with setups from a file (--setups)")
            return draw_setups(train, test, num_setups=self.num_setups, num_poisons=self.num_poisons, seed=self.seed)
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
    def built_defenses(self) -> dict[DefenseName, Defense]:
        """Each defence of the comparison, ready to use."""
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
        train, test = self.data.split("train"), self.data.split("test")
        chosen = [(s.target_index, s.adversarial_label, s.seed, *s.base_indices.tolist()) for s in self.chosen_setups]
        return {
            "data": {
                "name": self.data.name,
                "train": hash_array(train.images.numpy()),
                "test": hash_array(test.images.numpy()),
            },
            "attack": self.attack.arguments(),
            "scenario": self.scenario,
            "backbone": self.backbone,
            "setups": digest(chosen),
            "num_setups": len(chosen),
            "num_poisons": len(self.chosen_setups[0].base_indices),
            "rows": hash_array(self.rows),
            "surrogates": self.surrogates,
            "feature_recipe": self.feature_recipe.settings(),
            "victim_recipe": self.victim_recipe.settings(),
            "defenses": {name: defense.settings() for name, defense in self.built_defenses.items()},
            "seed": self.seed,
            "setups_per_batch": self.setups_per_batch,
            "sanitize_batch_size": self.sanitize_batch_size,
            "members_per_block": self.members_per_block,
            "threads": self.threads,
        }

    @property
    def run_name(self) -> str:
        """Name of the folder and of the W&B group."""
        return self.name or f"{self.data.name}-{self.attack.name}-{digest(self.settings)[:6]}"

    @property
    def folder(self) -> Path:
        """Where everything this experiment makes is kept."""
        return Path(self.output_dir) / self.run_name


def rows_of(setups: list[Setup], count: int) -> np.ndarray:
    """Sorted int64: every row, of ``count``, that a victim of one of the setups trains on."""
    used = np.zeros(count, bool)
    for setup in setups:
        used[setup.rows(count)] = True
    return np.flatnonzero(used)


def used_rows(data: ArrayDataModule, setups: str | None, train_size: int | None, num_setups: int) -> np.ndarray:
    """The rows that setups from a file train on, or all rows where there is no file."""
    train, test = data.split("train").labels.numpy(), data.split("test").labels.numpy()
    if setups is None:
        return np.arange(len(train))
    return rows_of(load_setups(Path(setups), train, test, num_setups=num_setups, train_size=train_size, seed=0), len(train))


def public_split(data: ArrayDataModule, used: np.ndarray) -> Split:
    """The data set's public part or, if it has none, the training rows that are not in ``used``.

    Raises:
        InputError: If neither exists.
    """
    train = data.split("train")
    if len(used) < len(train):
        rest = np.setdiff1d(np.arange(len(train)), used)
        return Split(train.images[torch.from_numpy(rest)], train.labels[torch.from_numpy(rest)])
    return data.split("public")
