"""Writing what a model takes images for, one line an image."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import write_bytes
from poison_and_defend.core.processes.ranks import Ranks


class PredictionFile(BasePredictionWriter):
    """Writes a CSV file of ``row,label,predicted``, in the order of rows, each exactly once whatever the number of ranks.

    Args:
        path: The file, written whole or not at all.
    """

    def __init__(self, path: Path) -> None:
        super().__init__("batch")
        self.path = path
        self._rows: list[tuple[int, int, int]] = []

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keep a batch: ``prediction`` is logits ``(B, classes)`` or classes ``(B,)``, ``batch`` images and labels."""
        if not isinstance(prediction, torch.Tensor) or prediction.ndim not in (1, 2) or batch_indices is None:
            raise InputError(f"{type(pl_module).__name__} predicts neither classes nor their scores (--model ClassifierModule)")
        classes = prediction.argmax(1) if prediction.ndim == 2 else prediction
        labels = batch[1].tolist()
        self._rows += zip(batch_indices, labels, classes.tolist(), strict=True)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather the rows of all ranks; the first writes them."""
        ranks = Ranks.of(trainer)
        rows = sorted(row for part in ranks.gather(self._rows) for row in part)
        if ranks.rank == 0:
            with io.StringIO() as text:
                writer = csv.writer(text, lineterminator="\n")
                writer.writerows([("row", "label", "predicted"), *rows])
                write_bytes(self.path, text.getvalue().encode())
        ranks.barrier("predictions written")
