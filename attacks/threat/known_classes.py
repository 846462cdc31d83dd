"""What an attacker who knows one class of a data set is given of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.surrogate import AdversarialClass, Surrogate
from poison_and_defend.core.errors import InputError


@dataclass(frozen=True)
class OneClass:
    """How an attacker who knows one class trains surrogates on that and on public data of other classes.

    Attributes:
        in_training: Whether the class is among the public ones from the beginning, or comes with the warm-up.
        warm_up_epochs: Epochs on the class alone afterwards, by RAdam; 0 for none.
        warm_up_rate: Learning rate of these.
        warm_up_batch: Images a step of these.
    """

    in_training: bool
    warm_up_epochs: int
    warm_up_rate: float
    warm_up_batch: int


def known_classes(
    attack: str,
    setups: Sequence[Setup],
    train_images: Tensor,
    train_labels: Tensor,
    surrogates: Mapping[int, Sequence[Surrogate]],
) -> tuple[AdversarialClass, ...]:
    """One per setup: the images of its adversarial class that its victim gets or that it perturbs, and that class's surrogates.

    Args:
        attack: Its name, for messages.
        train_images: ``(N, C, H, W)`` uint8.
        train_labels: ``(N,)`` int64.
        surrogates: By class.

    Raises:
        InputError: If a class has no surrogate.
    """
    known: list[AdversarialClass] = []
    for setup in setups:
        label = setup.adversarial_label
        if not surrogates.get(label):
            raise InputError(
                f"{attack}: setup {setup.index} needs a surrogate for its adversarial class {label}, trained on that and "
                "on data of other classes (--pretraining)"
            )
        rows = torch.from_numpy(setup.rows(len(train_labels)))
        # The victim's set need not hold the bases as they are, but the attacker has them.
        rows = torch.cat([rows, torch.from_numpy(setup.base_indices)]).unique()
        rows = rows[train_labels[rows] == label]
        known.append(AdversarialClass(train_images[rows], surrogates[label], rows))
    return tuple(known)
