"""What each arm found, kept by itself: adding an arm to an experiment computes that one only."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import write_json
from poison_and_defend.core.reading.files import brief, check_fields, read_json
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.reports.records import Result, parse_results

_WHAT = "no results of an arm; remove it, and it is computed again"


@dataclass(frozen=True, eq=False)
class KeptArms:
    """Results of the arms of one experiment, a file for each arm and architecture."""

    plan: ExperimentPlan

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.plan.folder / "arms"

    def path(self, arm: str, victim: str) -> Path:
        """The file of one arm and architecture."""
        return self.folder / arm / f"{quote(victim, safe='')}.json"

    def save(self, arm: Arm, victim: str, results: list[Result]) -> None:
        """Keep what was found."""
        path = self.path(arm.name, victim)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"settings": self._settings(arm), "results": [result.to_json() for result in results]})

    def read(self, arm: Arm, victim: str) -> list[Result] | None:
        """What was found before; None if nothing was.

        Raises:
            InputError: If it was found with other settings under the same name, or the file is damaged.
        """
        path = self.path(arm.name, victim)
        if not path.exists():
            return None
        kept = check_fields(read_json(path, _WHAT, "--name"), {"settings": dict, "results": list}, path, _WHAT, "--name")
        # As JSON has it, so that a tuple is a list.
        wanted = json.loads(json.dumps(self._settings(arm)))
        if kept["settings"] != wanted:
            raise InputError(
                f"the arm {arm.name} of {self.plan.folder} was computed with other settings "
                f"({_difference(kept['settings'], wanted)}): call this one otherwise, or put it into another folder "
                f"(--arms.{arm.name}_2, --name)"
            )
        return parse_results(kept["results"], path, "--name")

    def others(self, victim: str) -> dict[str, list[Result]]:
        """Results of arms of this architecture that were computed before and are not asked for now, by their names."""
        found = {}
        for path in sorted(self.folder.glob(f"*/{quote(victim, safe='')}.json")):
            if path.parent.name not in self.plan.arms:
                kept = check_fields(read_json(path, _WHAT, "--name"), {"results": list}, path, _WHAT, "--name")
                found[path.parent.name] = parse_results(kept["results"], path, "--name")
        return found

    def _settings(self, arm: Arm) -> dict[str, Any]:
        told = {"told": self.plan.told} if any(step.told_of == "bound" for step in arm.filters) else {}
        return {"arm": arm.settings(), "victim_recipe": self.plan.victim_recipe.settings(arm.training), **told}


def _difference(found: Any, wanted: Any) -> str:
    """The first value that differs, as ``key: was, now``."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *found]:
            if found.get(key) != wanted.get(key):
                inner = _difference(found.get(key), wanted.get(key))
                return inner if ":" in inner else f"{key}: {inner}"
    return f"{brief(found)}, now {brief(wanted)}"
