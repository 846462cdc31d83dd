"""Exchanging poisons with the public benchmark: a folder or an ``.npz`` per setup, in its terms."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.patch import Trigger
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.poisons.benchmark_files import BenchmarkPoisons, read_benchmark, read_npz, write_benchmark, write_npz
from poison_and_defend.poisons.files import load_poisons

_NAME = "{:03d}"


def to_benchmark(poisons: PoisonSet) -> BenchmarkPoisons:
    """One setup as the benchmark sees it: a backdoor's patch lies where this project puts it on the target.

    Raises:
        InputError: If the trigger is no single patch that overwrites pixels.
    """
    setup, trigger, patch, location = poisons.setup, poisons.trigger, None, None
    if trigger is not None:
        if not isinstance(trigger, Trigger) or trigger.placement == "four_corners" or trigger.amplitude != 1:
            raise InputError(
                f"setup {setup.index}: the benchmark tests with one patch that overwrites pixels, not with this trigger (--run)"
            )
        top, left = trigger.places(torch.tensor([setup.target_index]), *poisons.target.shape[1:])[0].tolist()
        patch, location = np.asarray(trigger.pattern.numpy() / 255, np.float32), (left, top)
    label, true = setup.adversarial_label, setup.target_label
    return BenchmarkPoisons(poisons.images, label, setup.base_indices, poisons.target, true, patch, location)


def from_benchmark(
    found: BenchmarkPoisons, setup: Setup, train_images: Tensor, test_images: Tensor, budget: Budget, goal: str, source: str
) -> PoisonSet:
    """Poisons made elsewhere, laid over one of our setups and held to a budget.

    Args:
        setup: Whose bases and target they must be for.
        budget: What they promise to keep.
        goal: What success is measured on; see :data:`poison_and_defend.attacks.base.Goal`.
        source: Where they come from, for messages and records.

    Raises:
        InputError: If bases, label or target are not the setup's, or a poison leaves the budget.
    """
    name = f"{source} for setup {setup.index}"
    if not np.array_equal(found.base_indices, setup.base_indices):
        raise InputError(f"{name}: its base indices are not the setup's (--setups, --poisons_from)")
    if (found.label, found.target_label) != (setup.adversarial_label, setup.target_label):
        raise InputError(
            f"{name}: poisons of class {found.label} for a target of class {found.target_label}, the setup has "
            f"{setup.adversarial_label} and {setup.target_label} (--poisons_from)"
        )
    target = test_images[setup.target_index]
    if found.images.shape[1:] != train_images.shape[1:]:
        raise InputError(
            f"{name}: images of shape {tuple(found.images.shape[1:])}, the data's are {tuple(train_images.shape[1:])}"
        )
    if not torch.equal(found.target, target):
        raise InputError(f"{name}: its target is not test image {setup.target_index} of this data set (--poisons_from)")
    trigger = None
    if found.patch is not None and found.location is not None:
        pattern = torch.from_numpy((found.patch * 255).round().astype(np.uint8))
        trigger = Trigger(pattern, "fixed", place=(found.location[1], found.location[0]))
    bases = train_images[torch.from_numpy(setup.base_indices)]
    if (trigger is None) != (goal == "targets"):
        has = "no trigger" if trigger is None else "a trigger"
        raise InputError(f"{name} has {has}, which does not go with the attack: name the one that made it (--attack)")
    return PoisonSet(
        setup, found.images, bases, target, budget, {"name": "imported", "source": source}, trigger=trigger, goal=goal
    )


def export_poisons(run: Path, out: Path, kind: str) -> int:
    """Write every poison set of an experiment for others to read.

    Args:
        run: The experiment's folder.
        out: Folder to write: ``000/*.pickle`` and so on (``pickle``), or ``000.npz`` (``npz``).

    Returns:
        How many.
    """
    paths = sorted((run / "poisons").glob("setup_*.safetensors"))
    if not paths:
        raise InputError(f"{run} holds no poisons: run craft first (--run)")
    if kind not in ("pickle", "npz"):
        raise InputError(f"format is {kind!r}: it is pickle or npz (--format)")
    make_folder(out, "--out")
    for path in paths:
        poisons = load_poisons(path)
        value, name = to_benchmark(poisons), _NAME.format(poisons.setup.index)
        if kind == "npz":
            write_npz(out / f"{name}.npz", value)
        else:
            make_folder(out / name, "--out")
            write_benchmark(out / name, value)
    return len(paths)


def import_poisons(
    folder: Path, setup: Setup, train_images: Tensor, test_images: Tensor, budget: Budget, goal: str
) -> PoisonSet:
    """Read one setup's poisons from what :func:`export_poisons`, or the benchmark's own attackers, wrote.

    Raises:
        InputError: If they are missing, hostile or not this setup's, or aim at something else than ``goal``.
    """
    name = _NAME.format(setup.index)
    for candidate in (folder / name, folder / str(setup.index)):
        if candidate.is_dir():
            found, source = read_benchmark(candidate, "--poisons_from"), str(candidate)
            break
    else:
        path = folder / f"{name}.npz"
        if not path.exists():
            raise InputError(f"{folder} holds neither {name}/ nor {name}.npz for setup {setup.index} (--poisons_from)")
        found, source = read_npz(path, "--poisons_from"), str(path)
    return from_benchmark(found, setup, train_images, test_images, budget, goal, source)
