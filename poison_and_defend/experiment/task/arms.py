"""Whether the arms of a comparison can work on its data, before anything is computed."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from poison_and_defend.attacks.base import Scenario
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import ArrayDataModule
from poison_and_defend.datamodules.wrappers.rows import rows_of, trusted_split
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.defenses.training.base import is_plain
from poison_and_defend.defenses.voting.base import Reading
from poison_and_defend.diffusion.find_denoiser import find_denoiser
from poison_and_defend.images.row_digests import read_training_rows, row_digests, shared_rows


def check_arms(
    arms: Mapping[str, Arm], data: ArrayDataModule, setups: Sequence[Setup], told: int | None, scenario: Scenario
) -> None:
    """Refuse arms that cannot work on these sets.

    Args:
        arms: By name.
        data: Whose training split they act on.
        setups: What each victim trains on.
        told: How many poisons filters are told of.
        scenario: How victims are trained.

    Raises:
        InputError: Naming value, bound and option.
    """
    labels = data.split("train").labels
    _check_denoisers(arms, data, setups)
    rows = [torch.from_numpy(setup.rows(len(labels))) for setup in setups]
    used = rows_of(setups, len(labels))
    for arm in arms.values():
        arm.check(data.image_shape, data.num_classes)
        for setup, own in zip(setups, rows, strict=True):
            for step in arm.filters:
                # A later filter gets fewer rows: what it cannot judge in all of them it cannot judge in those either.
                step.check_set(labels[own], told if step.told_of == "bound" else None)
            if arm.attacked and any(step.told_of == "poisons" for step in arm.filters):
                _check_clean_rows(arm, labels[own], setup)
            if isinstance(arm.voting, Reading):
                _check_reading(arm, arm.voting, scenario, data, used)
            elif arm.voting is not None and not arm.filters:
                arm.voting.check_parts(arm.voting.parts(own, labels[own], data.num_classes), len(own))


def check_networks_of_filters(arms: Mapping[str, Arm], networks: Mapping[str, nn.Module]) -> None:
    """Refuse filters that cannot look through the victims' networks.

    Args:
        arms: By name.
        networks: Of every victim by its name, whatever their weights.

    Raises:
        InputError: Naming the network and the option.
    """
    for arm in arms.values():
        for step in arm.filters:
            for name, network in networks.items():
                step.check_network(network, name)


def _check_clean_rows(arm: Arm, labels: Tensor, setup: Setup) -> None:
    """Refuse to drop every poison where a class has no other row."""
    left = torch.ones(len(labels), dtype=torch.bool)
    left[torch.from_numpy(setup.positions)] = False
    for label in labels.unique().tolist():
        if not (left & (labels == label)).any():
            raise InputError(
                f"the arm {arm.name} is told which rows are poisoned, and all {int((labels == label).sum())} rows of class "
                f"{label} are: at least one must stay (--num_poisons, --defenses)"
            )


def _check_reading(arm: Arm, vote: Reading, scenario: Scenario, data: ArrayDataModule, used: NDArray[np.int64]) -> None:
    if scenario != "transfer":
        raise InputError(
            f"the vote {vote.name} reads features of a frozen network, and in {scenario} it is trained on the received set "
            f"(--scenario transfer, --arms.{arm.name})"
        )
    if not is_plain(arm.training):
        raise InputError(
            f"the arm {arm.name} has the training recipe {arm.training.name} before the vote {vote.name}, which trains "
            f"nothing: leave one away (--arms.{arm.name})"
        )
    if vote.trusted:
        trusted_split(data, used, vote.trusted, 0, f"--arms.{arm.name}.trusted")


def _check_denoisers(arms: Mapping[str, Arm], data: ArrayDataModule, setups: Sequence[Setup]) -> None:
    """Refuse a denoiser that knows what it is to clean: what it then achieves, no defender would."""
    sources = {getattr(step, "source", None): arm.name for arm in arms.values() for step in arm.rewriters}
    folders = {source: find_denoiser(source)[1] for source in sources if isinstance(source, str)}
    seen = {source: read_training_rows(folder) for source, folder in folders.items() if folder is not None}
    if all(rows is None for rows in seen.values()):
        return
    images = data.split("train").images
    received = row_digests(images[torch.from_numpy(rows_of(setups, len(images)))])
    for source, rows in seen.items():
        common = 0 if rows is None else shared_rows(rows, received)
        if common:
            raise InputError(
                f"the denoiser {source} was trained on {common} of the {len(received)} images that victims receive, and would "
                f"know them better than any defender's: take one that has seen others (--denoiser, --arms.{sources[source]})"
            )


def unproved(arm: Arm, data: ArrayDataModule) -> str | None:
    """Why the bound of an arm's vote does not hold, in words; None where it does, or there is no vote."""
    if arm.voting is not None and data.statistics_origin == "raw":
        return "the normalization inside every model was computed from the whole received set"
    return arm.unproved
