"""Training one victim per setup, architecture and defence, all of one architecture in one ensemble, and scoring them."""

import time
from collections.abc import Callable

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.ensemble_scores import EnsembleScores, Score, Watch
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.defenses.switch import DefenseName
from poison_and_defend.experiment.steps.feature_space import save_feature_space
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.steps.surrogates import extractor
from poison_and_defend.experiment.steps.training_sets import Member, training_sets
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.backbones import Backbone, BackboneName, build_backbone
from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleData
from poison_and_defend.lightning_modules.recipe import step_generator
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.members import fit_members


def train_victims(
    experiment: Experiment,
    victim: BackboneName,
    poison_sets: list[PoisonSet],
    sanitized: dict[DefenseName, Sanitized],
    ranks: Ranks,
    logger: Logger | None = None,
) -> tuple[list[Score], float]:
    """Train every victim of one architecture and test it.

    In transfer learning all share a frozen extractor; the features of all rows are computed once, and the members are linear
    heads. In fine-tuning they start from it, and batch normalization keeps its statistics. From scratch they are whole
    networks with initialisations of their own.

    Returns:
        A score per setup and defence, on every rank, and seconds per victim.
    """
    started = time.perf_counter()
    members = [Member(s, d) for s in range(len(poison_sets)) for d in sanitized]
    data = training_sets(experiment, members, poison_sets, sanitized)
    test, trigger = experiment.data.split("test"), poison_sets[0].trigger
    tested = [test.images] if trigger is None else [test.images, trigger.stamp(test.images, torch.arange(len(test)))]
    base = None if experiment.scenario == "from_scratch" else extractor(experiment, victim, ranks, logger)
    if experiment.scenario == "transfer" and base is not None:
        data = _features(experiment, base, data, ranks)
        tested = [extract_features(base, images, ranks.device) for images in tested]
    build = _builder(experiment, victim, base)
    scores: list[EnsembleScores] = []

    def callbacks(own: list[int]) -> list[EnsembleScores]:
        chosen = [members[m] for m in own]
        watch = Watch(
            names=[(poison_sets[m.setup].setup.index, m.defense) for m in chosen],
            poison_sets=[poison_sets[m.setup] for m in chosen],
            test_inputs=tested[0],
            triggered_inputs=None if trigger is None else tested[1],
            test_labels=test.labels,
        )
        scores.append(EnsembleScores(watch, ranks))
        return scores

    states = fit_members(
        build,
        [poison_sets[m.setup].setup.seed for m in members],
        data,
        experiment.victim_recipe,
        ranks,
        per_block=experiment.members_per_block,
        threads=experiment.threads,
        text=f"train {len(members)} {victim} victims ({len(poison_sets)} setups x {len(sanitized)} defences)",
        callbacks=callbacks,
        logger=logger,
        frozen_statistics=experiment.scenario == "fine_tune",
    )
    if victim == experiment.victim_backbones[0]:
        # The first setup's networks are the ones that the report looks into.
        for number in (n for n in states if members[n].setup == 0):
            model = build(0) if base is None or experiment.scenario == "fine_tune" else base
            if model is not base:
                model.load_state_dict(states[number], strict=False)
            save_feature_space(experiment, model, poison_sets[0], members[number].defense, sanitized, ranks)  # type: ignore[arg-type]
    order = {(poison_sets[m.setup].setup.index, m.defense): i for i, m in enumerate(members)}
    found = sorted(scores[0].scores, key=lambda score: order[score.setup, score.defense])  # type: ignore[index]
    return found, (time.perf_counter() - started) / len(members)


def _builder(experiment: Experiment, victim: BackboneName, base: Backbone | None) -> Callable[[int], nn.Module]:
    """Seed to an untrained victim."""
    data = experiment.data

    def head(seed: int) -> nn.Module:
        return fresh_head(base.num_features, data.num_classes, seed)  # type: ignore[union-attr]

    def network(seed: int) -> nn.Module:
        model = build_backbone(
            victim,
            in_channels=data.image_shape[0],
            num_classes=data.num_classes,
            mean=data.mean,
            std=data.std,
            seed=seed,
        )
        if base is not None:
            model.body.load_state_dict(base.body.state_dict())
            model.head = fresh_head(model.num_features, data.num_classes, seed)
        return model

    return head if experiment.scenario == "transfer" else network


def _features(experiment: Experiment, base: Backbone, data: EnsembleData, ranks: Ranks) -> EnsembleData:
    """Features of every pool row, of several augmented views if heads are trained with augmentation."""
    recipe = experiment.victim_recipe
    if recipe.max_shift == 0 and not recipe.flip:
        return EnsembleData(extract_features(base, data.pool, ranks.device), data.labels, data.rows)
    parts = []
    for view in range(experiment.head_views):
        drawn = draw_augmentation((len(data.pool),), step_generator(experiment.seed, -1 - view), flip=recipe.flip)

        def transform(images: Tensor, rows: Tensor, drawn: Tensor = drawn) -> Tensor:
            return augment(images, drawn[rows].to(images.device), recipe.max_shift)

        parts.append(extract_features(base, data.pool, ranks.device, transform=transform))
    return EnsembleData(torch.cat(parts), data.labels, data.rows, experiment.head_views)
