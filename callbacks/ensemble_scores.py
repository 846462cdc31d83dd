"""Watching an ensemble of victims: which targets are misread, and how accurate each victim is on clean test images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses.voting.base import Voting

_CERTIFIED = (1, 2, 5, 10, 25)
"""Numbers of changed rows of which the share of test images is kept that are provably still read right."""

_BETWEEN = 1000
"""Clean test images, evenly spaced, that victims are asked about before they are trained; a record comes from all of them."""

Triggered = Callable[[int, Tensor, Tensor], Tensor]
"""Number of a member, test inputs ``(n, ...)`` and their rows ``(n,)`` to the same with the trigger of that member's setup."""


@dataclass(frozen=True)
class Score:
    """How one victim did.

    Attributes:
        setup: Number of the setup.
        defense: Name of the arm.
        success: Whether the setup's first target, with the trigger if there is one, is read as the adversarial label.
        predicted: The class that it is read as.
        successes: How many of the trials are read as the adversarial label.
        trials: Targets, or test images with the trigger.
        clean_accuracy: Share of clean test images that are read right, in [0, 1].
        source_accuracy: Share of clean test images of the target's class that are read right, in [0, 1].
        withstands: How many changed rows a vote's answer to the first target provably survives, without the trigger; None if
            nothing is proved.
        certified: Share of clean test images that are read right, provably also after so many changed rows, by their number.
        models: How many models voted; 1 where the victim is one model.
        poisons_dropped: Share of the poisons that the recipe no longer trains on; None where it drops none or there are none.
        clean_dropped: Share of the other rows that the recipe no longer trains on; None where it drops none.
    """

    setup: int
    defense: str
    success: bool
    predicted: int
    successes: int
    trials: int
    clean_accuracy: float
    source_accuracy: float
    withstands: int | None = None
    certified: Mapping[str, float] = field(default_factory=dict)
    models: int = 1
    poisons_dropped: float | None = None
    clean_dropped: float | None = None


@dataclass(frozen=True, eq=False)
class Watch:
    """What the members are tested on, in the order of the ensemble's members.

    Attributes:
        names: Setup and arm of every member.
        poison_sets: Each member's own: what counts as success on which test rows.
        test_inputs: ``(T, ...)`` clean test split, as the members take their inputs.
        triggered_inputs: ``(T, ...)`` test split with a backdoor's trigger, or what puts it on, where triggers are each setup's
            own; None for attacks on targets.
        test_labels: ``(T,)`` int64.
        parts: Number of every member among the models of its victim's vote; empty where members are victims.
        voting: How the members of one name vote; None where each is a victim.
        num_classes: Of the data set; needed by a vote.
        rows: Of a victim's training set; needed by a vote.
        poisoned: ``(n,)`` bool for every member, which of the rows that it trains on are poisons; empty where nobody drops any.
    """

    names: Sequence[tuple[int, str]]
    poison_sets: Sequence[PoisonSet]
    test_inputs: Tensor
    triggered_inputs: Tensor | Triggered | None
    test_labels: Tensor
    parts: Sequence[int] = ()
    voting: Voting | None = None
    num_classes: int = 0
    rows: int = 0
    poisoned: Sequence[Tensor] = ()


@dataclass(frozen=True, eq=False)
class _Answers:
    """What one member says.

    Attributes:
        clean: ``(n,)`` int64, of the clean test images that were asked about; of a vote that ranks, ``(n, C)`` uint8.
        tested: ``(1 + t,)`` int64, of the first target and the t trials of its setup, with the trigger if there is one; of a
            vote that ranks, ``(1 + t, C)`` uint8.
    """

    name: tuple[int, str]
    part: int
    poisons: PoisonSet
    clean: Tensor
    tested: Tensor


