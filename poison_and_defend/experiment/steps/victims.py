"""Training one victim per setup, architecture and arm, as many of them as possible in one ensemble, and scoring them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.ensemble_scores import EnsembleScores, Score, Watch
from poison_and_defend.core.files import digest
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.defenses.training.course import State
from poison_and_defend.defenses.voting.base import Reading, Voting
from poison_and_defend.experiment.steps.feature_space import save_feature_space
from poison_and_defend.experiment.steps.frozen import head_inputs, read_by_vote
from poison_and_defend.experiment.steps.judge import Judgement, judge_all
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.steps.surrogates import extractor
from poison_and_defend.experiment.steps.tested import Tested, triggered_inputs
from poison_and_defend.experiment.steps.training_sets import Member, received_keys, training_sets
from poison_and_defend.experiment.steps.victim_networks import VictimNetworks
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.training.members import Fit, fit_members


@dataclass(frozen=True, eq=False)
class ArmScores:
    """What was found of one arm and architecture.

    Attributes:
        scores: One a setup, in their order.
        judgements: What its filters left, one a setup; empty without filters.
        seconds: Of training and testing, for one victim.
    """

    arm: Arm
    scores: list[Score]
    judgements: list[Judgement]
    seconds: float


def train_victims(
    plan: ExperimentPlan,
    victim: str,
    poison_sets: list[PoisonSet],
    arms: Sequence[Arm],
    sanitized: dict[str, Sanitized],
    ranks: Ranks,
    logger: Logger | None = None,
    keep: Callable[[ArmScores], None] = lambda found: None,
) -> None:
    """Train every victim of one architecture and test it.

    In transfer learning all share a frozen extractor; the features of all rows are computed once, and the members are linear
    heads. In fine-tuning they start from it, and batch normalization keeps its statistics. From scratch they are whole
    networks with initialisations of their own.

    Args:
        arms: Those that are to be computed.
        sanitized: Training images under the rewriters of each.
        keep: Called on every rank with each arm as soon as it is done.
    """
    base = None if plan.scenario == "from_scratch" else extractor(plan, victim, ranks, logger)
    networks = VictimNetworks(plan, victim, base)
    judged = {
        arm.name: judge_all(plan, arm, networks, poison_sets, sanitized[arm.name], ranks) if arm.filters else [] for arm in arms
    }
    for group in _together(arms, judged):
        started = time.perf_counter()
        cohort = Cohort(networks, poison_sets, group, sanitized, judged)
        scores, states = cohort.fit(ranks, logger)
        seconds = (time.perf_counter() - started) / (len(poison_sets) * len(group))
        if victim == plan.victims[0]:
            cohort.show_features(states, ranks)
        for arm in group:
            own = [score for score in scores if score.defense == arm.name]
            keep(ArmScores(arm, own, judged[arm.name], seconds))


def _together(arms: Sequence[Arm], judged: dict[str, list[Judgement]]) -> list[list[Arm]]:
    """Arms that are trained in one fit: those of one recipe and as many draws, on the whole set; every other by itself."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        alone = arm.name if judged[arm.name] or arm.voting is not None else ""
        groups.setdefault(digest([arm.training.settings(), alone, arm.draws]), []).append(arm)
    return list(groups.values())


