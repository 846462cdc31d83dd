"""The experiments that checks are made of: the one that was asked for with one thing changed, by names."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from poison_and_defend.attacks import Attack
from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Chain, Defense, NoiseOnly
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.defenses.rewriters.in_order import in_order
from poison_and_defend.experiment.adaptive.hole import Hole
from poison_and_defend.experiment.adaptive.random_noise import RandomNoise
from poison_and_defend.experiment.adaptive.task import CheckOptions
from poison_and_defend.experiment.run import Until
from poison_and_defend.experiment.task.knowledge import known_arm
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import ExperimentPlan, plan_experiment

BASE = "adaptive"
"""The attack that is checked, as it was asked for."""

UNBOUNDED = "unbounded"
"""The experiment of check 2."""

HOLE, NOTHING = "hole", "nothing"
"""Arms that some runs have: a defence with a hole, and one that does nothing."""


@dataclass(frozen=True, eq=False)
class Run:
    """One experiment.

    Attributes:
        plan: What it does.
        until: ``craft`` where victims say nothing.
    """

    plan: ExperimentPlan
    until: Until = "report"


@dataclass(frozen=True)
class Step:
    """A point of a curve beside the attack as it was asked for.

    Attributes:
        curve: The option, as readers see it.
        value: Of the option.
        run: Name of the experiment.
    """

    curve: str
    value: float
    run: str


@dataclass(frozen=True, eq=False)
class Runs:
    """All experiments of the checks that were asked for.

    Attributes:
        by_name: In the order in which they run.
        known: Name of the arm that the attacker knows.
        undefended: Name of the arm of the poisons as they are.
        no_attack: Name of the arm without poisons.
        base_values: Of the attack as it was asked for, by curve.
        steps: The points of curves.
        left_out: Points that cannot be, with the reason.
    """

    by_name: Mapping[str, Run]
    known: str
    undefended: str
    no_attack: str
    base_values: Mapping[str, float]
    steps: Sequence[Step]
    left_out: Sequence[str]

    @property
    def base(self) -> ExperimentPlan:
        """The attack as it was asked for."""
        return self.by_name[BASE].plan


def plan_runs(experiment: Experiment, options: CheckOptions) -> Runs:
    """Plan every experiment that these checks need; all of them keep their folders below one, and share networks and stores.

    Raises:
        InputError: If the attacker is to know nothing, the checks have no name, or an experiment cannot work.
    """
    if experiment.threat.knowledge == "oblivious":
        raise InputError(
            "knowledge is oblivious, and the checks are of an attacker who knows the defence: say what he knows "
            "(--knowledge defense)"
        )
    if not experiment.threat.known_held_out and {3, 4, 7} & set(options.checks):
        raise InputError(
            "known_held_out is 0, and checks 3, 4 and 7 are of the objective on draws that no step sees (--known_held_out 64)"
        )
    if experiment.place.name is None:
        raise InputError("name the checks: their folder holds one experiment for each thing that is changed (--name)")
    asked = plan_experiment(experiment)
    known = known_arm(experiment.threat.known_arm, asked.arms).name
    arms = dict(experiment.comparison.arms)
    undefended, no_attack = (_plain_arm(asked.arms, arms, attacked) for attacked in (True, False))
    wanted, planner = set(options.checks), _Planner(experiment, asked, known)
    floors = {name: arms[name] for name in (no_attack, undefended, known)}
    by_name = {BASE: planner.run(BASE, arms=arms)}
    if wanted & {1, 6, 8}:
        by_name["plain"] = planner.run("plain", arms=floors, knowledge="oblivious")
    if 8 in wanted:
        by_name["random_noise"] = planner.run(
            "random_noise", arms=floors, knowledge="oblivious", attack=RandomNoise(experiment.threat.attack)
        )
    if 1 in wanted:
        nothing: dict[str, Defense | None] = {NOTHING: NoiseOnly(sigma=0)}
        by_name["identity"] = planner.run("identity", arms=nothing, knowledge="defense", until="craft")
    if 2 in wanted:
        free = _with_budget(asked, math.inf)
        if options.unbounded_steps is not None:
            free = _with_steps(free, options.unbounded_steps)
        name = UNBOUNDED if free.steps == asked.attack.steps else f"{UNBOUNDED}_{free.steps}"
        by_name[UNBOUNDED] = planner.run(name, attack=free)
    if 6 in wanted:
        rewriter = in_order(asked.arms[known].rewriters)
        assert rewriter is not None
        by_name["hole"] = planner.run("hole", arms={HOLE: Hole(rewriter)}, knowledge="defense")
    steps: list[Step] = []
    left_out: list[str] = []
    for step, build in _curve_steps(planner, asked) if 3 in wanted else []:
        try:
            by_name[step.run] = build()
            steps.append(step)
        except InputError as error:
            left_out.append(f"{step.curve} {step.value:.3g} ({error})")
    return Runs(by_name, known, undefended, no_attack, _base_values(asked, experiment), steps, left_out)


@dataclass(frozen=True, eq=False)
class _Planner:
    """Plans experiments that differ from the one that was asked for."""

    experiment: Experiment
    asked: ExperimentPlan
    known: str

    def run(
        self,
        name: str,
        *,
        arms: Mapping[str, Defense | None] | None = None,
        attack: Attack | None = None,
        knowledge: str | None = None,
        draws: int | None = None,
        num_poisons: int | None = None,
        sigma: float | None = None,
        until: Until = "report",
    ) -> Run:
        """One of them; what is left out is as it was asked for, and of the arms the known one alone."""
        asked = self.experiment
        threat = replace(
            asked.threat,
            attack=attack or asked.threat.attack,
            known_draws=draws or asked.threat.known_draws,
            # Without a name, what is known is the only arm that there is to know.
            known_arm=self.known if arms is None or self.known in arms else None,
        )
        if knowledge is not None:
            other = {"known_arm": None, "known_denoiser": None} if knowledge == "oblivious" else {"known_denoiser": None}
            threat = replace(threat, **{**other, "knowledge": knowledge})  # type: ignore[arg-type]
        setups = asked.setups
        if num_poisons is not None:
            drawn = setups.setups is None
            setups = replace(setups, num_poisons=num_poisons) if drawn else replace(setups, first_poisons=num_poisons)
        own = {self.known: asked.comparison.arms[self.known]} if arms is None else dict(arms)
        if sigma is not None:
            own = {self.known: self._with_sigma(sigma)}
        comparison = replace(asked.comparison, arms=own)
        # W&B would have a run for every step of every experiment.
        place = replace(asked.place, name=f"{asked.place.name}/{name}", wandb_project=None)
        changed = replace(asked, threat=threat, setups=setups, comparison=comparison, place=place)
        return Run(plan_experiment(changed), until)

    def _with_sigma(self, sigma: float) -> Chain:
        """The known arm with other noise."""
        arm = self.asked.arms[self.known]
        if not any("sigma" in step.given for step in arm.steps):
            raise InputError(f"{arm.name} has no sigma to change")
        factor = sigma / arm.sigma
        steps = []
        for step in arm.steps:
            if "sigma" in step.given:
                step = type(step)(**{**step.given, "sigma": getattr(step, "sigma", 0.0) * factor})
            steps.append(step)
        return Chain(steps)


def _plain_arm(planned: Mapping[str, Arm], arms: dict[str, Defense | None], attacked: bool) -> str:
    """Name of the arm that does nothing, with poisons or without; it joins ``arms`` where there is none."""
    for name, arm in planned.items():
        if not arm.steps and arm.attacked == attacked:
            return name
    name = "none" if attacked else "no_attack"
    if name in arms:
        raise InputError(f"the arm {name} is another than its name says: call it otherwise (--arms.{name})")
    arms[name] = Chain(attacked=attacked)
    return name


def _with_budget(asked: ExperimentPlan, eps: float) -> Attack:
    """The same attack with another radius, at most the whole range of pixels."""
    attack = copy.copy(asked.attack)
    norm = attack.budget.norm
    most = 1.0 if norm == "linf" else math.sqrt(math.prod(asked.data.image_shape))
    attack.budget = Budget(norm, min(eps, most))
    return attack


def _with_steps(attack: Attack, steps: int) -> Attack:
    other = copy.copy(attack)
    other.steps = steps
    return other


def _base_values(asked: ExperimentPlan, experiment: Experiment) -> dict[str, float]:
    assert asked.known is not None
    sigma = asked.arms[known_arm(experiment.threat.known_arm, asked.arms).name].sigma
    return {
        "eps": asked.attack.budget.eps,
        "poisons": len(asked.setups[0].base_indices),
        "draws": asked.known.draws,
        "steps": asked.attack.steps,
        "sigma": sigma,
    }


def _curve_steps(planner: _Planner, asked: ExperimentPlan) -> list[tuple[Step, Callable[[], Run]]]:
    """One value below and, where it is cheap, one above what was asked for; of draws and steps less, which costs less."""
    values = _base_values(asked, planner.experiment)
    eps, poisons, draws, steps, sigma = (values[name] for name in ("eps", "poisons", "draws", "steps", "sigma"))
    found: list[tuple[Step, Callable[[], Run]]] = [
        (Step("eps", eps / 2, "eps_half"), lambda: planner.run("eps_half", attack=_with_budget(asked, eps / 2))),
        (Step("eps", 2 * eps, "eps_double"), lambda: planner.run("eps_double", attack=_with_budget(asked, 2 * eps))),
    ]
    if poisons > 1:
        half = int(poisons // 2)
        found.append((Step("poisons", half, "poisons_half"), lambda: planner.run("poisons_half", num_poisons=half)))
    # Without noise there is nothing to draw, and of a known seed there are the draws of the victims.
    if asked.known is not None and asked.known.random:
        other = 1 if draws > 1 else 4
        found.append((Step("draws", other, "draws_other"), lambda: planner.run("draws_other", draws=other)))
    if steps >= 4:
        hurried = _with_steps(asked.attack, int(steps // 4))
        found.append((Step("steps", hurried.steps, "steps_quarter"), lambda: planner.run("steps_quarter", attack=hurried)))
    if sigma > 0:
        found += [
            (Step("sigma", sigma / 2, "sigma_half"), lambda: planner.run("sigma_half", sigma=sigma / 2)),
            (Step("sigma", 2 * sigma, "sigma_double"), lambda: planner.run("sigma_double", sigma=2 * sigma)),
        ]
    return found
