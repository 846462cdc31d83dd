"""Watching one classifier: is the target of the attack misread, and as what."""

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from attacks.poison_set import PoisonSet


class TargetMisclassification(Callback):
    """Logs, next to test accuracy, whether each target is read as its adversarial label.

    Targets come from the datamodule (a `PoisonedDataModule`, however it is wrapped); without any the callback is silent.
    Every rank evaluates all targets, so that the value is the same everywhere without a collective.
    """

    def _log(self, trainer: L.Trainer, module: L.LightningModule, prefix: str) -> None:
        find = getattr(trainer.datamodule, "targets", None)  # type: ignore[attr-defined]
        poison_sets: list[PoisonSet] = find() if find is not None else []
        if not poison_sets or trainer.sanity_checking:
            return
        images = torch.stack([p.target for p in poison_sets]).to(module.device)
        with torch.no_grad():
            predicted = module.member_predictions(images)[0].tolist()  # type: ignore[operator]
        hits = [float(p.setup.adversarial_label == found) for p, found in zip(poison_sets, predicted, strict=True)]
        own = {f"{prefix}/target_misclassification/setup_{p.setup.index}": h for p, h in zip(poison_sets, hits, strict=True)}
        module.log_dict({f"{prefix}/target_misclassification": sum(hits) / len(hits), **own}, rank_zero_only=False)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log under ``val/``."""
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log under ``test/``."""
        self._log(trainer, pl_module, "test")
