"""An experiment that can work: its data looked at, everything refused that cannot, nothing computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.attacks import Attack
from poison_and_defend.attacks.base import Scenario
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup, check_num_poisons, draw_setups
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import digest
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.datamodules.wrappers.rows import public_split, rows_of
from poison_and_defend.defenses.arm import Arm, make_arms, refuse_twins
from poison_and_defend.defenses.known import KnownDefense
from poison_and_defend.diffusion.noise_level import parse_sigma
from poison_and_defend.experiment.task.arms import check_arms, check_networks_of_filters
from poison_and_defend.experiment.task.checks import check_options, check_surrogates
from poison_and_defend.experiment.task.class_networks import ClassNetworks
from poison_and_defend.experiment.task.knowledge import IN_WORDS, known_defense, settings_of_knowledge
from poison_and_defend.experiment.task.networks import Networks
from poison_and_defend.experiment.task.options import Comparison, Experiment, Setups, Speed
from poison_and_defend.experiment.task.recipes import check_recipes
from poison_and_defend.experiment.task.settings import AFTER_CRAFTING, settings_of
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.poisons.exchange import import_poisons
from poison_and_defend.poisons.setup_files import load_setups


@dataclass(frozen=True, eq=False)
class ExperimentPlan:
    """What the steps of an experiment take; they never ask the options again.

    Attributes:
        setups: All with the same number of bases.
        rows: ``(U,)`` int64, sorted: every row of the training split that any victim trains on.
        imported: Poisons made elsewhere, validated against setups and budget; None if they are to be crafted.
        networks: What surrogates and extractors depend on.
        class_networks: What the surrogates of an attacker depend on who knows one class; None for others.
        victims: Names of the victims' networks.
        arms: The rows of the comparison, ready to use, by their names.
        known: The defence that the attacker knows; None for nothing.
        variant: What the attack does otherwise than its name says, and what is known of the defence; "" for nothing.
        told: How many poisons filters are told that one class has at most; None if nothing.
        settings: All that the numbers of every arm depend on, as JSON can hold it; not what each arm does, where they are kept
            or on how many ranks.
        crafted_with: Digest of what the poisons depend on: they serve any defence and victim, but no other attack, data or
            surrogate.
        name: Of the folder and of the W&B group.
        shared: Folder of the experiments; networks and sanitized clean rows are kept by content under it, for all of them.
    """

    data: ArrayDataModule
    attack: Attack
    scenario: Scenario
    setups: tuple[Setup, ...]
    rows: NDArray[np.int64]
    imported: list[PoisonSet] | None
    networks: Networks
    class_networks: ClassNetworks | None
    victims: tuple[str, ...]
    victim_recipe: Recipe
    head_views: int
    arms: Mapping[str, Arm]
    known: KnownDefense | None
    variant: str
    told: int | None
    speed: Speed
    seed: int
    settings: Mapping[str, Any]
    crafted_with: str
    name: str
    shared: Path
    wandb_project: str | None

    @property
    def folder(self) -> Path:
        """Where everything this experiment makes is kept."""
        return self.shared / self.name

    @property
    def stores(self) -> Path:
        """Where sanitized clean rows are kept by content, for all experiments beside this one."""
        return self.shared / "stores"

    @property
    def features(self) -> Path:
        """Where features of frozen networks are kept by content, for all experiments beside this one."""
        return self.shared / "features"

    @property
    def models(self) -> Path:
        """Where trained surrogates and extractors are kept by content, for all experiments beside this one."""
        return self.shared / "models"


def plan_experiment(experiment: Experiment) -> ExperimentPlan:
    """Look at data and denoiser, and refuse what cannot work; nothing is computed.

    Raises:
        InputError: Naming value, bound and option.
    """
    check_options(experiment)
    data, attack, place = experiment.setups.data, experiment.threat.attack, experiment.place
    setups = _choose_setups(experiment.setups, place.seed)
    rows = rows_of(setups, len(data.split("train")))
    arms = _build_arms(experiment.comparison, place.seed)
    known = known_defense(experiment, arms)
    imported = _imported(experiment, setups)
    told = len(setups[0].base_indices) if experiment.comparison.poisons_told is None else experiment.comparison.poisons_told
    check_arms(arms, data, setups, told or None, experiment.threat.scenario)
    check_recipes(experiment, arms, setups)
    public = _public(experiment, rows)
    networks = _networks(experiment, rows, public)
    check_surrogates(experiment, networks)
    _check_filters(arms, networks, experiment.victim_names)
    settings = settings_of(experiment, setups, rows, imported, public, networks) | settings_of_knowledge(experiment, known)
    return ExperimentPlan(
        data=data,
        attack=attack,
        scenario=experiment.threat.scenario,
        setups=tuple(setups),
        rows=rows,
        imported=imported,
        networks=networks,
        class_networks=_class_networks(experiment, rows, networks),
        victims=tuple(experiment.victim_names),
        victim_recipe=experiment.victims.victim_recipe,
        head_views=experiment.victims.head_views,
        arms=arms,
        known=known,
        variant=", ".join(filter(None, [attack.variant, IN_WORDS[experiment.threat.knowledge]])),
        told=told or None,
        speed=experiment.speed,
        seed=place.seed,
        settings=settings,
        crafted_with=digest({key: value for key, value in settings.items() if key not in AFTER_CRAFTING}),
        name=place.name or f"{data.name}-{attack.name}-{digest(settings)[:6]}",
        shared=Path(place.output_dir),
        wandb_project=place.wandb_project,
    )


def _check_filters(arms: Mapping[str, Arm], networks: Networks, victims: Sequence[str]) -> None:
    """Refuse filters that cannot look through a victim's network, which is built for that where there are filters."""
    if not any(arm.filters for arm in arms.values()):
        return
    shape: dict[str, Any] = {"in_channels": networks.data.image_shape[0], "num_classes": networks.data.num_classes}
    check_networks_of_filters(arms, {name: build_network(networks.described[name], **shape) for name in victims})