class EnsembleScores(Callback):
    """Logs target misclassification and test accuracy of each arm, over all victims of all ranks.

    Args:
        watch: What this rank's members are tested on.
        ranks: Scores are gathered from all of them; every rank must train the same number of epochs.
        times: How often during training, evenly spaced; the last time is after the last epoch. Before it accuracy is of a part
            of the test images; a vote, whose proof needs every answer, is asked after the last epoch alone.
    """

    def __init__(self, watch: Watch, ranks: Ranks, times: int = 5) -> None:
        self.watch, self.ranks, self.times = watch, ranks, times
        self.scores: list[Score] = []
        """All ranks' victims after the last evaluation; a member that pads an idle rank appears once."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate when due, and log what all ranks found."""
        epochs, done = int(trainer.max_epochs or 1), trainer.current_epoch + 1
        every = max(1, epochs // self.times)
        if done != epochs and (done % every or self.watch.voting is not None):
            return
        if self.watch.voting is None:
            gathered = self.ranks.gather(evaluate(pl_module, self.watch, None if done == epochs else _BETWEEN))
            unique = {(score.setup, score.defense): score for scores in gathered for score in scores}
            self.scores = list(unique.values())
        else:
            # The models of one vote may have been trained by several ranks.
            everything = [one for own in self.ranks.gather(_answers(pl_module, self.watch)) for one in own]
            self.scores = _voted({(one.name, one.part): one for one in everything}, self.watch)
        for defense in dict.fromkeys(score.defense for score in self.scores):
            own = [score for score in self.scores if score.defense == defense]
            pl_module.log_dict(
                {
                    f"target_misclassification/{defense}": sum(s.successes / s.trials for s in own) / len(own),
                    f"test_accuracy/{defense}": sum(s.clean_accuracy for s in own) / len(own),
                },
                batch_size=1,
            )


@torch.no_grad()
def evaluate(module: L.LightningModule, watch: Watch, most: int | None = None) -> list[Score]:
    """Score every member of an ensemble.

    Args:
        most: Ask about so many clean test images only, evenly spaced; all by default. Targets and trials are always all asked.
    """
    rows = torch.arange(len(watch.test_labels))
    rows = rows if most is None else rows[:: -(-len(rows) // most)]
    scores = [_score(one, watch, rows) for one in _answers(module, watch, rows)]
    kept: Tensor | None = module.kept_rows() if watch.poisoned else None  # type: ignore[operator]
    if kept is None:
        return scores
    return [_with_dropped(*each) for each in zip(scores, kept, watch.poisoned, strict=True)]


def _with_dropped(score: Score, kept: Tensor, poisoned: Tensor) -> Score:
    """A member's score with the shares of its poisons and of its other rows that are no longer trained on."""
    # Shorter sets are gone through again, with equal rows kept or dropped together.
    gone = ~kept[: len(poisoned)]
    poisons, others = (round(float(gone[part].float().mean()), 6) if part.any() else None for part in (poisoned, ~poisoned))
    return replace(score, poisons_dropped=poisons, clean_dropped=others)


@torch.no_grad()
def _answers(module: L.LightningModule, watch: Watch, rows: Tensor | None = None) -> list[_Answers]:
    ranks = watch.voting is not None and watch.voting.ranked

    def predict(inputs: Tensor, *change: Triggered) -> Tensor:
        given, own = inputs.to(module.device), {"change": change[0]} if change else {}
        if not ranks:
            predictions: Tensor = module.member_predictions(given, **own).cpu()  # type: ignore[operator]
            return predictions
        logits: Tensor = module.member_logits(given, **own).cpu()  # type: ignore[operator]
        # Stable, so that of equal logits the smaller class ranks higher.
        return logits.argsort(stable=True, dim=-1, descending=True).argsort(-1).to(torch.uint8)

    everything = rows is None or len(rows) == len(watch.test_labels)
    clean = predict(watch.test_inputs if everything else watch.test_inputs[rows])
    # Only where a member's success is counted, and as many for each: the shorter are filled up and cut off again.
    trials = [_tested_rows(poisons, watch.test_labels) for poisons in watch.poison_sets]
    filled = torch.nn.utils.rnn.pad_sequence(trials, batch_first=True)

    def tested_inputs(member: int, part: Tensor, places: Tensor) -> Tensor:
        return _trial_inputs(watch, member, filled[member, places])

    tested = predict(watch.test_inputs[filled[0]], tested_inputs)
    parts = watch.parts or [0] * len(watch.names)
    members = zip(watch.names, parts, watch.poison_sets, clean, tested, trials, strict=True)
    # Clones, since a view would take all its neighbours along when it is sent.
    return [
        _Answers(name, part, poisons, own.clone(), marked[: len(asked)].clone())
        for name, part, poisons, own, marked, asked in members
    ]


def _trial_inputs(watch: Watch, member: int, rows: Tensor) -> Tensor:
    """Test rows ``(n,)`` as a member takes them, with the trigger of its setup if there is one."""
    triggered = watch.triggered_inputs
    if triggered is None:
        return watch.test_inputs[rows]
    return triggered[rows] if isinstance(triggered, Tensor) else triggered(member, watch.test_inputs[rows], rows)


def _tested_rows(poisons: PoisonSet, labels: Tensor) -> Tensor:
    """``(1 + t,)`` int64: the first target and the trials."""
    return torch.cat([torch.tensor([poisons.setup.target_index]), poisons.trials(labels)])


def read_scores(watch: Watch, read: Callable[[int, Tensor], tuple[Tensor, Tensor | None]]) -> list[Score]:
    """Scores of victims that are no ensemble's members: votes that nothing is trained for.

    Args:
        read: Number of a victim and test inputs, as :class:`Watch` has them, to answers and how many changed rows each stands.
    """
    scores, everywhere = [], torch.arange(len(watch.test_labels))
    for number, (name, poisons) in enumerate(zip(watch.names, watch.poison_sets, strict=True)):
        clean, held = read(number, watch.test_inputs)
        inputs = _trial_inputs(watch, number, _tested_rows(poisons, watch.test_labels))
        victim = _Answers(name, 0, poisons, clean, read(number, inputs)[0])
        certified = {} if held is None else _certified(clean == watch.test_labels, held)
        scores.append(_score(victim, watch, everywhere, held, certified))
    return scores


def _voted(answers: Mapping[tuple[tuple[int, str], int], _Answers], watch: Watch) -> list[Score]:
    """Scores of the victims whose models these are."""
    voting, labels = watch.voting, watch.test_labels
    assert voting is not None
    everywhere, scores = torch.arange(len(labels)), []
    for name in dict.fromkeys(name for name, _ in answers):
        own = [answers[key] for key in sorted(answers) if key[0] == name]
        clean, tested = (torch.stack([getattr(one, which) for one in own]) for which in ("clean", "tested"))
        decided = voting.decide(clean, watch.num_classes)
        victim = _Answers(name, 0, own[0].poisons, decided, voting.decide(tested, watch.num_classes))
        held = voting.withstands(clean, watch.num_classes, watch.rows)
        score = _score(victim, watch, everywhere, held, {} if held is None else _certified(decided == labels, held))
        scores.append(replace(score, models=len(own)))
    return scores


def _certified(right: Tensor, held: Tensor) -> dict[str, float]:
    return {str(count): round(float((right & (held >= count)).float().mean()), 6) for count in _CERTIFIED}


def _score(
    answers: _Answers, watch: Watch, rows: Tensor, held: Tensor | None = None, certified: Mapping[str, float] | None = None
) -> Score:
    """One victim's, whose clean answers are of the test rows ``rows``."""
    labels, setup, clean = watch.test_labels[rows], answers.poisons.setup, answers.clean
    target, trials, source = int(answers.tested[0]), answers.tested[1:], labels == setup.target_label
    classes = max(2, int(max(watch.test_labels.max(), clean.max())) + 1)
    accuracy = multiclass_accuracy(clean[None], labels[None], classes, average="micro", multidim_average="samplewise")
    return Score(
        setup=answers.name[0],
        defense=answers.name[1],
        success=target == setup.adversarial_label,
        predicted=target,
        successes=int((trials == setup.adversarial_label).sum()),
        trials=len(trials),
        clean_accuracy=float(accuracy[0]),
        source_accuracy=float((clean[source] == setup.target_label).float().mean()),
        withstands=None if held is None else int(held[setup.target_index]),
        certified=certified or {},
    )
