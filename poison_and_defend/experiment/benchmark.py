"""Several attacks on the same data, victims and setups: one experiment each, and one table for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from poison_and_defend.core.files import make_folder
from poison_and_defend.core.progress import announce
from poison_and_defend.experiment.run import run
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import check_experiment
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
    for entry in entries:
        # One data set for all: read once, and what was read from it stays comparable.
        entry.experiment.data, entry.experiment.pretraining = entries[0].experiment.data, entries[0].experiment.pretraining
        check_experiment(entry.experiment)
    ranks = launch.start()
    finished = []
    for number, entry in enumerate(entries):
        announce(f"attack {number + 1} of {len(entries)}: {entry.experiment.attack.name}", ranks)
        finished.append(run(entry.experiment, launch, entry.config))
    if ranks.rank == 0:
        announce(f"overview: {write_overview(folder, finished)}", ranks)
    ranks.barrier("compared")
    return folder
