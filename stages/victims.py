"""Training one victim per setup and defence, all in one ensemble, and scoring them."""

import time
from dataclasses import dataclass

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from attacks.poison_set import PoisonSet
from callbacks.ensemble_scores import EnsembleScores, Score, Watch
from defenses.switch import DefenseName
from lightning_modules.backbones import Backbone
from lightning_modules.classifier import fresh_head
from lightning_modules.ensemble import EnsembleData
from ranks import Ranks
from stages.experiment import Experiment
from stages.models import backbone_builder, extract_features, fit_members
from stages.sanitize import Sanitized


@dataclass(frozen=True)
class Member:
    """One victim: which setup poisoned its training set, and which defence that went through."""

    setup: int
    defense: DefenseName


def train_victims(
    experiment: Experiment,
    surrogates: list[Backbone],
    poison_sets: list[PoisonSet],
    sanitized: dict[DefenseName, Sanitized],
    ranks: Ranks,
    logger: Logger | None = None,
) -> tuple[list[Score], float]:
    """Train every victim and test it.

    In transfer learning the frozen extractor is the attacker's (white box); its features of all rows are computed once,
    and the members are linear heads. From scratch the members are whole networks with initialisations of their own.

    Returns:
        A score per setup and defence, on every rank, and seconds per victim.
    """
    started = time.perf_counter()
    members = [Member(s, d) for s in range(len(poison_sets)) for d in sanitized]
    data = training_sets(experiment, members, poison_sets, sanitized)
    test = experiment.data.split("test")
    targets, test_inputs = torch.stack([p.target for p in poison_sets]), test.images
    if experiment.scenario == "transfer":
        extractor = surrogates[0]
        data = EnsembleData(extract_features(extractor, data.pool, ranks.device), data.labels, data.rows)
        targets = extract_features(extractor, targets, ranks.device)
        test_inputs = extract_features(extractor, test_inputs, ranks.device)
        width, classes = extractor.num_features, experiment.data.num_classes

        def build(seed: int) -> torch.nn.Module:
            return fresh_head(width, classes, seed)
    else:
        build = backbone_builder(experiment)  # type: ignore[assignment]

    scores: list[EnsembleScores] = []

    def callbacks(own: list[int]) -> list[EnsembleScores]:
        chosen = [members[m] for m in own]
        setups = [poison_sets[m.setup].setup for m in chosen]
        watch = Watch(
            names=[(setup.index, member.defense) for setup, member in zip(setups, chosen, strict=True)],
            targets=targets[[m.setup for m in chosen]],
            adversarial_labels=torch.tensor([setup.adversarial_label for setup in setups]),
            test_inputs=test_inputs,
            test_labels=test.labels,
        )
        scores.append(EnsembleScores(watch, ranks))
        return scores

    fit_members(
        build,
        [poison_sets[m.setup].setup.seed for m in members],
        data,
        experiment.victim_recipe,
        ranks,
        per_block=experiment.members_per_block,
        threads=experiment.threads,
        text=f"train {len(members)} victims ({len(poison_sets)} setups x {len(sanitized)} defences)",
        callbacks=callbacks,
        logger=logger,
    )
    order = {(poison_sets[m.setup].setup.index, m.defense): i for i, m in enumerate(members)}
    found = sorted(scores[0].scores, key=lambda score: order[score.setup, score.defense])  # type: ignore[index]
    return found, (time.perf_counter() - started) / len(members)


def training_sets(
    experiment: Experiment, members: list[Member], poison_sets: list[PoisonSet], sanitized: dict[DefenseName, Sanitized]
) -> EnsembleData:
    """All members' training sets over one pool: per defence the clean rows, then the poisons of every setup."""
    train = experiment.data.split("train")
    rows = torch.from_numpy(experiment.rows)
    poison_rows = torch.cat([torch.from_numpy(p.setup.base_indices) for p in poison_sets])
    pool = torch.cat([part for s in sanitized.values() for part in (s.clean, s.poisons)])
    labels = torch.cat([train.labels[rows], train.labels[poison_rows]]).repeat(len(sanitized))
    offsets = {name: i * (len(rows) + len(poison_rows)) for i, name in enumerate(sanitized)}
    place = torch.full((len(train),), -1)
    place[rows] = torch.arange(len(rows))
    count = len(poison_sets[0].images)
    sets: list[Tensor] = []
    for member in members:
        setup = poison_sets[member.setup].setup
        own = place[torch.from_numpy(setup.rows(len(train)))]
        own[torch.from_numpy(setup.positions)] = len(rows) + member.setup * count + torch.arange(count)
        sets.append(own + offsets[member.defense])
    return EnsembleData(pool, labels, torch.stack(sets))