@dataclass(frozen=True, eq=False)
class Cohort:
    """Victims of one architecture that are trained together: one a setup and arm, or the models of its vote.

    Attributes:
        arms: All with the same training recipe.
        judged: What filters left of each setup's set, by the arm's name.
    """

    networks: VictimNetworks
    poison_sets: list[PoisonSet]
    arms: list[Arm]
    sanitized: dict[str, Sanitized]
    judged: dict[str, list[Judgement]]
    members: list[Member] = field(init=False)

    def __post_init__(self) -> None:
        keys = received_keys(self.plan, self.poison_sets)
        members = [
            member for setup in range(len(self.poison_sets)) for arm in self.arms for member in self._members(arm, setup, keys)
        ]
        object.__setattr__(self, "members", members)

    @property
    def plan(self) -> ExperimentPlan:
        """The experiment's."""
        return self.networks.plan

    def _members(self, arm: Arm, setup: int, keys: list[Tensor]) -> list[Member]:
        """One victim's model, or those of its vote."""
        seed, judged = self.poison_sets[setup].setup.seed, self.judged[arm.name]
        kept = judged[setup].positions if judged else None
        if arm.voting is None or isinstance(arm.voting, Reading):
            return [Member(setup, arm.name, seed, kept)]
        kept = torch.arange(len(keys[setup])) if kept is None else kept
        own = keys[setup][kept]
        parts = arm.voting.parts(own, self.plan.data.split("train").labels[own], self.plan.data.num_classes)
        arm.voting.check_parts(parts, len(kept))
        seeds = arm.voting.seeds(seed, len(parts))
        return [Member(setup, arm.name, seeds[number], kept[rows], number) for number, rows in enumerate(parts)]

    def fit(self, ranks: Ranks, logger: Logger | None) -> tuple[list[Score], dict[int, State]]:
        """Train them with all ranks; every score on every rank, and the states of this rank's members by number."""
        plan, base, training = self.plan, self.networks.base, self.arms[0].training
        sanitized = {arm.name: self.sanitized[arm.name] for arm in self.arms}
        data = training_sets(plan, self.members, self.poison_sets, sanitized)
        clean = plan.data.split("test").images
        between = None
        lengths = [len(part) for arm in sanitized.values() for part in (arm.clean, arm.poisons)]
        if self.networks.shared and base is not None:
            # A recipe that changes images needs them; the extractor then works in every step.
            features = self.networks.kept_features(ranks)
            if not training.changes_images:
                data = head_inputs(plan, features, data, lengths)
            else:
                between = base
            clean = features.of(clean)
        tested = triggered_inputs(plan, self.poison_sets, base if self.networks.shared else None, ranks.device)
        if isinstance(self.voting, Reading):
            watch = self._watch(list(range(len(self.members))), clean, tested)
            return read_by_vote(self.networks, self.voting, self.arms[0].name, self.members, data, watch, ranks), {}
        scores: list[EnsembleScores] = []

        def callbacks(own: list[int]) -> list[EnsembleScores]:
            scores.append(EnsembleScores(self._watch(own, clean, tested), ranks))
            return scores

        states = fit_members(
            self.networks.build,
            [member.seed for member in self.members],
            data,
            plan.victim_recipe,
            ranks,
            Fit(
                per_block=plan.speed.members_per_block,
                threads=plan.speed.threads,
                text=self._text(),
                frozen_statistics=self.networks.fine_tuned,
                defense=training,
                extractor=between,
            ),
            callbacks=callbacks,
            logger=logger,
        )
        order = {p.setup.index: number for number, p in enumerate(self.poison_sets)}
        return sorted(scores[0].scores, key=lambda score: order[score.setup]), states

    @property
    def voting(self) -> Voting | None:
        """That of the one arm that has it."""
        return self.arms[0].voting if len(self.arms) == 1 else None

    def _text(self) -> str:
        """What the progress bar says."""
        setups, count = len(self.poison_sets), len(self.members)
        what = f"{setups} setups, {self.arms[0].name}" if len(self.arms) == 1 else f"{setups} setups x {len(self.arms)} arms"
        kind = "victims" if count == setups * len(self.arms) else "models of votes"
        return f"train {count} {self.networks.victim} {kind} ({what})"

    def show_features(self, states: dict[int, State], ranks: Ranks) -> None:
        """Keep what the report shows of the first setup: features of the extractor, or of the trained victim itself."""
        for number, state in states.items():
            member = self.members[number]
            if member.setup != 0 or member.part is not None:
                continue
            model: Classifier | None = self.networks.base
            if model is None or self.networks.fine_tuned:
                model = self.networks.with_state(state)
            own, kept = self.sanitized[member.arm], member.positions
            save_feature_space(self.plan, model, self.poison_sets[0], member.arm, own, ranks, kept)

    def _watch(self, own: list[int], clean: Tensor, tested: Tested) -> Watch:
        chosen = [self.members[number] for number in own]
        return Watch(
            names=[(self.poison_sets[m.setup].setup.index, m.arm) for m in chosen],
            poison_sets=[self.poison_sets[m.setup] for m in chosen],
            test_inputs=clean,
            triggered_inputs=tested.of([m.setup for m in chosen]),
            test_labels=self.plan.data.split("test").labels,
            parts=[m.part or 0 for m in chosen],
            voting=self.voting,
            num_classes=self.plan.data.num_classes,
            rows=self._rows(chosen[0]),
            poisoned=[self._poisoned(member) for member in chosen] if self.voting is None else [],
        )

    def _rows(self, member: Member) -> int:
        """Of the training set of that member's victim."""
        judged, setup = self.judged[member.arm], self.poison_sets[member.setup].setup
        return len(judged[member.setup].positions if judged else setup.rows(len(self.plan.data.split("train"))))

    def _poisoned(self, member: Member) -> Tensor:
        """``(n,)`` bool: which of the rows that a member trains on are poisons."""
        setup = self.poison_sets[member.setup].setup
        truth = torch.zeros(len(setup.rows(len(self.plan.data.split("train")))), dtype=torch.bool)
        truth[torch.from_numpy(setup.positions)] = self.plan.arms[member.arm].attacked
        return truth if member.positions is None else truth[member.positions]
