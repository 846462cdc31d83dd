"""Several attacks on the same data, victims and setups: one experiment each, and one table for all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from poison_and_defend.core.files import make_folder
from poison_and_defend.core.progress import announce
from poison_and_defend.experiment.run import run
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import plan_experiment
from poison_and_defend.reports.experiment.write import write_overview
from poison_and_defend.training.launch import Launch


@dataclass(frozen=True, eq=False)
class Entry:
    """One attack of a comparison: its experiment and the resolved configuration as YAML."""

    experiment: Experiment
    config: str


def run_all(entries: Sequence[Entry], launch: Launch, folder: Path) -> Path:
    """Run every experiment, or what is missing of it, then write the table, picture and page over all.

    Raises:
        InputError: If one of them cannot work; before any of them starts.
    """
    make_folder(folder, "--output_dir")
    plans = [plan_experiment(on_data_of(entry, entries[0])) for entry in entries]
    ranks = launch.start()
    finished = []
    for number, (plan, entry) in enumerate(zip(plans, entries, strict=True)):
        announce(f"attack {number + 1} of {len(entries)}: {plan.attack.name}", ranks)
        finished.append(run(plan, launch, entry.config))
    if ranks.rank == 0:
        announce(f"overview: {write_overview(folder, finished)}", ranks)
    ranks.barrier("compared")
    return folder


def on_data_of(own: Entry, first: Entry) -> Experiment:
    """One data set for all: read once, and what was read from it stays comparable.

    An attack may bring public data of its own, which are then neither given to others nor taken away.
    """
    found, shared = own.experiment, first.experiment
    alike = _pretraining(own) == _pretraining(first)
    return replace(
        found,
        setups=replace(found.setups, data=shared.setups.data),
        surrogates=replace(found.surrogates, pretraining=shared.surrogates.pretraining) if alike else found.surrogates,
    )


def _pretraining(entry: Entry) -> Any:
    """What the configuration says of it."""
    said = yaml.safe_load(entry.config)
    return said.get("pretraining") if isinstance(said, dict) else None
