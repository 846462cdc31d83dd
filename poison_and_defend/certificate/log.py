"""A certificate's tables and pictures in W&B."""

import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from poison_and_defend.callbacks.wandb_logging import log_images
from poison_and_defend.reports.certificate.text import setting_label


def log_certificate(logger: WandbLogger | None, folder: Path, result: dict[str, Any]) -> None:
    """Tables and pictures to W&B, if there is a logger."""
    if logger is None:
        return
    rows = [
        [setting_label(r), k, eps, r["table"][i][j], r["table_all_images"][i][j]]
        for r in result["settings"]
        for i, k in enumerate(result["k"])
        for j, eps in enumerate(result["eps"])
    ]
    logger.log_table("certified_accuracy", ["setting", "k", "eps", "each image", "all images"], rows)
    for path in sorted((folder / "figures").glob("*.png")):
        log_images(logger, f"certificate/{path.stem}", [Image.open(io.BytesIO(path.read_bytes()))], [path.stem])
    logger.log_metrics({f"accuracy/{setting_label(r)}": r["accuracy"] for r in result["settings"]})
