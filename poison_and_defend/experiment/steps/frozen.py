"""Victims on frozen features: what heads are trained on, and votes that train nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation
from poison_and_defend.callbacks.ensemble_scores import Score, Watch, read_scores
from poison_and_defend.core.hashing import hash_array
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.streams import step_generator
from poison_and_defend.datamodules.wrappers.rows import trusted_split
from poison_and_defend.defenses.voting.base import Reading, Rows
from poison_and_defend.experiment.steps.training_sets import Member
from poison_and_defend.experiment.steps.victim_networks import VictimNetworks
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.training.kept_features import KeptFeatures


def read_by_vote(
    networks: VictimNetworks,
    voting: Reading,
    arm: str,
    members: Sequence[Member],
    data: EnsembleData,
    watch: Watch,
    ranks: Ranks,
) -> list[Score]:
    """Scores of votes that train nothing, one of each member; every rank has them all.

    Args:
        arm: Whose vote it is.
        data: Features of the members' sets.
    """
    trusted = _trusted(networks, voting, arm, ranks)

    def read(number: int, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        # A set that was shorter than others was gone through again to fill it up.
        kept = members[number].positions
        rows = data.rows[number] if kept is None else data.rows[number][: len(kept)]
        received = Rows(data.pool[rows].cpu(), data.labels[rows].cpu())
        return voting.read(received, trusted, inputs.cpu(), watch.num_classes)

    return read_scores(watch, read)


def _trusted(networks: VictimNetworks, voting: Reading, arm: str, ranks: Ranks) -> Rows:
    """What a vote is given beside the received rows: as they are, without the arm's rewriters."""
    plan, features = networks.plan, networks.kept_features(ranks)
    if not voting.trusted:
        return Rows(torch.zeros(0, features.model.num_features), torch.zeros(0, dtype=torch.int64))
    chosen = trusted_split(plan.data, plan.rows, voting.trusted, plan.seed, f"--arms.{arm}.trusted")
    return Rows(features.of(chosen.images).cpu(), chosen.labels)


def head_inputs(plan: ExperimentPlan, features: KeptFeatures, data: EnsembleData, lengths: Sequence[int]) -> EnsembleData:
    """Features of every pool row in all of its versions, and of several augmented views if heads are trained with augmentation.

    Args:
        data: One version of every row after another; an augmented view is one of the next version.
        lengths: Of the parts of a version, each of which is kept by itself: clean rows come again in other experiments.
    """
    versions = [version.split(list(lengths)) for version in data.pool.chunk(data.views)]
    if not plan.victim_recipe.augments:
        found = [torch.cat([features.of(part) for part in parts]) for parts in versions]
    else:
        count = -(-plan.head_views // len(versions)) * len(versions)
        found = [_view(plan, features, versions[view % len(versions)], view) for view in range(count)]
    return EnsembleData(torch.cat(found), data.labels, data.rows, len(found))


def _view(plan: ExperimentPlan, features: KeptFeatures, parts: Sequence[Tensor], view: int) -> Tensor:
    """Features of one augmentation of every row, the same in every run."""
    recipe = plan.victim_recipe
    drawn = draw_augmentation((sum(map(len, parts)),), step_generator(plan.seed, -1 - view), flip=recipe.flip)
    found = []
    for part, own in zip(parts, drawn.split([len(part) for part in parts]), strict=True):

        def seen(images: Tensor, rows: Tensor, own: Tensor = own) -> Tensor:
            return augment(images, own[rows].to(images.device), recipe.max_shift)

        found.append(features.of(part, seen, [hash_array(own.numpy()), recipe.max_shift]))
    return torch.cat(found)
