"""Weights & Biases: one run per stage, one group per experiment, offline unless the user is logged in."""

import logging
import os
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer import Trainer
from PIL.Image import Image

from poison_and_defend.callbacks.wandb_mode import wanted_mode
from poison_and_defend.core.files import write_bytes


def online() -> bool:
    """Whether runs can be sent: the user logged in and did not say otherwise. Nothing is asked."""
    if wanted_mode() not in ("online", "shared"):
        return False
    import wandb

    try:
        return bool(wandb.login(prompt=False))
    # A key that the server refuses, or no way to reach it: the run is kept on disk and can be synced later.
    except (wandb.errors.Error, OSError):
        return False


class QuietWandbLogger(WandbLogger):
    """Lightning's `WandbLogger`, online when the user is logged in and otherwise offline, without a question.

    ``WANDB_MODE`` decides otherwise: with ``disabled`` nothing is written at all.

    Args:
        project: W&B project.
        group: Ties the stages of one experiment together.
        job_type: ``craft``, ``sanitize``, ``train`` or ``test``.
        save_dir: Where ``wandb/`` is written.
        name: Name of the run.
    """

    def __init__(
        self,
        project: str = "poison-and-defend",
        group: str | None = None,
        job_type: str = "train",
        save_dir: str = ".",
        name: str | None = None,
    ) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        logging.getLogger("wandb").setLevel(logging.ERROR)
        wanted = wanted_mode()
        mode = wanted if wanted == "disabled" or online() else "offline"
        super().__init__(project=project, name=name, group=group, job_type=job_type, save_dir=save_dir, mode=mode)
        # Lightning passes it on even where nobody asked, and W&B warns of it in every run.
        self._wandb_init.pop("anonymous", None)


def make_logger(
    project: str | None, group: str, job_type: str, folder: Path, config: dict[str, Any]
) -> QuietWandbLogger | None:
    """A run for one stage of an experiment with the full resolved configuration; None without a project, or if W&B is disabled.

    Create it on rank 0 only.
    """
    if project is None or wanted_mode() == "disabled":
        return None
    logger = QuietWandbLogger(project, group, job_type, str(folder), f"{group}-{job_type}")
    logger.experiment.config.update(config, allow_val_change=True)
    return logger


def log_images(logger: WandbLogger | None, key: str, images: list[Image], captions: list[str]) -> None:
    """Log pictures, if there is a logger."""
    if logger is not None:
        logger.log_image(key, images, caption=captions)


def finish(logger: WandbLogger | None) -> None:
    """End the run, so that the next stage starts its own."""
    if logger is not None:
        logger.experiment.finish()


class SaveFullConfig(SaveConfigCallback):
    """Keeps the resolved configuration in each logger's own folder of the run, and in W&B's record of it.

    Lightning's callback writes ``config.yaml`` where the command was given or once for all runs, and then refuses the next;
    W&B gets only flat hyper-parameters. Runs on rank 0 alone, so it must not touch anything collective such as
    ``trainer.log_dir``. A run without a logger keeps nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See Lightning's `SaveConfigCallback`."""
        text = self.parser.dump(self.config, skip_none=False)
        for logger in trainer.loggers:
            folder = logger.log_dir
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(yaml.safe_load(text), allow_val_change=True)
                # One that is disabled names a folder, but writes nothing.
                folder = None if logger.experiment.disabled else logger.experiment.dir
            if folder is not None:
                Path(folder).mkdir(parents=True, exist_ok=True)
                write_bytes(Path(folder) / "config.yaml", text.encode())
