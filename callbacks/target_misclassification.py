"""Watching one classifier: how much of what the attack aims at is misread as it wants."""

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from poison_and_defend.attacks.threat.poison_set import PoisonSet


class TargetMisclassification(Callback):
    """Logs, next to test accuracy, the share of targets (backdoors: of triggered test images) read as the adversarial label.

    Poisons come from the datamodule (a `PoisonedDataModule`, however it is wrapped); without any the callback is silent.
    Every rank evaluates all of them, so that the value is the same everywhere without a collective.
    """

    def _log(self, trainer: L.Trainer, module: L.LightningModule, prefix: str) -> None:
        find = getattr(trainer.datamodule, "targets", None)  # type: ignore[attr-defined]
        poison_sets: list[PoisonSet] = find() if find is not None else []
        if not poison_sets or trainer.sanity_checking:
            return
        test = trainer.datamodule.split("test")  # type: ignore[attr-defined]
        hits = []
        for poisons in poison_sets:
            images = poisons.tested_images(test.images, test.labels).split(512)
            with torch.no_grad():
                predicted = torch.cat([module.member_predictions(part.to(module.device))[0] for part in images])  # type: ignore[operator]
            hits.append(float((predicted == poisons.setup.adversarial_label).float().mean()))
        own = {f"{prefix}/target_misclassification/setup_{p.setup.index}": h for p, h in zip(poison_sets, hits, strict=True)}
        module.log_dict({f"{prefix}/target_misclassification": sum(hits) / len(hits), **own}, rank_zero_only=False)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log under ``val/``."""
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log under ``test/``."""
        self._log(trainer, pl_module, "test")
