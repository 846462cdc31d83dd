"""What one cell of a map says, and up to which budget a noise holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from poison_and_defend.core.reading.files import check_fields, guarded
from poison_and_defend.reports.records import NO_ATTACK, read_results
from poison_and_defend.reports.summary import summarize

NO_DEFENCE = "none"
"""The arm in which nothing is done, which stands at sigma 0 of a map."""

MARGIN = 0.1
"""How far above what is misread without an attack success may lie where a noise is said to hold, as a share of the setups."""

_WHAT = "no map of attack success"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Success of one attacker at one noise, budget and number of poisons.

    Attributes:
        attacker: What he knows of the defence, as ``--knowledge`` takes it; ``no_attack`` for the control.
        eps: Budget over pixels in [0, 1].
        num_poisons: In each setup.
        victim: Architecture that was trained.
        sigma: Noise of the defence over pixels in [0, 1]; 0 for none at all.
        n: Setups.
        success_rate: Mean of the setups' own rates, in [0, 1].
        ci_low: Lower end of its 95 % interval.
        ci_high: Its upper end.
        successes: Of all setups together.
        trials: Of all setups together.
        clean_accuracy: Mean over setups, in [0, 1].
    """

    attacker: str
    eps: float
    num_poisons: int
    victim: str
    sigma: float
    n: int
    success_rate: float
    ci_low: float
    ci_high: float
    successes: int
    trials: int
    clean_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What holds for all cells of a map, and has to be said with it.

    Attributes:
        dataset: What victims were trained on.
        attack: Its name.
        steps: Of the attack.
        draws: Of the noise, that an attacker who knows of it averages over in each step; None where none does.
        defense: The countermeasure whose sigma varies.
        denoiser: Name of its denoiser.
        scenario: How victims are trained.
        surrogates: The attacker's networks.
    """

    dataset: str
    attack: str
    steps: int
    draws: int | None
    defense: str
    denoiser: str
    scenario: str
    surrogates: list[str]


@dataclass(frozen=True)
class Map:
    """All cells, and what they hold under."""

    conditions: Conditions
    cells: tuple[Cell, ...]

    def to_json(self) -> dict[str, Any]:
        """What ``border.json`` holds."""
        return {"conditions": asdict(self.conditions), "cells": [asdict(cell) for cell in self.cells]}

    @classmethod
    def from_json(cls, value: Any, name: str | Path, option: str) -> Self:
        """Of what :meth:`to_json` gave.

        Args:
            value: Parsed.
            name: The file's, for a sentence about it.
            option: What to change if it is none.

        Raises:
            InputError: If it is something else.
        """
        check_fields(value, {"conditions": dict, "cells": list}, name, _WHAT, option)
        with guarded(name, _WHAT, option):
            return cls(Conditions(**value["conditions"]), tuple(Cell(**cell) for cell in value["cells"]))

    def of(self, attacker: str, num_poisons: int, victim: str) -> dict[tuple[float, float], Cell]:
        """One attacker's cells by sigma and eps; without a defence, those of one who ignores it."""
        own = [cell for cell in self.cells if (cell.num_poisons, cell.victim) == (num_poisons, victim)]
        found = {(cell.sigma, cell.eps): cell for cell in own if cell.attacker == "oblivious" and cell.sigma == 0}
        return found | {(cell.sigma, cell.eps): cell for cell in own if cell.attacker == attacker}

    def chance(self, num_poisons: int, victim: str) -> float:
        """Share of targets that are misread without an attack."""
        own = [c for c in self.cells if (c.attacker, c.num_poisons, c.victim) == (NO_ATTACK, num_poisons, victim)]
        return sum(cell.success_rate for cell in own) / len(own) if own else 0.0

    def holds_up_to(self, attacker: str, sigma: float, num_poisons: int, victim: str) -> float | None:
        """The largest budget that a noise was measured to hold against, as against all smaller ones; None if there is none.

        It holds where success is at most :data:`MARGIN` above what is misread without an attack.
        """
        cells, best = self.of(attacker, num_poisons, victim), None
        bound = self.chance(num_poisons, victim) + MARGIN + 1e-9
        for (own, eps), cell in sorted(cells.items()):
            if own != sigma:
                continue
            if cell.success_rate > bound:
                break
            best = eps
        return best


def cells_of(folder: Path, attacker: str) -> list[Cell]:
    """Cells of a finished experiment: an arm each.

    Raises:
        InputError: If the folder holds no results.
    """
    results = read_results(folder / "results.jsonl", "--output_dir")
    return [
        Cell(
            attacker=NO_ATTACK if row.defense == NO_ATTACK else attacker,
            victim=row.victim,
            sigma=row.sigma,
            eps=results[0].eps,
            num_poisons=results[0].num_poisons,
            **{name: getattr(row, name) for name in _TAKEN},
        )
        for row in summarize(results)
    ]


_TAKEN = ("n", "success_rate", "ci_low", "ci_high", "successes", "trials", "clean_accuracy")


def axes_of(cells: Sequence[Cell]) -> Mapping[str, list[Any]]:
    """The values that cells have, sorted: ``sigma``, ``eps``, ``num_poisons``; ``attacker`` and ``victim`` as they come."""
    attacked = [cell for cell in cells if cell.attacker != NO_ATTACK]
    found: dict[str, list[Any]] = {name: sorted({getattr(c, name) for c in attacked}) for name in ("sigma", "eps")}
    found["num_poisons"] = sorted({cell.num_poisons for cell in attacked}, reverse=True)
    return found | {name: list(dict.fromkeys(getattr(cell, name) for cell in attacked)) for name in ("attacker", "victim")}
