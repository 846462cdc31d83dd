"""Options of the products: flat on the command line, in groups behind it, and never renamed."""

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.certificate.any_change.task import AnyChangeTask
from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.cli.dispatch import dispatch
from poison_and_defend.cli.options.former import current_options
from poison_and_defend.core.options import from_flat, option_groups
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.experiment.adaptive.task import CheckOptions
from poison_and_defend.experiment.task.options import Experiment

RECORDS = sorted((Path(__file__).resolve().parents[2] / "docs" / "records").rglob("config.yaml"))


# Of commands that make several experiments, each of which keeps the whole configuration.
OF_SEVERAL = ("attackers", "known_steps", *(option.name for option in fields(CheckOptions)))


def options_of(task: type) -> set[str]:
    return {option.name for group in option_groups(task).values() for option in fields(group)}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: str(path.parent.relative_to(path.parents[2])))
def test_every_option_of_a_recorded_configuration_is_still_one(path: Path) -> None:
    written = yaml.safe_load(path.read_text())
    tasks = {"attack": Experiment, "models": CertifyTask, "votes": AnyChangeTask}
    known = options_of(next(task for option, task in tasks.items() if option in written))
    written = set(current_options(written, {*known, "network.build"})) - {"trainer", "config"}
    assert written & set(tasks)
    # Names of presets, which become arms when a configuration is read.
    assert written <= known | {"defenses", *OF_SEVERAL}


class Untouched(DigitsDataModule):
    def load(self, name: Any) -> Any:
        raise AssertionError(f"{name} was read")


@pytest.mark.parametrize("task", [Experiment, CertifyTask, AnyChangeTask])
def test_options_are_frozen_and_touch_no_disk(task: type) -> None:
    given: dict[str, Any] = {"data": Untouched(), "denoiser": "/nowhere", "sigma": "no number", "output_dir": "/proc/none"}
    known = {name: value for name, value in given.items() if name in options_of(task)}
    made = from_flat(task, known | ({"attack": BullseyePolytope("8/255")} if task is Experiment else {}))
    assert made.place.output_dir == "/proc/none"
    with pytest.raises(FrozenInstanceError):
        made.place.seed = 3


@pytest.mark.parametrize(
    ("command", "task"), [("poison-and-defend", Experiment), ("certify", CertifyTask), ("certify-any", AnyChangeTask)]
)
def test_a_configuration_is_flat_and_has_every_option(command, task, capsys) -> None:
    with pytest.raises(SystemExit):
        dispatch([command, "--seed", "4", "--print_config"])
    written = yaml.safe_load(capsys.readouterr().out)
    assert set(written) - {"defenses"} == options_of(task) | {"trainer"} and written["seed"] == 4
