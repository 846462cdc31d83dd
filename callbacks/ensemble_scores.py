"""Watching an ensemble of victims: which targets are misread, and how accurate each member is on clean test images."""

from collections.abc import Sequence
from dataclasses import dataclass

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from ranks import Ranks


@dataclass(frozen=True)
class Score:
    """How one victim did.

    Attributes:
        setup: Number of the setup.
        defense: What its training set went through.
        success: Whether the target is read as the adversarial label.
        predicted: The class that the target is read as.
        clean_accuracy: Share of clean test images that are read right, in [0, 1].
    """

    setup: int
    defense: str
    success: bool
    predicted: int
    clean_accuracy: float


@dataclass(frozen=True, eq=False)
class Watch:
    """What the members are tested on, in the order of the ensemble's members.

    Attributes:
        names: Setup and defence of every member.
        targets: ``(M, ...)`` each member's target, as the members take their inputs.
        adversarial_labels: ``(M,)`` int64.
        test_inputs: ``(T, ...)`` clean test split.
        test_labels: ``(T,)`` int64.
    """

    names: Sequence[tuple[int, str]]
    targets: Tensor
    adversarial_labels: Tensor
    test_inputs: Tensor
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
                    f"target_misclassification/{defense}": sum(s.success for s in own) / len(own),
                    f"test_accuracy/{defense}": sum(s.clean_accuracy for s in own) / len(own),
                },
                batch_size=1,
            )


@torch.no_grad()
def evaluate(module: L.LightningModule, watch: Watch) -> list[Score]:
    """Score every member of an ensemble, or a single classifier as an ensemble of one."""
    predictions: Tensor = module.member_predictions(watch.test_inputs.to(module.device)).cpu()  # type: ignore[operator]
    classes = max(2, int(max(watch.test_labels.max(), predictions.max())) + 1)
    accuracy = multiclass_accuracy(
        predictions, watch.test_labels.expand_as(predictions), classes, average="micro", multidim_average="samplewise"
    )
    # Every member predicts every target; its own is on the diagonal.
    targets = module.member_predictions(watch.targets.to(module.device)).cpu().diagonal()  # type: ignore[operator]
    return [
        Score(setup, defense, bool(found == wanted), int(found), float(share))
        for (setup, defense), found, wanted, share in zip(watch.names, targets, watch.adversarial_labels, accuracy, strict=True)
    ]
