"""Which image is the target, which images may be perturbed: the choices that an attack starts from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Setup:
    """One choice of target and bases, and the seed of everything random about it.

    Attributes:
        index: Number of this setup within its experiment.
        seed: Seeds crafting and the victim of this setup.
        target_index: Row of the target in the test split.
        target_label: Its true class.
        adversarial_label: The class the attacker wants, which is the label of every base.
        base_indices: ``(k,)`` int64, rows of the training split that may be perturbed.
        train_rows: ``(N,)`` int64, the rows of the training split that the victim trains on, *the last k of which
            are the bases in order*; None means the whole split, in which each base is found at its own row.
        more_targets: Further test rows of the same class, for an attack on several views of a thing.
    """

    index: int
    seed: int
    target_index: int
    target_label: int
    adversarial_label: int
    base_indices: Indices
    train_rows: Indices | None = None
    more_targets: tuple[int, ...] = ()

    @property
    def target_indices(self) -> tuple[int, ...]:
        """Test rows of all targets, the one that the benchmark's rule looks at first."""
        return (self.target_index, *self.more_targets)

    @property
    def positions(self) -> Indices:
        """``(k,)`` int64: where the poisons stand in the victim's training set."""
        if self.train_rows is None:
            return self.base_indices
        return np.arange(len(self.train_rows) - len(self.base_indices), len(self.train_rows))

    def rows(self, num_train: int) -> Indices:
        """``(N,)`` int64: the rows of the training split, of ``num_train`` rows, that the victim trains on."""
        return np.arange(num_train) if self.train_rows is None else self.train_rows


def setup_seed(seed: int, index: int) -> int:
    """A seed for setup ``index`` that no other (seed, index) pair is likely to share: 63 bits, not a sum."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def check_num_poisons(num_poisons: int, available: int, label: int) -> None:
    """Refuse a number of poisons below one or above the number of base-class images."""
    at_least("num_poisons", num_poisons, 1)
    if num_poisons > available:
        raise InputError(
            f"num_poisons is {num_poisons}, but class {label} has only {available} training images to perturb (--num_poisons)"
        )


def draw_setups(
    train_labels: Indices,
    test_labels: Indices,
    *,
    num_setups: int,
    num_poisons: int,
    seed: int,
    num_targets: int = 1,
    in_turn: bool = False,
) -> list[Setup]:
    """Draw setups by seed: a uniform test image, a uniform other class, uniform bases of that class.

    None is discarded, whatever a clean model makes of its target, and setup i does not depend on how many are drawn.

    Args:
        in_turn: Setup i has the i-th class, beginning anew after the last, as its adversarial one, instead of a drawn class;
            its target is a uniform test image of any other class.

    Raises:
        InputError: If ``num_setups`` or ``num_poisons`` is below 1, or a drawn class has too few images.
    """
    at_least("num_setups", num_setups, 1)
    at_least("num_targets", num_targets, 1)
    classes = np.unique(train_labels)
    if len(classes) < 2:
        raise InputError(f"the training set has {len(classes)} class: an attack needs at least 2 (--data)")
    smallest = min(classes, key=lambda c: int((train_labels == c).sum()))
    check_num_poisons(num_poisons, int((train_labels == smallest).sum()), int(smallest))
    setups = []
    for index in range(num_setups):
        own_seed = setup_seed(seed, index)
        rng = np.random.default_rng(own_seed)
        if in_turn:
            adversarial_label = int(classes[index % len(classes)])
            target_index = _target_of_others(test_labels, adversarial_label, rng)
            target_label = int(test_labels[target_index])
        else:
            target_index = int(rng.integers(len(test_labels)))
            target_label = int(test_labels[target_index])
            adversarial_label = int(rng.choice(classes[classes != target_label]))
        candidates = np.flatnonzero(train_labels == adversarial_label)
        bases = rng.choice(candidates, num_poisons, replace=False)
        others = np.setdiff1d(np.flatnonzero(test_labels == target_label), [target_index])
        if len(others) < num_targets - 1:
            raise InputError(
                f"num_targets is {num_targets}, but class {target_label} has {len(others) + 1} test images (--num_targets)"
            )
        # Drawn last, so that one target or several, the first and the bases are the same.
        more = tuple(int(row) for row in rng.choice(others, num_targets - 1, replace=False))
        setups.append(Setup(index, own_seed, target_index, target_label, adversarial_label, bases.astype(np.int64), None, more))
    return setups


def _target_of_others(test_labels: Indices, adversarial_label: int, rng: np.random.Generator) -> int:
    others = np.flatnonzero(test_labels != adversarial_label)
    if len(others) == 0:
        raise InputError(f"every test image is of class {adversarial_label}: there is none to be misread as it (--data)")
    return int(rng.choice(others))
