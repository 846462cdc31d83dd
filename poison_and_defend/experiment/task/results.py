"""What an experiment found, one result a victim."""

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.ensemble_scores import Score
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.defenses.training.base import is_plain
from poison_and_defend.experiment.task.arms import unproved
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.experiment.task.recipes import facts_of, run_of
from poison_and_defend.reports.arm_names import arm_color, arm_label
from poison_and_defend.reports.provenance import revision
from poison_and_defend.reports.records import Result


def make_results(
    plan: ExperimentPlan,
    victim: str,
    arm: Arm,
    poison_sets: list[PoisonSet],
    scores: list[Score],
    dropped: list[dict[str, float | None]],
    seconds: float,
) -> list[Result]:
    """One per setup, of one arm and victim architecture.

    Args:
        scores: One a setup.
        dropped: What the arm's filters dropped, in the order of ``scores``: the fields of a result; empty without filters.
        seconds: For one victim.
    """
    refused = unproved(arm, plan.data)
    sets = {p.setup.index: p for p in poison_sets}
    name = revision()
    count = len(plan.data.split("train"))
    run = run_of(plan.setups[0], count, plan.victim_recipe, plan.scenario, plan.data.num_classes)
    facts = facts_of(arm, run)
    return [
        Result(
            dataset=plan.data.name,
            scenario=plan.scenario,
            attack=plan.attack.name,
            variant=plan.variant,
            setup=score.setup,
            target_index=sets[score.setup].setup.target_index,
            target_label=sets[score.setup].setup.target_label,
            adversarial_label=sets[score.setup].setup.adversarial_label,
            num_poisons=len(sets[score.setup].images),
            norm=plan.attack.budget.norm,
            eps=plan.attack.budget.eps,
            defense=score.defense,
            sigma=arm.sigma,
            victim=victim,
            knowledge=plan.networks.knowledge(victim),
            goal=sets[score.setup].goal,
            visible_trigger=sets[score.setup].visible_trigger,
            success=score.success,
            predicted=score.predicted,
            successes=score.successes,
            trials=score.trials,
            clean_accuracy=round(score.clean_accuracy, 6),
            source_accuracy=round(score.source_accuracy, 6),
            objective=sets[score.setup].objective,
            surrogates=list(plan.networks.attackers),
            seed=sets[score.setup].setup.seed,
            seconds=round(seconds, 3),
            revision=name,
            label=None if arm.label == arm_label(arm.name) else arm.label,
            color=None if arm.color == arm_color(arm.name) else arm.color,
            models=1 if arm.voting is None else score.models,
            recipe="" if is_plain(arm.training) else arm.training.name,
            told=arm.told(plan.told),
            withstands=None if refused else score.withstands,
            certified={} if refused else dict(score.certified),
            unproved=refused,
            facts=facts,
            **_all_dropped(dropped[place] if dropped else {}, score),
        )
        for place, score in enumerate(scores)
    ]


def _all_dropped(filtered: dict[str, float | None], score: Score) -> dict[str, float | None]:
    """What filters dropped, and of what they left what the recipe dropped while it trained."""
    found = dict(filtered)
    for name in ("poisons_dropped", "clean_dropped"):
        before, after = filtered.get(name), getattr(score, name)
        if after is not None:
            found[name] = round(1 - (1 - (before or 0)) * (1 - after), 6)
    return found