def _choose_setups(options: Setups, seed: int) -> list[Setup]:
    """The setups, all with the same number of bases."""
    train, test = options.data.split("train").labels.numpy(), options.data.split("test").labels.numpy()
    check_num_poisons(options.num_poisons, len(train), 0)
    if options.setups is None:
        if options.train_size is not None or options.first_poisons is not None:
            name = "train_size" if options.train_size is not None else "first_poisons"
            raise InputError(f"{name} goes with setups from a file (--setups)")
        counts = {"num_setups": options.num_setups, "num_poisons": options.num_poisons, "num_targets": options.num_targets}
        return draw_setups(train, test, seed=seed, in_turn=options.classes_in_turn, **counts)
    if options.classes_in_turn:
        raise InputError("classes_in_turn goes with setups drawn by seed, a file says its classes itself (--classes_in_turn)")
    if options.num_targets > 1:
        raise InputError("num_targets goes with setups drawn by seed, the benchmark's have one (--num_targets)")
    return load_setups(
        Path(options.setups),
        train,
        test,
        num_setups=options.num_setups,
        train_size=options.train_size,
        seed=seed,
        first_poisons=options.first_poisons,
    )


def _imported(experiment: Experiment, setups: list[Setup]) -> list[PoisonSet] | None:
    folder, attack = experiment.threat.poisons_from, experiment.threat.attack
    if folder is None:
        return None
    train, test = (experiment.setups.data.split(name).images for name in ("train", "test"))
    return [import_poisons(Path(folder), setup, train, test, attack.budget, attack.goal) for setup in setups]


def _build_arms(options: Comparison, seed: int) -> dict[str, Arm]:
    """Each row of the comparison, ready to use."""
    sigma = parse_sigma(options.sigma)
    common = {"sigma": sigma, "denoiser": options.denoiser, "steps": options.denoise_steps, "draw": options.draw}
    common |= {"seed": seed, "key": seed}
    arms = make_arms(options.arms, **common, quality=options.jpeg_quality)
    refuse_twins(arms)
    return arms


def _public(experiment: Experiment, rows: NDArray[np.int64]) -> Split | None:
    """What features may be trained on in transfer learning: no training row, no base, no test image; None if nothing is."""
    surrogates, robust = experiment.surrogates, experiment.threat.attack.robust_surrogates
    needed = (surrogates.pretraining is None and not surrogates.frozen) or robust
    if experiment.threat.scenario == "from_scratch" or not needed:
        return None
    return public_split(experiment.setups.data, rows)


def _networks(experiment: Experiment, rows: NDArray[np.int64], public: Split | None) -> Networks:
    options, data, robust = experiment.surrogates, experiment.setups.data, experiment.threat.attack.robust_surrogates
    scratch, classes, own = experiment.threat.scenario == "from_scratch", data.num_classes, public
    if options.frozen:
        split = data.split("train").subset(rows)
    elif scratch:
        # The attacker knows the training set but not the victim's initialisation (grey box).
        own = split = data.split("train").subset(rows)
    elif options.pretraining is not None:
        split, classes = options.pretraining.split("train"), options.pretraining.num_classes
    else:
        # What is neither from scratch nor pretrained elsewhere has its features from the public part.
        assert public is not None
        split = public
    return Networks(
        data=data,
        split=split,
        num_classes=classes,
        recipe=options.feature_recipe,
        robust_split=own if robust else None,
        robust_recipe=options.robust_recipe,
        robust_training=options.robust_training,
        attackers=tuple(experiment.attackers),
        described=experiment.described,
        per_attacker=options.surrogates,
        weights=tuple(Path(path) for path in options.surrogate_weights or ()),
        robust=robust,
        same_extractor=not scratch and options.surrogate_weights is None and not robust,
        dropout=options.dropout,
        low_precision=options.precision == "bfloat16",
        frozen=options.frozen,
        seed=experiment.place.seed,
        threads=experiment.speed.threads,
    )


def _class_networks(experiment: Experiment, rows: NDArray[np.int64], networks: Networks) -> ClassNetworks | None:
    known, public = experiment.threat.attack.one_class, experiment.surrogates.pretraining
    if known is None or public is None:
        return None
    return ClassNetworks(networks, public.split("train"), public.num_classes, networks.data.split("train"), rows, known)
