"""One progress bar for a whole fit, whatever it trains."""

import lightning as L
from lightning.pytorch.callbacks import Callback

from poison_and_defend.core.progress import StoreProgress


class FitProgress(Callback):
    """Counts epochs and shows the latest training loss.

    Args:
        text: What is being trained.
        enabled: False on every rank but the first.
    """

    def __init__(self, text: str, *, enabled: bool = True) -> None:
        self.bar = StoreProgress(text, enabled=enabled)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar."""
        self.bar.__enter__()
        self.bar(0, int(trainer.max_epochs or 0))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Advance by one epoch."""
        loss = trainer.callback_metrics.get("train/loss")
        note = "epochs" if loss is None else f"epochs, loss {float(loss):.3f}"
        self.bar(trainer.current_epoch + 1, int(trainer.max_epochs or 0), note)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Hide the bar, also after an error."""
        self.bar.__exit__(None, None, None)
