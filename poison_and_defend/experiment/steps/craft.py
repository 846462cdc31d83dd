"""Crafting or importing the poisons of every setup: in fixed batches, shared among ranks, kept one file a setup."""

import time
from pathlib import Path

from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.core.reading.files import brief
from poison_and_defend.experiment.steps.retrain import retrainer
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.poisons.files import load_poisons, load_record, poison_path, save_poisons
from poison_and_defend.training.local_trainer import Threads


def keep_imported(experiment: Experiment, found: list[PoisonSet], ranks: Ranks) -> list[PoisonSet]:
    """Poisons made elsewhere instead of crafted ones: kept in the experiment's folder as our own."""
    if ranks.rank == 0:
        folder = experiment.folder / "poisons"
        folder.mkdir(parents=True, exist_ok=True)
        for poisons in found:
            save_poisons(poisons, folder, {"dataset": experiment.data.name, "crafted_with": experiment.crafted_with})
    ranks.barrier("poisons imported")
    return found


def craft_poisons(experiment: Experiment, surrogates: list[Surrogate], ranks: Ranks) -> list[PoisonSet]:
    """Craft what is missing and read everything back, validated, on every rank.

    Setups are grouped by number, not by rank, so that each batch's arithmetic is the same for any number of ranks.

    Raises:
        InputError: If poisons are there that another experiment made.
    """
    folder = experiment.folder / "poisons"
    setups, size = experiment.chosen_setups, experiment.setups_per_batch
    train, test = experiment.data.split("train"), experiment.data.split("test")
    batches = [setups[i : i + size] for i in range(0, len(setups), size)]
    pending = [b for b in batches if not all(poison_path(folder, s.index).with_suffix(".json").exists() for s in b)]
    # Before hours are spent on the rest.
    for batch in batches:
        for setup in batch if batch not in pending else ():
            _refuse_others(experiment, poison_path(folder, setup.index))
    ranks.barrier("missing poisons counted")
    folder.mkdir(parents=True, exist_ok=True)
    own = [pending[number] for number in ranks.share(len(pending))]
    steps = 0
    total = len(own) * experiment.attack.total_steps
    text = f"craft {experiment.attack.name}, {sum(map(len, own))} setups"
    with StoreProgress(text, enabled=ranks.rank == 0) as bar, Threads(experiment.threads):
        first: list[float] = []

        def progress(objective: Tensor) -> None:
            nonlocal steps
            steps += 1
            if not first:
                first.extend(objective.tolist())
            bar(steps, total, f"steps, objective {objective.mean():.3f}")

        for batch in own:
            started = time.perf_counter()
            first.clear()
            crafted = experiment.attack.craft(
                batch,
                train.images,
                train.labels,
                test.images,
                surrogates,
                device=ranks.device,
                progress=progress,
                retrain=retrainer(experiment, ranks),
            )
            seconds = (time.perf_counter() - started) / len(batch)
            starts: list[float | None] = [*first] or [None] * len(crafted)
            for poisons, start in zip(crafted, starts, strict=True):
                extra = {
                    "dataset": experiment.data.name,
                    "crafted_with": experiment.crafted_with,
                    "seconds": round(seconds, 3),
                    "objective_start": start,
                }
                save_poisons(poisons, folder, extra)
    ranks.barrier("poisons crafted")
    for setup in setups:
        _refuse_others(experiment, poison_path(folder, setup.index))
    loaded = [load_poisons(poison_path(folder, setup.index)) for setup in setups]
    for setup, poisons in zip(setups, loaded, strict=True):
        # An attack that selects its bases has its own choice of them, of the same class.
        found = poisons.setup.seed, poisons.setup.target_indices, poisons.setup.adversarial_label
        if found != (setup.seed, setup.target_indices, setup.adversarial_label):
            raise InputError(f"{poison_path(folder, setup.index)} belongs to another setup: remove it (--name)")
        poisons.check_against(train.images, train.labels, test.labels)
    return loaded


def _refuse_others(experiment: Experiment, path: Path) -> None:
    """Refuse poisons that say that something else made them, or do not say what did."""
    found = load_record(path).get("crafted_with")
    if found != experiment.crafted_with:
        raise InputError(
            f"{path} was crafted with other settings or data ({brief(found or 'unknown')}, not {experiment.crafted_with}): "
            "choose another folder, or remove this one (--name)"
        )
