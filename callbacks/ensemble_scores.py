"""Watching an ensemble of victims: which targets are misread, and how accurate each member is on clean test images."""

from collections.abc import Sequence
from dataclasses import dataclass

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.processes.ranks import Ranks


@dataclass(frozen=True)
class Score:
    """How one victim did.

    Attributes:
        setup: Number of the setup.
        defense: What its training set went through.
        success: Whether the setup's first target, with the trigger if there is one, is read as the adversarial label.
        predicted: The class that it is read as.
        successes: How many of the trials are read as the adversarial label.
        trials: Targets, or test images with the trigger.
        clean_accuracy: Share of clean test images that are read right, in [0, 1].
        source_accuracy: Share of clean test images of the target's class that are read right, in [0, 1].
    """

    setup: int
    defense: str
    success: bool
    predicted: int
    successes: int
    trials: int
    clean_accuracy: float
    source_accuracy: float


@dataclass(frozen=True, eq=False)
class Watch:
    """What the members are tested on, in the order of the ensemble's members.

    Attributes:
        names: Setup and defence of every member.
        poison_sets: Each member's own: what counts as success on which test rows.
        test_inputs: ``(T, ...)`` clean test split, as the members take their inputs.
        triggered_inputs: ``(T, ...)`` test split with a backdoor's trigger; None for attacks on targets.
        test_labels: ``(T,)`` int64.
    """

    names: Sequence[tuple[int, str]]
    poison_sets: Sequence[PoisonSet]
    test_inputs: Tensor
    triggered_inputs: Tensor | None
    test_labels: Tensor


class EnsembleScores(Callback):
    """Logs target misclassification and test accuracy per defence, over all members of all ranks.

    Args:
        watch: What this rank's members are tested on.
        ranks: Scores are gathered from all of them; every rank must train the same number of epochs.
        times: How often during training, evenly spaced; the last time is after the last epoch.
    """

    def __init__(self, watch: Watch, ranks: Ranks, times: int = 5) -> None:
        self.watch, self.ranks, self.times = watch, ranks, times
        self.scores: list[Score] = []
        """All ranks' members after the last evaluation; a member that pads an idle rank appears once."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate when due, and log what all ranks found."""
        epochs, done = int(trainer.max_epochs or 1), trainer.current_epoch + 1
        every = max(1, epochs // self.times)
        if done % every and done != epochs:
            return
        gathered = self.ranks.gather(evaluate(pl_module, self.watch))
        unique = {(score.setup, score.defense): score for scores in gathered for score in scores}
        self.scores = list(unique.values())
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
def evaluate(module: L.LightningModule, watch: Watch) -> list[Score]:
    """Score every member of an ensemble, or a single classifier as an ensemble of one."""
    labels = watch.test_labels

    def predict(inputs: Tensor) -> Tensor:
        predictions: Tensor = module.member_predictions(inputs.to(module.device)).cpu()  # type: ignore[operator]
        return predictions

    clean = predict(watch.test_inputs)
    tested = clean if watch.triggered_inputs is None else predict(watch.triggered_inputs)
    classes = max(2, int(max(labels.max(), clean.max())) + 1)
    accuracy = multiclass_accuracy(clean, labels.expand_as(clean), classes, average="micro", multidim_average="samplewise")
    scores = []
    for member, ((number, defense), poisons) in enumerate(zip(watch.names, watch.poison_sets, strict=True)):
        setup, rows = poisons.setup, poisons.trials(labels)
        source, target = labels == setup.target_label, int(tested[member, setup.target_index])
        scores.append(
            Score(
                setup=number,
                defense=defense,
                success=target == setup.adversarial_label,
                predicted=target,
                successes=int((tested[member, rows] == setup.adversarial_label).sum()),
                trials=len(rows),
                clean_accuracy=float(accuracy[member]),
                source_accuracy=float((clean[member, source] == setup.target_label).float().mean()),
            )
        )
    return scores
