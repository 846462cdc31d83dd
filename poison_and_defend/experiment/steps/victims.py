"""Training one victim per setup, architecture and defence, all of one architecture in one ensemble, and scoring them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.ensemble_scores import EnsembleScores, Score, Watch
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses.switch import DefenseName
from poison_and_defend.experiment.steps.feature_space import save_feature_space
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.steps.surrogates import extractor
from poison_and_defend.experiment.steps.training_sets import Member, training_sets
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleData, State
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import step_generator
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.members import Fit, fit_members

Arms = dict[DefenseName, Sanitized]


def train_victims(
    plan: ExperimentPlan,
    victim: str,
    poison_sets: list[PoisonSet],
    arms: Arms,
    ranks: Ranks,
    logger: Logger | None = None,
) -> tuple[list[Score], float]:
    """Train every victim of one architecture and test it.

    In transfer learning all share a frozen extractor; the features of all rows are computed once, and the members are linear
    heads. In fine-tuning they start from it, and batch normalization keeps its statistics. From scratch they are whole
    networks with initialisations of their own.

    Args:
        arms: Training images under each defence.

    Returns:
        A score per setup and defence, on every rank, and seconds per victim.
    """
    started = time.perf_counter()
    base = None if plan.scenario == "from_scratch" else extractor(plan, victim, ranks, logger)
    cohort = Cohort(plan, victim, poison_sets, arms, base)
    scores, states = cohort.fit(ranks, logger)
    if victim == plan.victims[0]:
        cohort.show_features(states, ranks)
    return scores, (time.perf_counter() - started) / len(cohort.members)


@dataclass(frozen=True, eq=False)
class Cohort:
    """All victims of one architecture: one a setup and defence.

    Attributes:
        base: The frozen extractor that all start from, None from scratch.
    """

    plan: ExperimentPlan
    victim: str
    poison_sets: list[PoisonSet]
    arms: Arms
    base: Classifier | None
    members: list[Member] = field(init=False)

    def __post_init__(self) -> None:
        members = [Member(setup, defense) for setup in range(len(self.poison_sets)) for defense in self.arms]
        object.__setattr__(self, "members", members)

    def fit(self, ranks: Ranks, logger: Logger | None) -> tuple[list[Score], dict[int, State]]:
        """Train them with all ranks; every score on every rank, and the states of this rank's members by number."""
        plan, setups, arms = self.plan, len(self.poison_sets), len(self.arms)
        data, (clean, triggered) = training_sets(plan, self.members, self.poison_sets, self.arms), self._tested()
        if plan.scenario == "transfer" and self.base is not None:
            data = head_inputs(plan, self.base, data, ranks)
            clean = extract_features(self.base, clean, ranks.device)
            triggered = None if triggered is None else extract_features(self.base, triggered, ranks.device)
        scores: list[EnsembleScores] = []

        def callbacks(own: list[int]) -> list[EnsembleScores]:
            scores.append(EnsembleScores(self._watch(own, clean, triggered), ranks))
            return scores

        states = fit_members(
            self.build,
            [self.poison_sets[m.setup].setup.seed for m in self.members],
            data,
            plan.victim_recipe,
            ranks,
            Fit(
                per_block=plan.speed.members_per_block,
                threads=plan.speed.threads,
                text=f"train {len(self.members)} {self.victim} victims ({setups} setups x {arms} defences)",
                frozen_statistics=plan.scenario == "fine_tune",
            ),
            callbacks=callbacks,
            logger=logger,
        )
        order = {(self.poison_sets[m.setup].setup.index, m.defense): number for number, m in enumerate(self.members)}
        found = sorted(scores[0].scores, key=lambda score: order[score.setup, score.defense])  # type: ignore[index]
        return found, states

    def build(self, seed: int) -> nn.Module:
        """An untrained victim: a linear head in transfer learning, else a whole network."""
        data, base = self.plan.data, self.base
        if self.plan.scenario == "transfer":
            return fresh_head(base.num_features, data.num_classes, seed)  # type: ignore[union-attr]
        shape: dict[str, Any] = {"in_channels": data.image_shape[0], "num_classes": data.num_classes}
        model = build_network(self.plan.networks.described[self.victim], **shape, mean=data.mean, std=data.std, seed=seed)
        if base is not None:
            model.body.load_state_dict(base.body.state_dict())
            model.head = fresh_head(model.num_features, data.num_classes, seed)
        return model

    def show_features(self, states: dict[int, State], ranks: Ranks) -> None:
        """Keep what the report shows of the first setup: features of the extractor, or of the trained victim itself."""
        for number, state in states.items():
            member = self.members[number]
            if member.setup != 0:
                continue
            model = self.base
            if model is None or self.plan.scenario == "fine_tune":
                model = self.build(0)  # type: ignore[assignment]
                model.load_state_dict(state)  # type: ignore[union-attr]
            save_feature_space(self.plan, model, self.poison_sets[0], member.defense, self.arms[member.defense], ranks)  # type: ignore[arg-type]

    def _tested(self) -> tuple[Tensor, Tensor | None]:
        """Test images, and the same with the trigger if the attack has one."""
        images, trigger = self.plan.data.split("test").images, self.poison_sets[0].trigger
        return images, None if trigger is None else trigger.stamp(images, torch.arange(len(images)))

    def _watch(self, own: list[int], clean: Tensor, triggered: Tensor | None) -> Watch:
        chosen = [self.members[number] for number in own]
        return Watch(
            names=[(self.poison_sets[m.setup].setup.index, m.defense) for m in chosen],
            poison_sets=[self.poison_sets[m.setup] for m in chosen],
            test_inputs=clean,
            triggered_inputs=triggered,
            test_labels=self.plan.data.split("test").labels,
        )


def head_inputs(plan: ExperimentPlan, base: Classifier, data: EnsembleData, ranks: Ranks) -> EnsembleData:
    """Features of every pool row, of several augmented views if heads are trained with augmentation."""
    recipe, device = plan.victim_recipe, ranks.device
    if recipe.max_shift == 0 and not recipe.flip:
        return EnsembleData(extract_features(base, data.pool, device), data.labels, data.rows)
    parts = [
        extract_features(base, data.pool, device, transform=_view(plan, view, len(data.pool)))
        for view in range(plan.head_views)
    ]
    return EnsembleData(torch.cat(parts), data.labels, data.rows, plan.head_views)


def _view(plan: ExperimentPlan, view: int, count: int) -> Callable[[Tensor, Tensor], Tensor]:
    """One augmentation of every one of ``count`` rows, the same in every run."""
    recipe = plan.victim_recipe
    drawn = draw_augmentation((count,), step_generator(plan.seed, -1 - view), flip=recipe.flip)
    return lambda images, rows: augment(images, drawn[rows].to(images.device), recipe.max_shift)
