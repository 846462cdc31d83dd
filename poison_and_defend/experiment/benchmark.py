"""Several attacks on the same data, victims and setups: one experiment each, and one table for all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
    plans = [plan_experiment(_on_data_of(entry.experiment, entries[0].experiment)) for entry in entries]
    ranks = launch.start()
    finished = []
    for number, (plan, entry) in enumerate(zip(plans, entries, strict=True)):
        announce(f"attack {number + 1} of {len(entries)}: {plan.attack.name}", ranks)
        finished.append(run(plan, launch, entry.config))
    if ranks.rank == 0:
        announce(f"overview: {write_overview(folder, finished)}", ranks)
    ranks.barrier("compared")
    return folder


def _on_data_of(own: Experiment, first: Experiment) -> Experiment:
    """One data set for all: read once, and what was read from it stays comparable."""
    return replace(
        own,
        setups=replace(own.setups, data=first.setups.data),
        surrogates=replace(own.surrogates, pretraining=first.surrogates.pretraining),
    )
