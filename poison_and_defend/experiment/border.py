"""Success over noise, budget and poisons: one experiment for each case, and one map for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.core.progress import announce
from poison_and_defend.diffusion.noise_level import parse_sigma, refuse_ruinous
from poison_and_defend.experiment.benchmark import Entry, on_data_of
from poison_and_defend.experiment.run import run
from poison_and_defend.experiment.task.knowledge import check_attackers
from poison_and_defend.experiment.task.plan import ExperimentPlan, plan_experiment
from poison_and_defend.reports.border.cells import Cell, Conditions, cells_of
from poison_and_defend.reports.border.write import write_border
from poison_and_defend.training.launch import Launch


@dataclass(frozen=True)
class Case:
    """One experiment of a map.

    Attributes:
        knowledge: What the attacker knows of the defence.
        budget: eps as it was written, such as ``8/255``.
        count: Poisons a setup.
        sigmas: Of its arms: all for an attacker who ignores them, else the one that poisons are made against.
    """

    knowledge: str
    budget: str
    count: int
    sigmas: tuple[float, ...]

    @property
    def folder(self) -> str:
        """Under the map's folder."""
        budget = self.budget.replace("/", "of")
        known = "" if self.knowledge == "oblivious" else f"_sigma_{self.sigmas[0]:g}"
        return f"{self.knowledge}_{budget}_{self.count}{known}"


@dataclass(frozen=True)
class Grid:
    """What a map is over, in the order that its cells are computed in."""

    cases: tuple[Case, ...]

    @classmethod
    def of(cls, sigmas: Sequence[Any], budgets: Sequence[Any], counts: Sequence[Any], attackers: Sequence[Any]) -> Self:
        """Those who ignore the defence come first: their poisons serve all sigmas.

        Raises:
            InputError: If a value is none of its kind, or is there twice.
        """
        noise = [parse_sigma(sigma, "--sigmas") for sigma in sigmas]
        for sigma in noise:
            refuse_ruinous(sigma, "--sigmas")
        if min(noise) <= 0:
            raise InputError(f"sigmas are {_shown(sigmas)}: each is above 0, and the undefended run is there anyway (--sigmas)")
        for count in counts:
            if type(count) is not int:
                raise InputError(f"counts are {_shown(counts)}: each is a whole number of poisons (--counts)")
            at_least("counts", count, 1, "--counts")
        check_attackers(attackers)
        for name, values in (("sigmas", noise), ("budgets", budgets), ("counts", counts)):
            if len(set(map(str, values))) < len(values):
                raise InputError(f"{name} are {_shown(values)}: name each once (--{name})")
        written = [str(budget) for budget in budgets]
        cases = [Case("oblivious", eps, k, tuple(noise)) for k in counts for eps in written if "oblivious" in attackers]
        for knowledge in attackers:
            if knowledge != "oblivious":
                cases += [Case(knowledge, eps, k, (sigma,)) for sigma in noise for k in counts for eps in written]
        return cls(tuple(cases))


@dataclass(frozen=True, eq=False)
class Border:
    """A map that is to be drawn.

    Attributes:
        entries: Each case and its experiment.
        defense: The countermeasure whose sigma varies, as readers know it.
    """

    entries: tuple[tuple[Case, Entry], ...]
    defense: str


def run_border(border: Border, launch: Launch, folder: Path) -> Path:
    """Run every experiment, or what is missing of it; the map is written anew after each.

    Raises:
        InputError: If one of them cannot work; before any of them starts.
    """
    make_folder(folder, "--output_dir")
    first = border.entries[0][1]
    plans = [plan_experiment(on_data_of(entry, first)) for _, entry in border.entries]
    ranks = launch.start()
    announce(_amount(plans), ranks)
    cells: list[Cell] = []
    for number, (plan, (case, entry)) in enumerate(zip(plans, border.entries, strict=True)):
        about = f"{case.knowledge}, eps {case.budget}, {case.count} poisons"
        about += f", sigma {case.sigmas[0]:g}" if len(case.sigmas) == 1 else ""
        announce(f"cell {number + 1} of {len(plans)}: {about}", ranks)
        finished = run(plan, launch, entry.config)
        if ranks.rank == 0:
            cells += cells_of(finished, case.knowledge)
            write_border(folder, cells, _conditions(border, plan))
        ranks.barrier("mapped")
    announce(f"map: {folder / 'report.html'}", ranks)
    return folder


def _amount(plans: Sequence[ExperimentPlan]) -> str:
    """How much is to be done, before any of it."""
    passes, through = 0, 0
    for plan in plans:
        seen = len(plan.setups) * len(plan.setups[0].base_indices) * plan.attack.total_steps
        passes += seen * (1 if plan.known is None else plan.known.draws)
        through += 0 if plan.known is None else seen * plan.known.draws
    return (
        f"{len(plans)} experiments of {len(plans[0].setups)} setups: about {passes:,} passes of an image through surrogates, "
        f"{through:,} of them through the defence as well"
    )


def _conditions(border: Border, plan: ExperimentPlan) -> Conditions:
    return Conditions(
        dataset=plan.data.name,
        attack=plan.attack.name,
        steps=plan.attack.steps,
        draws=plan.known.draws if plan.known is not None else None,
        defense=border.defense,
        denoiser=str(border.entries[0][1].experiment.comparison.denoiser),
        scenario=plan.scenario,
        surrogates=list(plan.networks.attackers),
    )


def _shown(values: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, values))}]"
