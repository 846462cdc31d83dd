"""Whether the arms of a comparison can work on its data, before anything is computed."""

from collections.abc import Mapping, Sequence

import torch

from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.datamodules import ArrayDataModule
from poison_and_defend.defenses.arm import Arm


def check_arms(arms: Mapping[str, Arm], data: ArrayDataModule, setups: Sequence[Setup], told: int | None) -> None:
    """Refuse arms that cannot work on these sets.

    Args:
        arms: By name.
        data: Whose training split they act on.
        setups: What each victim trains on.
        told: How many poisons filters are told of.

    Raises:
        InputError: Naming value, bound and option.
    """
    labels = data.split("train").labels
    rows = [torch.from_numpy(setup.rows(len(labels))) for setup in setups]
    for arm in arms.values():
        arm.check(data.image_shape, data.num_classes)
        for own in rows[: len(rows) if arm.filters or arm.voting else 0]:
            if arm.filters:
                arm.filters[0].check_set(labels[own], told)
            elif arm.voting is not None:
                arm.voting.check_parts(arm.voting.parts(own, labels[own], data.num_classes), len(own))


def unproved(arm: Arm, data: ArrayDataModule) -> str | None:
    """Why the bound of an arm's vote does not hold, in words; None where it does, or there is no vote."""
    if arm.voting is not None and data.statistics_origin == "raw":
        return "the normalization inside every model was computed from the whole received set"
    return arm.unproved
