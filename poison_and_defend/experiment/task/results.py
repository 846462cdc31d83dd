"""What an experiment found, one result a victim."""

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.ensemble_scores import Score
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.reports.provenance import revision
from poison_and_defend.reports.records import Result


def make_results(
    plan: ExperimentPlan, victim: str, poison_sets: list[PoisonSet], scores: list[Score], seconds: float
) -> list[Result]:
    """One per setup and defence, for one victim architecture."""
    sets = {p.setup.index: p for p in poison_sets}
    name = revision()
    return [
        Result(
            dataset=plan.data.name,
            scenario=plan.scenario,
            attack=plan.attack.name,
            setup=score.setup,
            target_index=sets[score.setup].setup.target_index,
            target_label=sets[score.setup].setup.target_label,
            adversarial_label=sets[score.setup].setup.adversarial_label,
            num_poisons=len(sets[score.setup].images),
            norm=plan.attack.budget.norm,
            eps=plan.attack.budget.eps,
            defense=score.defense,
            sigma=plan.arms[score.defense].sigma,  # type: ignore[index]
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
        )
        for score in scores
    ]
